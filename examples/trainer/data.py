"""From a recipe's data section to records, data sets and loaders."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from clipreid_kit import PKSampler
from clipreid_kit.clip import ClipTowers
from clipreid_kit.data import (
    ImageRecord,
    ReidDataset,
    ReidItem,
    SyntheticReid,
    check_files,
    check_splits,
    eval_transform,
    read_csv,
    read_folder,
    read_omniglot,
    records_of,
    train_transform,
    warp_transform,
)
from examples.trainer.config import Recipe

TEST, VALIDATION = ("query", "gallery"), ("val_query", "val_gallery")


def load_records(recipe: Recipe, out: Path, *, quiet: bool = False) -> list[ImageRecord]:
    """Read (or generate) the records and check them before anything is trained.

    Raises:
        ValueError: If a file or split is missing, or the splits make no sound experiment.
    """
    data = recipe.data
    if data.source == "synthetic":
        generator = SyntheticReid(data.num_identities, views_per_camera=data.views_per_camera, seed=recipe.seed)
        with progress(len(generator.records()), "images", quiet=quiet) as advance:
            records = generator.write(out / "data", progress=lambda _done, _total: advance(1))
    elif data.root is None:
        raise ValueError(f"data.root: expected a path for source {data.source!r}, got none. Give --data PATH.")
    elif data.source == "omniglot":
        records = read_omniglot(data.root, held_out_alphabets=data.held_out)
    elif data.source == "csv":
        records = read_csv(data.root)
    else:
        held_out = [split for split in VALIDATION if (Path(data.root) / split).is_dir()]
        splits = [*TEST, *held_out, "train"] if recipe.stage == "joint" else [*TEST]
        records = read_folder(data.root, splits=splits, camera_pattern=data.camera_pattern)
    check_files(records)
    trains = recipe.stage == "joint"
    check_splits(records, train="train" if trains else None, min_images=1)
    if trains and validates(records):
        check_splits(records, query="val_query", gallery="val_gallery", min_images=1)
    elif trains and recipe.evaluate.patience is not None:
        raise ValueError(
            "evaluate.patience: expected validation identities to wait for, got no val_query split. "
            "Hold some training identities out, or leave patience empty and train all epochs."
        )
    if trains and recipe.loss.uses_text:
        bare = [r.path for r in records_of(records, "train") if not r.caption]
        if bare:
            raise ValueError(
                f"data: expected a caption for every training image, got none for {len(bare)} ({bare[0]}, ...). "
                "Add captions, or set loss.info_nce and loss.supcon_text to 0."
            )
    return records


def validates(records: list[ImageRecord]) -> bool:
    """Whether identities were held out for validation; without them the last epoch is the best."""
    return any(record.split == VALIDATION[0] for record in records)


def training_set(recipe: Recipe, records: list[ImageRecord], towers: ClipTowers) -> ReidDataset:
    """Training images with augmentation."""
    options = asdict(recipe.augment)
    options["translate"] = (recipe.augment.translate, recipe.augment.translate)
    warp, orientations = options.pop("identity_warp"), options.pop("identity_orientations")
    make_identity = None
    if warp or orientations > 1:
        strength = {"rotation": 30 * warp, "shear": 40 * warp, "perspective": 0.8 * warp}
        make_identity = warp_transform(orientations=orientations, fill=recipe.augment.fill, **strength)
    transform = train_transform(towers.image_size, mean=towers.image_mean, std=towers.image_std, **options)
    return ReidDataset(
        records_of(records, "train"),
        transform,
        seed=recipe.seed,
        orientations=recipe.data.orientations,
        cache=recipe.data.cache,
        identity_transform=make_identity,
    )


def training_batches(
    recipe: Recipe, dataset: ReidDataset, *, rank: int = 0, world_size: int = 1
) -> tuple[PKSampler, "DataLoader[ReidItem]"]:
    """PK batches of the training set, for one rank."""
    cameras = dataset.cameras if recipe.batch.spread_cameras else None
    sampler = PKSampler(
        dataset.labels,
        recipe.batch.num_identities,
        recipe.batch.num_instances,
        seed=recipe.seed,
        coverage=recipe.batch.coverage,
        cameras=cameras,
        rank=rank,
        world_size=world_size,
    )
    workers = recipe.data.workers
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    return sampler, loader


def evaluation_batches(
    recipe: Recipe, records: list[ImageRecord], towers: ClipTowers, angle: float = 0.0
) -> "DataLoader[ReidItem]":
    """Images in order, without augmentation; turned by an angle in degrees if one is given."""
    transform = eval_transform(towers.image_size, mean=towers.image_mean, std=towers.image_std)
    if angle:
        bilinear = v2.InterpolationMode.BILINEAR
        turn = v2.RandomRotation((angle, angle), interpolation=bilinear, fill=recipe.augment.fill)
        transform = v2.Compose([turn, transform])
    return DataLoader(ReidDataset(records, transform), batch_size=recipe.evaluate.batch_size)


@contextmanager
def progress(total: int, unit: str, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar that leaves no line behind; none where output is not watched. Gives what advances it."""
    with tqdm(total=total, unit=unit, leave=False, disable=True if quiet else None) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
