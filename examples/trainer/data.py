"""From a recipe's data section to records, splits and tests."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from clipreid_kit import data as kit
from clipreid_kit.data import ImageRecord, records_of
from examples.settings.config import Data, Recipe
from examples.settings.rules import HANDS, OWN_PROTOCOLS, uses_text

Sides = tuple[list[ImageRecord], list[ImageRecord] | None]  # queries and gallery; without one every image is both
Tests = dict[str, list[Sides]]


def load_records(recipe: Recipe, out: Path, *, quiet: bool = False) -> tuple[list[ImageRecord], dict[str, int]]:
    """Read (or generate) the records, split and caption them, and check them before anything is trained.

    Returns:
        The records, and what was found and skipped if all images were looked at.

    Raises:
        ValueError: If a file or split is missing, or the splits make no sound experiment.
    """
    data, found = recipe.data, {}
    everything = _read(recipe, out, quiet=quiet)
    records = _with_captions(data, everything)
    without = {"training_images_without_text": len(everything) - len(records)} if len(everything) > len(records) else {}
    if data.source in HANDS:  # validation images of training persons are no test of unseen ones: they are trained on
        manifest = kit.split_hands(records, aspect=data.aspect, num_splits=recipe.evaluate.num_splits, seed=recipe.seed)
        records = kit.apply_split(records, manifest)
        records = [replace(r, split="train") if r.split == "val" else r for r in records]
    if data.check == "files":
        kit.check_files(records)
    else:
        report = kit.validate_records(
            records, train=None if recipe.stage == "zero_shot" else "train", on_error=data.check
        )
        records, found = list(report.records), report.counts
    trains = recipe.stage != "zero_shot"
    if trains and data.validation and validates(records):
        raise ValueError("data.validation: expected no validation identities in the data, got val_query. Set it to 0.")
    if trains and data.validation:
        held = kit.hold_out_identities(records_of(records, "train"), fraction=data.validation, seed=recipe.seed)
        rest = [record for record in records if record.split != "train"]
        records = [*kit.apply_split(records_of(records, "train"), held), *rest]
    tests = tests_of(recipe, records)
    if recipe.evaluate.rerank and not any(gallery for sides in tests.values() for _, gallery in sides):
        raise ValueError(
            "evaluate.rerank: expected a protocol with a gallery, got images that are compared among each other."
        )
    if "query_gallery" in tests:
        kit.check_splits(records, train="train" if trains else None, min_images=1)
    if not trains:
        return records, found | without
    train = records_of(records, "train")
    if not train:
        splits = ", ".join(sorted({str(record.split) for record in records}))
        raise ValueError(f"data: expected training images, got splits {splits}.")
    judged = [r for r in records if r.split in ("val", "val_query", "val_gallery")]
    for sides in tests.values():
        kit.check_identities([*train, *judged], [record for pair in sides for part in pair for record in part or ()])
    if any(r.split == "val_query" for r in records):
        kit.check_splits(records, query="val_query", gallery="val_gallery", min_images=1)
    elif not validates(records) and recipe.evaluate.patience is not None:
        raise ValueError(
            "evaluate.patience: expected validation identities to wait for, got no val_query split. "
            "Hold some training identities out (data.validation), or leave patience empty and train all epochs."
        )
    if uses_text(recipe) and (bare := [r.path for r in train if not r.caption]):
        raise ValueError(
            f"data: expected a caption for every training image, got none for {len(bare)} ({bare[0]}, ...). "
            "Add captions (data.texts, data.caption), or set the text terms of the loss to 0."
        )
    if data.balance != "none":
        smallest: Literal["smallest"] | None = "smallest" if data.at_least is None and data.at_most is None else None
        at_most = data.at_most or smallest
        groups: dict[str, Any] = {"category": _category, "length": "caption_length", "identity": "identity"}
        train = kit.balance_records(
            train, groups[data.balance], at_most=at_most, at_least=data.at_least, seed=recipe.seed
        )
        records = [*train, *(r for r in records if r.split != "train")]
    return records, found | without


def _category(record: ImageRecord) -> str:
    """The extra column of that name; images without one are a group of their own."""
    return record.extra.get("category", "")


def validates(records: Sequence[ImageRecord]) -> bool:
    """Whether identities were held out for validation; without them the last epoch is the best."""
    return any(record.split in ("val_query", "val") for record in records)


def tests_of(recipe: Recipe, records: Sequence[ImageRecord]) -> Tests:
    """Queries and galleries of every protocol; several of each for random splits.

    Raises:
        ValueError: If a protocol's splits are not there.
    """
    tests: Tests = {}
    sides = {str(record.split) for record in records}
    for protocol in recipe.evaluate.protocols or OWN_PROTOCOLS.get(recipe.data.source, ["query_gallery"]):
        if protocol in ("splits", "distractors") and recipe.data.source in HANDS:
            suffix = "_all" if protocol == "distractors" else ""
            names = [(f"query{n}", f"gallery{n}{suffix}") for n in range(recipe.evaluate.num_splits)]
        elif protocol == "splits":
            test = [replace(r, split="test") for r in records if r.split in ("query", "gallery", "test")]
            manifest = kit.split_query_gallery(test, num_splits=recipe.evaluate.num_splits, seed=recipe.seed)
            records = [*records, *kit.apply_split(test, manifest)]
            names = [(f"query{n}", f"gallery{n}") for n in range(recipe.evaluate.num_splits)]
            sides |= {name for pair in names for name in pair}
        else:
            names = [("test", "")] if protocol == "leave_one_out" else [("query", "gallery")]
        missing = [name for pair in names for name in pair if name and name not in sides]
        if missing or (protocol == "distractors" and recipe.data.source not in HANDS):
            splits = ", ".join(sorted(sides))
            raise ValueError(f"evaluate.protocols: expected splits for {protocol}, got {splits}.")
        tests[protocol] = [(records_of(records, q), records_of(records, g) if g else None) for q, g in names]
    return tests


def validation_of(records: Sequence[ImageRecord]) -> Tests:
    """Queries and gallery of the held-out identities."""
    if any(record.split == "val" for record in records):
        return {"leave_one_out": [(records_of(records, "val"), None)]}
    return {"query_gallery": [(records_of(records, "val_query"), records_of(records, "val_gallery"))]}


def _read(recipe: Recipe, out: Path, *, quiet: bool) -> list[ImageRecord]:
    data = recipe.data
    if data.source == "synthetic":
        generator = kit.SyntheticReid(data.num_identities, views_per_camera=data.views_per_camera, seed=recipe.seed)
        with progress(len(generator.records()), "images", quiet=quiet) as advance:
            return generator.write(out / "data", progress=lambda _done, _total: advance(1))
    if data.root is None:
        raise ValueError(f"data.root: expected a path for source {data.source!r}, got none. Give --data PATH.")
    root, counts = data.root, data.counts
    readers: dict[str, Callable[[], list[ImageRecord]]] = {
        "folder": lambda: kit.read_folder(root, splits=_folders(recipe, root), camera_pattern=data.camera_pattern),
        "table": lambda: kit.read_table(root),
        "omniglot": lambda: kit.read_omniglot(root, held_out_alphabets=data.held_out),
        "market1501": lambda: kit.read_market1501(root, counts=counts),
        "msmt17": lambda: kit.read_msmt17(root, merge_val=data.merge_val, counts=counts),
        "cuhk03": lambda: kit.read_cuhk03(root, boxes=data.boxes, counts=counts),
        "veri776": lambda: kit.read_veri776(root, counts=counts),
        "vehicleid": lambda: kit.read_vehicleid(root, test_identities=data.test_identities, counts=counts),
        "inshop": lambda: kit.read_inshop(root, counts=counts),
        "hands11k": lambda: kit.read_hands11k(root, counts=counts),
        "polyu_hands": lambda: kit.read_polyu_hands(root, counts=counts),
        "online_products": lambda: kit.read_online_products(root, counts=counts),
        "cuhk_pedes": lambda: kit.read_cuhk_pedes(root, counts=counts),
        "annotations": lambda: kit.read_annotations(root),
        "captioned_folder": lambda: kit.read_captioned_folder(root, splits=_folders(recipe, root)),
    }
    return readers[data.source]()


def _folders(recipe: Recipe, root: str) -> list[str] | None:
    """Splits that an image folder holds; those that it must hold are named by the reader if they are missing."""
    held = [
        name
        for name in ("train", "query", "gallery", "val_query", "val_gallery", "val", "test")
        if (Path(root) / name).is_dir()
    ]
    if recipe.data.source == "captioned_folder":
        return held or None
    return list(dict.fromkeys([*held, *(["train"] if recipe.stage != "zero_shot" else []), "query", "gallery"]))


def _with_captions(data: Data, records: list[ImageRecord]) -> list[ImageRecord]:
    if data.texts is not None:
        beside = Path(data.root or ".") / data.texts
        table = kit.PromptTable.read(beside if beside.is_file() else data.texts, key=data.texts_key, root=data.root)
        # a cleaned table leaves identities out on purpose, as step 3 of examples/prepare does: they are not trained on
        kept = [r for r in records if r.split != "train" or r in table]
        if not any(r.split == "train" for r in kept):
            kept = records  # another key, or another set: the table says what it lacks
        records = [replace(r, caption=table.text(r)) if r.split == "train" or r in table else r for r in kept]
    elif data.caption is not None:
        texts = kit.template_texts(records, data.caption)
        records = [replace(record, caption=text) for record, text in zip(records, texts, strict=True)]
    if data.token_safe:
        known = {r.caption: kit.token_safe_prompt(r.caption, data.max_tokens) for r in records if r.caption}
        records = [replace(r, caption=known.get(r.caption or "")) for r in records]
    return records


def synonyms_of(data: Data) -> dict[str, list[str]] | None:
    """The recipe's words and what may stand for them."""
    return None if data.synonyms is None else json.loads(Path(data.synonyms).read_text(encoding="utf-8"))


@contextmanager
def progress(total: int, unit: str, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar that leaves no line behind; none where output is not watched. Gives what advances it."""
    with tqdm(total=total, unit=unit, leave=False, disable=True if quiet else None) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
