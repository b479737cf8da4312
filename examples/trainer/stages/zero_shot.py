"""Evaluate the towers as they are."""

from clipreid_kit.clip import ClipTowers
from examples.settings.stages import ZeroShotRecipe
from examples.trainer.session import Session


def build(recipe: ZeroShotRecipe, session: Session, num_identities: int = 0) -> ClipTowers:
    """The towers, which are all that is evaluated."""
    del recipe, num_identities
    return session.towers


def train(recipe: ZeroShotRecipe, session: Session) -> None:
    """Train nothing: the run evaluates the towers before any stage."""
    del recipe, session
