"""``clipreid search``: the images of an index that are nearest to an image or a sentence."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clipreid_kit.cli._where import WhereOption, parse_conditions

if TYPE_CHECKING:
    from clipreid_kit.retrieval import Hit, SearchResult

_COMBINED = "all queries"


def search(
    store: Annotated[Path, typer.Argument(help="Folder of the index.")],
    image: Annotated[
        list[Path] | None, typer.Argument(help="Images to search by; each is a query.")
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the images that are nearest to images or sentences.

    Example: clipreid search gallery.index photo.jpg --where camera=1,2
    """
    if bool(image) == bool(text):
        raise typer.BadParameter("pass images, or --text, one of the two")

    from clipreid_kit.retrieval import GalleryIndex

    index = GalleryIndex.open(store)
    found = min(k, len(index))
    conditions = parse_conditions(where)
    group: Literal["identity"] | None = "identity" if by_identity else None
    if text:
        result = index.search_text(text, found, where=conditions, combine=combine, group_by=group)
    else:
        result = index.search_image(
            image or [], found, where=conditions, combine=combine, group_by=group
        )

    queries = [str(query) for query in (text or image or [])]
    if combine != "each":
        queries = [_COMBINED]
    print(_json(queries, result) if as_json else _table(queries, result))


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
