"""The keys of `data` that every source has."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from clipreid_kit.data import ImageRecord
from examples.settings.section import FractionBelowOne, Needs, Section
from examples.settings.text_terms import TRAINS_ON_CAPTIONS

Protocol = Literal[
    "query_gallery",
    "splits",
    "distractors",
    "leave_one_out",
    "single_shot",
    "text_to_person",
    "cross_modality",
    "cross_view",
    "sysu_all",
    "sysu_all_multi",
    "sysu_indoor",
    "sysu_indoor_multi",
    "llcm",
]

_TRAINS = Needs("stage: not zero_shot")
_VARIED = Needs("data.caption_variations > 1")
_BALANCED = Needs("data.balance")


class Images(Section):
    """Source of images, identities and captions."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("query_gallery",)
    """How the source is evaluated if `evaluate.protocols` is empty."""

    validation: Annotated[FractionBelowOne, _TRAINS] = 0.0
    """Fraction of the training identities that is held out to choose the epoch."""
    texts: str | None = None
    """JSON file of captions, relative to the images or to the working directory."""
    texts_key: Annotated[Literal["identity", "variant", "image"], Needs("data.texts")] = "identity"
    """Meaning of the keys of that file."""
    caption: str | None = None
    """One sentence for all images, with fields such as {identity}, {aspect} and {camera}."""
    token_safe: bool = False
    """Shorten long captions at the end of a sentence instead of at the last token that fits."""
    max_tokens: Annotated[int, Field(ge=3), Needs("data.token_safe")] = 77
    """Longest caption in tokens, start and end included; at most the model's context length."""
    caption_variations: Annotated[PositiveInt, TRAINS_ON_CAPTIONS] = 1
    """Wordings of a caption, of which each epoch draws one; 1 keeps the caption as it is."""
    paraphrases: Annotated[bool, _VARIED] = True
    """Whether the wordings include other sentences around the caption."""
    synonyms: Annotated[str | None, _VARIED] = None
    """JSON file of synonyms: a list of words for each word."""
    balance: Annotated[Literal["none", "category", "length", "identity"], _TRAINS] = "none"
    """Groups of training images that are brought to equal size."""
    at_most: Annotated[PositiveInt | None, _BALANCED] = None
    """Most images of a group; defaults to the smallest group, or to any number with `at_least`."""
    at_least: Annotated[PositiveInt | None, _BALANCED] = None
    """Fewest images of a group, reached by repeating images."""
    trial_identities: Annotated[int | None, Field(ge=4)] = None
    """Keep only so many identities of each split, and about eight images of each, for a trial."""
    check: Literal["files", "raise", "skip"] = "files"
    """Check that files exist, or decode every image and stop at, or skip, the faulty ones."""
    orientations: Annotated[Literal[1, 4, 8], _TRAINS] = 1
    """Derived training identities: quarter turns (4), also mirrored (8)."""
    cache: Annotated[bool, _TRAINS] = False
    """Keep decoded training images in memory."""
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """Processes that load images."""
    pin_memory: Annotated[bool, _TRAINS] = False
    """Load batches into page-locked memory, for a GPU."""

    def too_long(self) -> Literal["sentence", "cut"]:
        """End of a caption that is longer than the model's context."""
        return "sentence" if self.token_safe else "cut"


class Stored(Images):
    """Images that exist."""

    root: str | None = None
    """Folder, table or zip file of the images; `--data` sets it."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the records of the images at a root."""
        raise NotImplementedError
