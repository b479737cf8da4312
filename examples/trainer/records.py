"""The records of a run: read, captioned, split, checked, and arranged into tests."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch

from clipreid_kit import data as kit
from clipreid_kit.data import ImageRecord, records_of
from clipreid_kit.data.hands import split_hands
from examples.settings.base_recipes import Recipe, TrainingRecipe
from examples.settings.benchmarks import Benchmark, DescribedPersons, Hands
from examples.settings.data import Synthetic
from examples.settings.images import Images, Stored
from examples.settings.own_images import Folder, OwnImages, Table
from examples.settings.stages import TextToPersonRecipe
from examples.trainer.cross_modality import COLUMNS, names_of
from examples.trainer.own_splits import split_own
from examples.trainer.plugin import NO_PLUGIN, Plugin
from examples.trainer.trial import keep_few

Records = list[ImageRecord]
Sides = tuple[Records, Records | None]  # queries and gallery; without one each image is both
Tests = dict[str, list[Sides]]

_VALIDATION = ("val", "val_query", "val_gallery")


def load_records(
    recipe: Recipe,
    out: Path,
    *,
    quiet: bool = False,
    plugin: Plugin = NO_PLUGIN,
    trains: bool = True,
) -> tuple[Records, dict[str, int]]:
    """Read or generate the records of a recipe, and check them before anything is trained.

    Args:
        recipe: Source, captions, splits and checks.
        out: Folder for images that are generated.
        quiet: Show no progress.
        plugin: Reads the records instead of the source, if it can.
        trains: Whether the recipe is trained; an evaluation alone needs no training images.

    Returns:
        The records with their splits, and counts of what was found and left out.

    Raises:
        ValueError: If a file or split is missing, or the splits make no sound experiment.
    """
    trains = trains and isinstance(recipe, TrainingRecipe)
    records = plugin.read(recipe) or read_records(recipe, out, quiet=quiet, trains=trains)
    records, found = _split_and_caption(recipe, records)

    train = _train_split(recipe, records, trains=trains)
    records, problems = _check_images(recipe.data, records, train)
    found = problems | found

    if train is not None and recipe.data.validation:
        records = _hold_out(records, recipe.data.validation, recipe.seed)

    tests = arrange_tests(recipe, records)
    _check_tests(recipe, tests, records, train)
    if trains and isinstance(recipe, TrainingRecipe):
        _check_training(recipe, tests, records)
        records = _balance(recipe.data, _pairs(recipe, records), recipe.seed)
    return records, found


def _split_and_caption(recipe: Recipe, records: Records) -> tuple[Records, dict[str, int]]:
    """Give the records their splits and captions, and count what the recipe leaves out."""
    data = recipe.data
    found: dict[str, int] = {}
    if isinstance(data, Synthetic | Table) and data.test_domain is not None:
        records = kit.leave_one_domain_out(records, data.test_domain)
    if isinstance(data, OwnImages):
        draw_queries = "query_gallery" in recipe.protocols()
        records, found = split_own(data, records, recipe.seed, draw_queries=draw_queries)

    num_images = len(records)
    records = caption_records(data, records)
    if len(records) < num_images:
        found["training_images_without_text"] = num_images - len(records)

    if isinstance(data, Hands):
        records = _split_hands(data, records, recipe.evaluate.num_splits, recipe.seed)
    if data.trial_identities is not None:
        records = keep_few(records, data.trial_identities)
    return records, found


def _check_images(
    data: Images, records: Records, train: str | None
) -> tuple[Records, dict[str, int]]:
    """Check the files alone, or the images in them, and count the problems that were found."""
    if data.check == "files":
        kit.check_files(records)
        return records, {}

    report = kit.validate_records(records, train=train, on_error=data.check)
    return list(report.records), report.counts


def _train_split(recipe: Recipe, records: Records, *, trains: bool) -> str | None:
    """Name of the training split; ``None`` without one in an evaluation alone."""
    has_images = any(record.split == "train" for record in records)
    return "train" if trains or (isinstance(recipe, TrainingRecipe) and has_images) else None


def read_records(recipe: Recipe, out: Path, *, quiet: bool, trains: bool = True) -> Records:
    """Read the images of the recipe's source, or generate them into the run's folder."""
    data = recipe.data
    if isinstance(data, Synthetic):
        return data.generate(out / "data", recipe.seed, quiet=quiet)

    if data.root is None:
        raise ValueError(f"data.root: `source: {data.source}` needs images. Add --data PATH.")
    if isinstance(data, Folder):
        return data.read(data.root, trains=trains and isinstance(recipe, TrainingRecipe))
    return data.read(data.root)


def caption_records(data: Images, records: Records) -> Records:
    """Give the records the captions of a file or of one sentence, if so asked cut to sentences.

    A cleaned file leaves identities out on purpose, as step 3 of ``examples/prepare`` does: their
    training images are left out here, too.
    """
    if data.texts is not None:
        records = _from_file(data, data.texts, records)
    elif data.caption is not None:
        texts = kit.template_texts(records, data.caption)
        pairs = zip(records, texts, strict=True)
        records = [replace(record, caption=text) for record, text in pairs]

    return _token_safe(records, data.max_tokens) if data.token_safe else records


def _from_file(data: Images, texts: str, records: Records) -> Records:
    root = getattr(data, "root", None)
    beside = Path(root or ".") / texts
    table = kit.PromptTable.read(
        beside if beside.is_file() else texts, key=data.texts_key, root=root
    )

    kept = [record for record in records if record.split != "train" or record in table]
    if not any(record.split == "train" for record in kept):
        kept = records  # another key, or another data set: `table.text` says what is missing

    return [
        replace(record, caption=table.text(record))
        if record.split == "train" or record in table
        else record
        for record in kept
    ]


def _token_safe(records: Records, max_tokens: int) -> Records:
    captions = {record.caption for record in records if record.caption}
    short = {text: kit.token_safe_prompt(text, max_tokens) for text in captions}
    return [replace(record, caption=short.get(record.caption or "")) for record in records]


def _split_hands(data: Hands, records: Records, num_splits: int, seed: int) -> Records:
    """Split hands by aspect.

    Validation images are of training persons, and test nobody unseen: they are trained on.
    """
    manifest = split_hands(records, aspect=data.aspect, num_splits=num_splits, seed=seed)
    records = kit.apply_split(records, manifest)
    return [replace(r, split="train") if r.split == "val" else r for r in records]


def _hold_out(records: Records, fraction: float, seed: int) -> Records:
    """Hold out training identities for validation."""
    if validation_of(records):
        raise ValueError(
            "data.validation: the data already has validation identities (val_query). Set it to 0."
        )

    train = records_of(records, "train")
    manifest = kit.hold_out_identities(train, fraction=fraction, seed=seed)
    rest = [record for record in records if record.split != "train"]
    return [*kit.apply_split(train, manifest), *rest]


def _check_tests(recipe: Recipe, tests: Tests, records: Records, train: str | None) -> None:
    """Require what the evaluation needs."""
    all_sides = list(chain.from_iterable(tests.values()))
    _check_galleries(recipe, [gallery for _, gallery in all_sides])

    if isinstance(recipe.data, Stored) and not isinstance(recipe.data, Benchmark):
        cameras = None if recipe.evaluate.cameras else False
        for query, gallery in all_sides:
            if gallery is not None:
                kit.check_shared_images(query, gallery, cameras=cameras)

    if "text_to_person" in tests:
        _check_images_are_distinct(tests["text_to_person"][0])
    if "query_gallery" in tests:
        kit.check_splits(records, train=train, min_images=1)

    for protocol, column in COLUMNS.items():
        for sides in tests.get(protocol, ()):
            names_of(records_of_sides([sides]), column)


def _check_galleries(recipe: Recipe, galleries: Sequence[Records | None]) -> None:
    """Require galleries where the evaluation treats them otherwise than queries."""
    if recipe.evaluate.rerank and not any(galleries):
        raise ValueError(
            "evaluate.rerank: re-ranking needs a gallery, but this protocol ranks the images among "
            "each other. Set it to false."
        )

    occludes_queries = recipe.evaluate.occlusion and recipe.evaluate.occlusion_sides == "query"
    if occludes_queries and not all(galleries):
        raise ValueError(
            "evaluate.occlusion_sides: each image is query and gallery in this protocol, so that "
            "queries alone cannot be occluded. Set it to both."
        )


def _check_images_are_distinct(sides: Sides) -> None:
    """Require that a gallery for captions has each image once."""
    query, gallery = sides
    images = [record.path for record in gallery or query]
    repeated = len(images) - len(set(images))
    if repeated:
        raise ValueError(
            f"evaluate.protocols: text_to_person ranks each image once, and {repeated} rows repeat "
            "one. Give an image one row, and its further captions in columns caption_2, "
            "caption_3, ..."
        )


def _check_training(recipe: TrainingRecipe, tests: Tests, records: Records) -> None:
    """Require that no test identity is trained on or judged by, and that captions are there."""
    train = records_of(records, "train")
    _check_positives(recipe, train)
    held_out = [record for record in records if record.split in _VALIDATION]
    for sides in tests.values():
        kit.check_identities([*train, *held_out], records_of_sides(sides))

    validation = validation_of(records)
    if "query_gallery" in validation:
        kit.check_splits(records, query="val_query", gallery="val_gallery", min_images=1)
    elif not validation and recipe.evaluate.patience is not None:
        raise ValueError(
            "evaluate.patience: there are no validation identities to wait for. Hold some out of "
            "training with data.validation, or set patience to null and train all epochs."
        )

    if recipe.trains_on_captions():
        judged = held_out if recipe.evaluate.metric == "loss" else []
        _check_captions([*train, *judged])


def _check_positives(recipe: TrainingRecipe, train: Records) -> None:
    """Require an identity with two images, where a batch holds several of each."""
    if recipe.batch.num_instances == 1 or recipe.has_mined_batches():
        return

    counts = Counter(record.identity for record in train)
    if max(counts.values()) == 1:
        raise ValueError(
            f"data: each of the {len(counts)} training identities has a single image, so that "
            f"batch.num_instances: {recipe.batch.num_instances} would fill batches with copies. "
            "Add images; or train on images and captions, with batch.num_instances: 1."
        )


def _check_captions(records: Records) -> None:
    bare = [record.path for record in records if not record.caption]
    if bare:
        raise ValueError(
            f"data: {len(bare)} images have no caption to train on, or to judge by the loss "
            f"({bare[0]}, ...). Add captions with data.texts or data.caption, or set the terms on "
            "texts to 0."
        )


def _pairs(recipe: TrainingRecipe, records: Records) -> Records:
    """Make a row of each pair of a training image and a caption, and noisy pairs, if so asked."""
    data = recipe.data
    train = records_of(records, "train")
    rest = [record for record in records if record.split != "train"]

    is_described = isinstance(data, DescribedPersons) and data.captions == "each"
    if is_described and recipe.trains_on_captions():
        train = kit.records_by_caption(train)
    if isinstance(recipe, TextToPersonRecipe) and recipe.pairs.noise:
        train = _with_noise(train, recipe.pairs.noise, recipe.seed)
    return [*train, *rest]


def _with_noise(train: Records, share: float, seed: int) -> Records:
    """Give a share of the images the captions of one another."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(train), generator=generator)[: round(share * len(train))].tolist()

    noisy = list(train)
    for row, other in zip(rows, [*rows[1:], *rows[:1]], strict=True):
        noisy[row] = replace(train[row], caption=train[other].caption)
    return noisy


def _balance(data: Images, records: Records, seed: int) -> Records:
    """Bring groups of training images to equal size."""
    if data.balance == "none":
        return records

    keys: Mapping[str, Any] = {
        "identity": "identity",
        "length": "caption_length",
        "category": lambda record: record.extra.get("category", ""),
    }
    at_most: Any = data.at_most
    if at_most is None and data.at_least is None:
        at_most = "smallest"

    train = kit.balance_records(
        records_of(records, "train"),
        keys[data.balance],
        at_most=at_most,
        at_least=data.at_least,
        seed=seed,
    )
    return [*train, *(record for record in records if record.split != "train")]


def arrange_tests(recipe: Recipe, records: Sequence[ImageRecord]) -> Tests:
    """Queries and galleries of every protocol: one pair, or one for each random split.

    Raises:
        ValueError: If a protocol has no splits in these records.
    """
    tests: Tests = {}
    for protocol in recipe.protocols():
        if protocol == "splits" and not isinstance(recipe.data, Hands):
            records = [*records, *_drawn(records, recipe.evaluate.num_splits, recipe.seed)]
        tests[protocol] = _sides_of(protocol, recipe, records)
    return tests


def _sides_of(protocol: str, recipe: Recipe, records: Sequence[ImageRecord]) -> list[Sides]:
    """Each query with its gallery, of one protocol."""
    known = {str(record.split) for record in records}
    has_distractors = protocol != "distractors" or isinstance(recipe.data, Hands)

    sides: list[Sides] = []
    for query, gallery in _names_of(protocol, recipe, known):
        if not has_distractors or not {query, gallery or query} <= known:
            raise ValueError(
                f"evaluate.protocols: {protocol} cannot be computed from the splits "
                f"{', '.join(sorted(known))}. Choose another protocol, or add the splits it needs."
            )

        compared = records_of(records, gallery) if gallery else None
        sides.append((records_of(records, query), compared))
    return sides


def _names_of(protocol: str, recipe: Recipe, known: Collection[str]) -> list[tuple[str, str]]:
    """Names of the query and gallery splits of a protocol."""
    if protocol == "leave_one_out":
        return [("test", "")]
    if protocol in ("text_to_person", "cross_modality", "cross_view", "llcm"):
        return [("query", "gallery")] if "query" in known else [("test", "")]
    if protocol not in ("splits", "distractors"):
        return [("query", "gallery")]

    suffix = "_all" if protocol == "distractors" else ""
    return [(f"query{n}", f"gallery{n}{suffix}") for n in range(recipe.evaluate.num_splits)]


def _drawn(records: Sequence[ImageRecord], num_splits: int, seed: int) -> Records:
    """Test images of random splits: each draws one image of each identity for the gallery."""
    sides = ("query", "gallery", "test")
    test = [replace(record, split="test") for record in records if record.split in sides]
    return kit.apply_split(test, kit.split_query_gallery(test, num_splits=num_splits, seed=seed))


def records_of_sides(sides: Iterable[Sides]) -> list[ImageRecord]:
    """All records of some queries and galleries, one pair after the other."""
    found: list[ImageRecord] = []
    for query, gallery in sides:
        found += query
        found += gallery or ()
    return found


def validation_of(records: Sequence[ImageRecord], *, by_captions: bool = False) -> Tests:
    """Queries and gallery of the held-out identities; empty without any.

    Args:
        records: The records of all splits.
        by_captions: Whether every caption is a query, too, as in the protocol ``text_to_person``.
    """
    splits = {record.split for record in records}
    tests: Tests = {}
    if "val" in splits:
        tests["leave_one_out"] = [(records_of(records, "val"), None)]
    elif "val_query" in splits:
        sides = (records_of(records, "val_query"), records_of(records, "val_gallery"))
        tests["query_gallery"] = [cast("Sides", sides)]

    if tests and by_captions:
        tests["text_to_person"] = next(iter(tests.values()))
    return tests
