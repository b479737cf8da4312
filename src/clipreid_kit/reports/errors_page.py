"""The page of a model's hardest errors, each with its images and its likely kinds."""

from collections.abc import Sequence
from typing import NamedTuple

from clipreid_kit.data import ImageRecord, load_image
from clipreid_kit.reports._html_page import EmbeddedImage, embed_thumbnail, render_page
from clipreid_kit.reports.evaluation import Evaluation
from clipreid_kit.reports.retrieval_errors import (
    KINDS,
    RULES,
    ErrorKind,
    RetrievalError,
    retrieval_errors,
)

_SIDE = 192  # pixels of a thumbnail's longer side, shown at half that size


class ShownImage(NamedTuple):
    """An image of an error, with the texts below it.

    Attributes:
        role: ``Query``, ``First hit`` or ``Right image``.
        image: The thumbnail.
        about: Identity and camera.
        found: Rank and similarity; empty for a query.
        is_right: Whether it shows the query's identity.
    """

    role: str
    image: EmbeddedImage
    about: str
    found: str
    is_right: bool


class ShownError(NamedTuple):
    """An error as the page shows it: its heading, the keys and names of its kinds, its images."""

    title: str
    kinds: tuple[ErrorKind, ...]
    names: Sequence[str]
    images: Sequence[ShownImage]


class KindOfErrors(NamedTuple):
    """A kind of errors: its key, name, rule, and the number of errors shown."""

    key: str
    name: str
    rule: str
    num_errors: int


def errors_page(evaluation: Evaluation, *, title: str = "Errors", max_errors: int = 100) -> str:
    """Make an HTML page of the hardest errors: query, first hit and right image side by side.

    The errors are ordered by how much more similar the wrong image is, and can be filtered by their
    likely kind; each kind's rule is on the page. The page needs no script and fetches nothing: its
    thumbnails of at most 192 pixels are inside, about 10 kB an error.

    Needs jinja2 (``pip install clipreid_kit[report]``).

    Args:
        evaluation: What was evaluated, with image queries, such as from :func:`read_features`.
        title: Heading of the page.
        max_errors: Largest number of errors on the page, >= 1.

    Returns:
        The page; of a model without errors, one that says so.

    Raises:
        ValueError: If ``max_errors`` is below 1, embeddings are not finite, or an image cannot be
            read.
    """
    errors, num_errors = retrieval_errors(evaluation, max_errors=max_errors)
    shown = [_shown(evaluation, number, error) for number, error in enumerate(errors, start=1)]

    kinds = []
    for key, name in KINDS.items():
        count = sum(key in error.kinds for error in errors)
        kinds.append(KindOfErrors(key, name, RULES[key], count))

    return render_page(
        "errors.html",
        title=title,
        summary=_summary(evaluation, num_errors, len(errors)),
        errors=shown,
        kinds=kinds,
    )


def _summary(evaluation: Evaluation, num_errors: int, num_shown: int) -> str:
    text = f"{num_errors} of {len(evaluation.query)} queries have a wrong first hit, by cosine."
    if num_shown < num_errors:
        text += f" The {num_shown} with the largest margin are shown."
    return text


def _shown(evaluation: Evaluation, number: int, error: RetrievalError) -> ShownError:
    query = evaluation.query[error.query]
    wrong, right = evaluation.gallery[error.wrong], evaluation.gallery[error.right]

    wrong_found = f"rank 1, similarity {error.wrong_similarity:.3f}"
    right_found = f"rank {error.rank}, similarity {error.right_similarity:.3f}"
    images = (
        _image("Query", query, "", is_right=True),
        _image("First hit", wrong, wrong_found, is_right=False),
        _image("First right image", right, right_found, is_right=True),
    )
    title = f"{number}. Query of {query.identity}: margin {error.margin:.3f}"
    return ShownError(title, error.kinds, [KINDS[kind] for kind in error.kinds], images)


def _image(role: str, record: ImageRecord, found: str, *, is_right: bool) -> ShownImage:
    camera = "" if record.camera is None else f", camera {record.camera}"
    thumbnail = embed_thumbnail(load_image(record.path), max_side=_SIDE)
    return ShownImage(role, thumbnail, f"identity {record.identity}{camera}", found, is_right)
