"""The sentences of learned and composed prompts."""

from clipreid_kit.data.hands import spoken_aspect
from examples.settings.benchmarks import Hands
from examples.settings.images import Images
from examples.settings.prompt import Template


def templates_of(prompt: Template, data: Images) -> list[str]:
    """The sentences of a recipe, with the aspect of the hand where they have a place for it."""
    if not isinstance(data, Hands):
        return prompt.template
    return [text.replace("{aspect}", spoken_aspect(data.aspect)) for text in prompt.template]
