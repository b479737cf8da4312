"""From a recipe's data section to records, splits and tests."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipreid_kit import data as kit
from clipreid_kit.data import ImageRecord, records_of
from clipreid_kit.data.hands import split_hands
from examples.settings.config import Data, Recipe
from examples.settings.rules import HANDS, OWN_PROTOCOLS, uses_text

Sides = tuple[
    list[ImageRecord], list[ImageRecord] | None
]  # queries and gallery; without one every image is both
Tests = dict[str, list[Sides]]


def load_records(
    recipe: Recipe, out: Path, *, quiet: bool = False
) -> tuple[list[ImageRecord], dict[str, int]]:
    """Read (or generate) the records, split and caption them, and check them before anything is trained.

    Returns:
        The records, and what was found and skipped if all images were looked at.

    Raises:
        ValueError: If a file or split is missing, or the splits make no sound experiment.
    """
    data, trains, found = recipe.data, recipe.stage != "zero_shot", {}
    everything = _read(recipe, out, quiet=quiet)
    records = _with_captions(data, everything)
    without = (
        {"training_images_without_text": len(everything) - len(records)}
        if len(everything) > len(records)
        else {}
    )
    if (
        data.source in HANDS
    ):  # validation images of training persons are no test of unseen ones: they are trained on
        manifest = split_hands(
            records, aspect=data.aspect, num_splits=recipe.evaluate.num_splits, seed=recipe.seed
        )
        records = kit.apply_split(records, manifest)
        records = [replace(r, split="train") if r.split == "val" else r for r in records]
    if data.check == "files":
        kit.check_files(records)
    else:
        report = kit.validate_records(
            records, train="train" if trains else None, on_error=data.check
        )
        records, found = list(report.records), report.counts
    if trains and data.validation and validation_of(records):
        raise ValueError(
            "data.validation: expected no validation identities in the data, got val_query. Set it to 0."
        )
    if trains and data.validation:
        known = records_of(records, "train")
        manifest = kit.hold_out_identities(known, fraction=data.validation, seed=recipe.seed)
        records = [*kit.apply_split(known, manifest), *(r for r in records if r.split != "train")]
    tests = tests_of(recipe, records)
    if recipe.evaluate.rerank and not any(
        gallery for sides in tests.values() for _, gallery in sides
    ):
        raise ValueError(
            "evaluate.rerank: expected a protocol with a gallery, got images compared among each other."
        )
    if "query_gallery" in tests:
        kit.check_splits(records, train="train" if trains else None, min_images=1)
    if not trains:
        return records, found | without
    train = records_of(records, "train")
    judged = [r for r in records if r.split in ("val", "val_query", "val_gallery")]
    for sides in tests.values():
        kit.check_identities(
            [*train, *judged], [record for pair in sides for part in pair for record in part or ()]
        )
    held = validation_of(records)
    if "query_gallery" in held:
        kit.check_splits(records, query="val_query", gallery="val_gallery", min_images=1)
    elif not held and recipe.evaluate.patience is not None:
        raise ValueError(
            "evaluate.patience: expected validation identities to wait for, got no val_query split. "
            "Hold some training identities out (data.validation), or leave patience empty and train all epochs."
        )
    read = [*train, *(judged if recipe.evaluate.metric == "loss" else [])]  # with their captions
    if uses_text(recipe) and (bare := [r.path for r in read if not r.caption]):
        raise ValueError(
            "data: expected a caption for every image to train on, or to judge by the loss, got none for "
            f"{len(bare)} ({bare[0]}, ...). Add captions (data.texts, data.caption), or set the text terms to 0."
        )
    if data.balance != "none":
        groups: dict[str, Any] = {
            "length": "caption_length",
            "category": lambda r: r.extra.get("category", ""),
        }
        at_most: Any = data.at_most or ("smallest" if data.at_least is None else None)
        options: dict[str, Any] = {
            "at_most": at_most,
            "at_least": data.at_least,
            "seed": recipe.seed,
        }
        train = kit.balance_records(train, groups.get(data.balance, "identity"), **options)
        records = [*train, *(r for r in records if r.split != "train")]
    return records, found | without


def tests_of(recipe: Recipe, records: Sequence[ImageRecord]) -> Tests:
    """Queries and galleries of every protocol, whose splits have to be there; several of each for random splits."""
    tests: Tests = {}
    sides = {str(record.split) for record in records}
    for protocol in recipe.evaluate.protocols or OWN_PROTOCOLS.get(
        recipe.data.source, ["query_gallery"]
    ):
        if protocol in ("splits", "distractors") and recipe.data.source in HANDS:
            suffix = "_all" if protocol == "distractors" else ""
            names = [
                (f"query{n}", f"gallery{n}{suffix}") for n in range(recipe.evaluate.num_splits)
            ]
        elif protocol == "splits":
            test = [
                replace(r, split="test") for r in records if r.split in ("query", "gallery", "test")
            ]
            manifest = kit.split_query_gallery(
                test, num_splits=recipe.evaluate.num_splits, seed=recipe.seed
            )
            records = [*records, *kit.apply_split(test, manifest)]
            names = [(f"query{n}", f"gallery{n}") for n in range(recipe.evaluate.num_splits)]
            sides |= {name for pair in names for name in pair}
        else:
            names = [("test", "")] if protocol == "leave_one_out" else [("query", "gallery")]
        missing = [name for pair in names for name in pair if name and name not in sides]
        if missing or (protocol == "distractors" and recipe.data.source not in HANDS):
            splits = ", ".join(sorted(sides))
            raise ValueError(f"evaluate.protocols: expected splits for {protocol}, got {splits}.")
        tests[protocol] = [
            (records_of(records, q), records_of(records, g) if g else None) for q, g in names
        ]
    return tests


def validation_of(records: Sequence[ImageRecord]) -> Tests:
    """Queries and gallery of the held-out identities; nothing where there are none: the last epoch is the best then."""
    if any(record.split == "val" for record in records):
        return {"leave_one_out": [(records_of(records, "val"), None)]}
    if any(record.split == "val_query" for record in records):
        return {
            "query_gallery": [
                (records_of(records, "val_query"), records_of(records, "val_gallery"))
            ]
        }
    return {}


def _read(recipe: Recipe, out: Path, *, quiet: bool) -> list[ImageRecord]:
    data, source = recipe.data, recipe.data.source
    if source == "synthetic":
        generator = kit.SyntheticReid(
            data.num_identities, views_per_camera=data.views_per_camera, seed=recipe.seed
        )
        with tqdm(
            total=len(generator.records()), unit="images", leave=False, disable=quiet or None
        ) as bar:
            return generator.write(out / "data", progress=lambda *_: bar.update() and None)  # type: ignore[arg-type]
    if data.root is None:
        raise ValueError(
            f"data.root: expected a path for source {source!r}, got none. Give --data PATH."
        )
    own = {
        "folder": "camera_pattern",
        "msmt17": "merge_val",
        "cuhk03": "boxes",
        "vehicleid": "test_identities",
    }
    options: dict[str, Any] = {own[source]: getattr(data, own[source])} if source in own else {}
    if source == "omniglot":
        options["held_out_alphabets"] = data.held_out
    elif source in ("folder", "captioned_folder"):
        places = ("train", "query", "gallery", "val_query", "val_gallery", "val", "test")
        held = [place for place in places if (Path(data.root) / place).is_dir()]
        if (
            source == "folder"
        ):  # those that it must hold are named by the reader if they are missing
            held += [
                place for place in places[recipe.stage == "zero_shot" : 3] if place not in held
            ]
        options["splits"] = held or None
    elif source not in ("omniglot", "table", "annotations"):
        options["counts"] = data.counts
    return getattr(kit, f"read_{source}")(data.root, **options)  # type: ignore[no-any-return]


def _with_captions(data: Data, records: list[ImageRecord]) -> list[ImageRecord]:
    if data.texts is not None:
        beside = Path(data.root or ".") / data.texts
        table = kit.PromptTable.read(
            beside if beside.is_file() else data.texts, key=data.texts_key, root=data.root
        )
        # a cleaned table leaves identities out on purpose, as step 3 of examples/prepare does: they are not trained on
        kept = [r for r in records if r.split != "train" or r in table]
        if not any(r.split == "train" for r in kept):
            kept = records  # another key, or another set: the table says what it lacks
        records = [
            replace(r, caption=table.text(r)) if r.split == "train" or r in table else r
            for r in kept
        ]
    elif data.caption is not None:
        texts = kit.template_texts(records, data.caption)
        records = [
            replace(record, caption=text) for record, text in zip(records, texts, strict=True)
        ]
    if data.token_safe:
        known = {
            r.caption: kit.token_safe_prompt(r.caption, data.max_tokens)
            for r in records
            if r.caption
        }
        records = [replace(r, caption=known.get(r.caption or "")) for r in records]
    return records
