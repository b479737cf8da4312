"""The sections `tokens` and `pairs` of the stage `text_to_person`."""

from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveInt

from examples.settings.section import FractionBelowOne, Needs, PositiveFraction, Section


class Tokens(Section):
    """Parts that look at single patches and words (`text_to_person`)."""

    selection_dim: NonNegativeInt = 0
    """Width of a second embedding, of the most informative patches and words; 0 for none (RDE)."""
    selection_ratio: Annotated[PositiveFraction, Needs("tokens.selection_dim > 0")] = 0.3
    """Share of the patches and words that it looks at."""
    mask_blocks: Annotated[NonNegativeInt, Needs("loss.masked_language")] = 4
    """Transformer blocks behind the attention from words to patches, for masked_language."""
    mask_heads: Annotated[PositiveInt, Needs("loss.masked_language")] = 8
    """Heads of that attention."""


class Pairs(Section):
    """Pairs of image and caption that do not belong together (`text_to_person`)."""

    division: Literal["none", "consensus"] = "none"
    """Weights of the pairs: all equal, or in each epoch those of RDE's consensus division."""
    warmup_epochs: Annotated[NonNegativeInt, Needs("pairs.division: consensus")] = 1
    """Epochs before the first division, with equal weights."""
    noise: FractionBelowOne = 0.0
    """Share of the training images that get the caption of another one, to study noisy pairs."""
