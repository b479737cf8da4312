"""What a report is made of: tasks with their metrics, charts, ranked lists, and things to unfold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clipreid_kit.viz import ImageLike


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the main table; fractions in [0, 1].

    Attributes:
        name: Such as ``Rank-1``.
        before: Before training; ``None`` where there is nothing to compare with.
        after: After training; NaN where nothing could be measured.
    """

    name: str
    before: float | None
    after: float


@dataclass(frozen=True, slots=True)
class Task:
    """What was searched with what, such as text to image, and how well that went."""

    name: str
    metrics: Sequence[Metric]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG for a light page and the same for a dark one, both with a transparent ground."""

    light: bytes
    dark: bytes


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with a caption.

    Attributes:
        wide: For a desktop and for paper.
        alt: What it shows, for those who cannot see it.
        caption: A sentence below it.
        narrow: For a phone; ``None`` shows the wide one there too.
    """

    wide: Picture
    alt: str
    caption: str
    narrow: Picture | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one model found for one query, best first.

    Attributes:
        label: Which model, such as ``before``.
        gallery: The images found.
        matches: For each, whether it shows the query's identity.
        similarities: For each, the number below it; ``None`` shows none.
    """

    label: str
    gallery: Sequence[ImageLike]
    matches: Sequence[bool]
    similarities: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Refuse lists that do not belong together."""
        for name, given in (("matches", self.matches), ("similarities", self.similarities)):
            if given is not None and len(given) != len(self.gallery):
                raise ValueError(
                    f"Ranking: expected {name} of the length of gallery, {len(self.gallery)}, "
                    f"got {len(given)}. Give one for each image."
                )


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """A query, an image or a sentence, and one or more rankings for it."""

    query: ImageLike | str
    rankings: Sequence[Ranking]
    title: str = ""


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Queries with what was found for them, and a caption for all."""

    queries: Sequence[RankedQuery]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """Something to unfold: a text as it is (a recipe), or names with values (an environment)."""

    title: str
    content: str | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a plain sentence or two, and what belongs below."""

    title: str
    blocks: Sequence[Chart | RankedLists | Details]
    text: str = ""
