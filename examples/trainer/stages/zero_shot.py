"""Evaluate the towers as they are."""

from examples.settings.stages import ZeroShotRecipe
from examples.trainer.session import Session


def train(recipe: ZeroShotRecipe, session: Session) -> None:
    """Train nothing: the run evaluates the towers before any stage."""
    del recipe, session
