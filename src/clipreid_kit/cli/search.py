"""``clipreid search``: the images of an index that are nearest to an image or a sentence."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clipreid_kit.cli._store import StoreArgument, TokenFileOption, check_structure, open_index
from clipreid_kit.cli._where import WhereOption, parse_conditions

if TYPE_CHECKING:
    from clipreid_kit.retrieval import GalleryIndex, Hit, SearchResult

_COMBINED = "all queries"


def search(
    store: StoreArgument,
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[IMAGE]...", help="Images to search by; each is a query."),
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="The same as an option; several times.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A sentence to search by; several times.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Images to find for each query.")] = 10,
    where: WhereOption = None,
    by_identity: Annotated[
        bool, typer.Option("--by-identity", help="Only the nearest image of each identity.")
    ] = False,
    combine: Annotated[
        Literal["each", "mean", "max"],
        typer.Option(help="Several images of one query: their mean, or the nearest of them."),
    ] = "each",
    not_camera: Annotated[
        str | None,
        typer.Option(help="Camera of the query images; images of the same camera are left out."),
    ] = None,
    expand: Annotated[
        int | None, typer.Option(min=1, help="Search again, with so many nearest images mixed in.")
    ] = None,
    rerank: Annotated[
        int | None, typer.Option(min=2, help="Re-rank so many nearest images (k-reciprocal).")
    ] = None,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Use the structure of `clipreid index approximate`; may miss some.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Find the images that are nearest to images or sentences.

    Example: clipreid search gallery.index photo.jpg --where camera=1,2
    """
    image = [*(images or ()), *(image or ())]
    if bool(image) == bool(text):
        raise typer.BadParameter("pass images, or --text, one of the two")

    if text and not_camera is not None:
        raise typer.BadParameter("--not-camera is the camera of images; a sentence has none")

    _check_options(combine, not_camera, expand, rerank)
    from clipreid_kit.retrieval import Expand, Rerank

    index = open_index(store, milvus_token_file)
    if approximate:
        check_structure(store, index)
    _check_files(image)

    count = max(1, min(k, len(index)))  # an empty index says so itself
    options: dict[str, Any] = {
        "where": parse_conditions(where),
        "combine": combine,
        "group_by": "identity" if by_identity else None,
        "expand": None if expand is None else Expand(expand),
        "rerank": None if rerank is None else Rerank(rerank),
        "approximate": approximate,
    }
    if text:
        result = index.search_text(text, count, **options)
    else:
        cameras = _cameras(index, not_camera, len(image))
        result = index.search_image(image, count, query_cameras=cameras, **options)

    queries = [str(query) for query in (text or image)]
    if combine != "each":
        queries = [_COMBINED]
    print(_json(queries, result) if as_json else _table(queries, result))


def _check_options(
    combine: str, not_camera: str | None, expand: int | None, rerank: int | None
) -> None:
    """Raise BadParameter if an option does not go with --combine."""
    if combine != "each" and not_camera is not None:
        raise typer.BadParameter(f"--not-camera does not go with --combine {combine}")
    if combine == "max" and (expand is not None or rerank is not None):
        raise typer.BadParameter("--expand and --rerank do not go with --combine max")


def _check_files(images: list[Path]) -> None:
    """Require that images are there, before a model is opened for them.

    Raises:
        ValueError: If one is a folder, or is not there: perhaps it is meant as a sentence.
    """
    from clipreid_kit._read_files import UnusableFileError, exists
    from clipreid_kit.data.files.archives import split_member
    from clipreid_kit.data.files.file_tree import is_image

    for image in images:
        with contextlib.suppress(UnusableFileError):  # no file has a long sentence as its name
            if exists(split_member(str(image))[0]):
                _check_not_a_folder(image)
                continue

        hint = "" if is_image(str(image)) else f' To search by a sentence, write --text "{image}".'
        raise ValueError(f"search: there is no such file: {image}.{hint}")


def _check_not_a_folder(image: Path) -> None:
    if image.is_dir():
        raise ValueError(f"search: {image} is a folder; name the images in it to search by.")


def _cameras(
    index: "GalleryIndex", camera: str | None, num_queries: int
) -> "list[int | str] | None":
    """Return the camera of every query, as the records of the index write it."""
    if camera is None:
        return None
    is_integer = camera.removeprefix("-").isascii() and camera.removeprefix("-").isdigit()
    if is_integer and len(index.keys(where={"camera": int(camera)})):
        return [int(camera)] * num_queries
    return [camera] * num_queries


def _json(queries: list[str], result: "SearchResult") -> str:
    """Write hits as a list of objects, one for each query."""
    from clipreid_kit.retrieval.hit_fields import answer_fields

    answers = [
        {"query": query, **answer_fields(result, number)} for number, query in enumerate(queries)
    ]
    return json.dumps(answers, indent=2, ensure_ascii=False)


def _table(queries: list[str], result: "SearchResult") -> str:
    """Write hits as lines: rank, similarity, identity, camera and path."""
    lines = []
    for number, (query, hits) in enumerate(zip(queries, result, strict=True)):
        if len(queries) > 1:
            lines.append(f"{query}:")
        if not hits:
            lines.append("nothing meets the conditions")
        elif result.is_unknown is not None and result.is_unknown[number]:
            lines.append("unknown: no image is similar enough; the nearest are")
        for rank, hit in enumerate(hits, start=1):
            lines.append(_line(rank, hit))
    return "\n".join(lines)


def _line(rank: int, hit: "Hit") -> str:
    start = f"{rank:3}  {hit.similarity:.4f}  "
    if hit.probability is not None:
        start += f"{100 * hit.probability:3.0f} %  "

    record = hit.record
    if record is None:
        return f"{start}key {hit.key}"
    camera = "" if record.camera is None else f"camera {record.camera}  "
    return f"{start}{record.identity}  {camera}{record.path}"
