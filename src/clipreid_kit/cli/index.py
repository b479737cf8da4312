"""``clipreid index``: build and change a gallery that ``clipreid search`` searches."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from clipreid_kit.cli._command import Command
from clipreid_kit.cli._images import (
    BatchOption,
    CheckpointOption,
    DeviceOption,
    ImagesArgument,
    ModelArgument,
    OnErrorOption,
    PatternOption,
    SplitOption,
    TowersOnlyOption,
    WorkersOption,
    offering_to_skip,
    open_encoder,
    print_skipped,
    read_records,
)
from clipreid_kit.cli._store import (
    StoreArgument,
    TokenFileOption,
    check_free,
    check_structure,
    counted_images,
    open_index,
    read_token,
)
from clipreid_kit.cli._where import WhereOption, parse_conditions


def index_app() -> typer.Typer:
    """The commands of ``clipreid index``."""
    app = typer.Typer(
        help="Build and change a gallery to search.", no_args_is_help=True, rich_markup_mode=None
    )
    app.command(cls=Command)(build)
    app.command(cls=Command)(add)
    app.command(cls=Command)(remove)
    app.command(cls=Command)(reembed)
    app.command(cls=Command)(info)
    app.command(cls=Command)(duplicates)
    app.command(cls=Command)(approximate)
    app.command(cls=Command)(recall)
    return app


def build(
    store: StoreArgument,
    model: ModelArgument,
    images: ImagesArgument,
    pattern: PatternOption = None,
    split: SplitOption = None,
    on_error: OnErrorOption = "raise",
    checkpoint: CheckpointOption = "best",
    towers_only: TowersOnlyOption = False,
    batch_size: BatchOption = 64,
    workers: WorkersOption = 0,
    device: DeviceOption = None,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Encode images, and write an index of them.

    Example: clipreid index build gallery.index runs/photos photos/
    """
    from clipreid_kit.retrieval import GalleryIndex

    token = read_token(milvus_token_file, [store])
    check_free(store)
    encoder = open_encoder(
        model,
        checkpoint=checkpoint,
        towers_only=towers_only,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    records = read_records(images, pattern, split)
    with offering_to_skip(on_error):
        index = GalleryIndex.build(encoder, records, store=store, on_error=on_error, token=token)
    print_skipped(index.skipped)
    print(f"{store}: {counted_images(len(index))}, {index.info().dim} dimensions")


def add(
    store: StoreArgument,
    images: ImagesArgument,
    pattern: PatternOption = None,
    split: SplitOption = None,
    on_error: OnErrorOption = "raise",
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Encode and add the images that an index does not hold yet.

    An image is known by its path; to encode a changed one again, remove it first.

    Example: clipreid index add gallery.index new-photos/
    """
    index = open_index(store, milvus_token_file)
    held = set(index.column("path")) if "path" in index.info().columns else set()
    records = read_records(images, pattern, split)
    new = [record for record in records if record.path not in held]
    there = "" if len(new) == len(records) else f"; {len(records) - len(new)} were there already"
    if not new:
        print(f"{store}: nothing added{there}")
        return

    with offering_to_skip(on_error):
        keys = index.add(new, on_error=on_error)
    print_skipped(index.skipped)
    added = f"{len(keys)} added, with keys {keys[0]} to {keys[-1]}"
    print(f"{store}: {added}{there}; {len(index)} in all")


def remove(
    store: StoreArgument,
    key: Annotated[list[int] | None, typer.Option(help="Key of an image; several times.")] = None,
    where: WhereOption = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Also delete what was removed from the files.")
    ] = False,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Remove images, by key or by conditions on their columns.

    Example: clipreid index remove gallery.index --where identity=rex --compact
    """
    if (not key and not where) or (key and where):
        raise typer.BadParameter("pass --key or --where, one of the two")

    index = open_index(store, milvus_token_file)
    keys = key if key else index.keys(where=parse_conditions(where)).tolist()
    index.remove(keys)
    if compact:
        index.compact()
    print(f"{store}: {len(keys)} removed; {len(index)} in all")


def reembed(
    store: StoreArgument,
    model: ModelArgument,
    on_error: OnErrorOption = "raise",
    checkpoint: CheckpointOption = "best",
    towers_only: TowersOnlyOption = False,
    batch_size: BatchOption = 64,
    workers: WorkersOption = 0,
    device: DeviceOption = None,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Encode all images again by another model, in one step.

    Example: clipreid index reembed gallery.index runs/better
    """
    index = open_index(store, milvus_token_file)
    encoder = open_encoder(
        model,
        checkpoint=checkpoint,
        towers_only=towers_only,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    with offering_to_skip(on_error):
        index.reembed(encoder, on_error=on_error)
    print_skipped(index.skipped)
    print(f"{store}: {counted_images(len(index))}, now of the model {encoder.fingerprint}")


def info(
    store: StoreArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read and check all files of the index.")
    ] = False,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Show the size, the model and the columns of an index.

    Example: clipreid index info gallery.index
    """
    index = open_index(store, milvus_token_file)
    if verify:
        index.verify()

    facts = asdict(index.info())
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        missing = "none" if name == "approximate" else "unknown"
        print(f"{name:14}{missing if value is None else _shown(value)}")


def approximate(
    store: StoreArgument,
    factory: Annotated[
        str,
        typer.Argument(
            help="A factory string of faiss, such as HNSW32; none deletes the structure."
        ),
    ],
    effort: Annotated[
        int | None, typer.Option(min=1, help="How widely it is searched: efSearch or nprobe.")
    ] = None,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Build a structure for `clipreid search --approximate`.

    Example: clipreid index approximate gallery.index HNSW32
    """
    index = open_index(store, milvus_token_file)
    index.build_approximate(None if factory == "none" else factory, effort=effort)
    print(f"{store}: {index.info().approximate or 'no approximate structure'}")


def recall(
    store: StoreArgument,
    images: Annotated[
        Path | None,
        typer.Argument(help="Queries, as a folder, a table, ...; defaults to images of the index."),
    ] = None,
    pattern: PatternOption = None,
    split: SplitOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Images to find for each query.")] = 10,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Show what approximate search loses, beside the exact one.

    Without images, some of the index are searched by their noisy vectors. Images with identities
    also give Rank-1 and mAP, without the images of each query's own camera.

    Example: clipreid index recall gallery.index queries/
    """
    index = open_index(store, milvus_token_file)
    check_structure(store, index)
    found = max(1, min(k, len(index)))  # an empty index says so itself
    if images is None:
        print(index.recall(None, found).table())
        return

    records = read_records(images, pattern, split)
    cameras = [record.camera for record in records if record.camera is not None]
    report = index.recall(
        index.encoder.encode_records(records).embeddings,
        found,
        query_ids=[record.identity for record in records],
        query_cameras=cameras if len(cameras) == len(records) else None,
    )
    print(report.table())


def duplicates(
    store: StoreArgument,
    min_similarity: Annotated[
        float | None,
        typer.Option(
            min=-1.0,
            max=1.0,
            help="Also images at least as similar, such as 0.99, whatever their files.",
        ),
    ] = None,
    where: WhereOption = None,
    on_error: OnErrorOption = "raise",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Show images that are there twice: files of equal bytes.

    Example: clipreid index duplicates gallery.index --min-similarity 0.99
    """
    index = open_index(store, milvus_token_file)
    found = index.duplicates(
        min_similarity=min_similarity, where=parse_conditions(where), on_error=on_error
    )
    if as_json:
        print(json.dumps([group.as_dict() for group in found], indent=2, ensure_ascii=False))
        return
    for group in found:
        print("equal files:" if group.reason == "content" else "similar images:")
        for key, path in zip(group.keys, group.paths, strict=True):
            print(f"  {key:6}  {path or ''}".rstrip())
    print(f"{store}: {len(found)} groups of duplicates")


def _shown(value: object) -> str:
    """Write a fact on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
