"""Recipes that train in a second, one for each stage, and the images that they share."""

import shutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from clipreid_kit.data import SyntheticReid, group_stills, write_csv
from examples.settings.recipe import load_recipe
from examples.trainer.records import load_records
from examples.trainer.run import _accelerator, _session

TINY = """
note: A run of a second.
stage: joint
data: {source: synthetic, num_identities: 20, views_per_camera: 2, workers: 0}
model: {name: reid-tiny-resnet, image_size: [32, 32]}
augment: {horizontal_flip: 0.5, color_jitter: 0.2}
batch: {num_identities: 4, num_instances: 2, coverage: identities}
loss: {supcon_image: 1.0, supcon_text: 0.5, temperature: 0.1}
optim: {epochs: 2, lr: 1.0e-3, warmup_epochs: 1}
"""

TINY_IDENTITIES = SyntheticReid(20, views_per_camera=2, image_size=(32, 32))

# What a stage changes of the recipe above: its own lines, merged over it.
STAGES = {
    "joint": "",
    "classifier": "loss: {supcon_image: 0, id: 1.0, triplet: 1.0, temperature: 0.07}\n",
    "image_encoder": "loss: {supcon_image: 0, supcon_text: 1.0, id: 1.0}\n",
    "clip_reid": (
        "loss: {id: 0.25, triplet: 1.0, image_to_text: 1.0, temperature: 0.07}\n"
        "prompt: {epochs: 2, warmup_epochs: 1, batch_size: 20, num_tokens: 2}\n"
    ),
    "prompt_sg": (  # a ViT: attention needs more than one patch
        "model: {name: reid-tiny-vit}\n"
        "loss: {id: 1.0, triplet: 1.0, supcon: 0.5}\n"
        "prompt: {inversion_dim: 16, interaction_blocks: 1}\n"
    ),
    "text_to_person": (
        "model: {name: reid-tiny-vit}\nloss: {sdm: 1.0, sdm_temperature: 0.1}\n"
        "evaluate: {protocols: [query_gallery, text_to_person]}\n"
    ),
    "unsupervised": (
        "loss: {supcon_image: 0, prototype: 1.0}\n"
        "clusters: {max_distance: 0.7, min_samples: 2, k1: 6, k2: 2}\n"
    ),
    "retrieval": (
        "loss: {supcon_image: 0, supcon_text: 0, info_nce: 1.0}\n"
        "batch: {num_identities: 6, num_instances: 1, coverage: images}\n"
    ),
}


def write_recipe(folder, stage=None):
    """Write the recipe of a stage as a user would, and return its path."""
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    if stage is None:
        return path

    child = folder / f"{stage}.yaml"
    child.write_text(f"base: tiny.yaml\nnote: A run of a second.\nstage: {stage}\n{STAGES[stage]}")
    return child


def tiny_recipe(folder, *changes, stage=None, images=None):
    """A recipe of a stage, with ``section.key=value`` changes, read from files as usual.

    Args:
        folder: Where the files are written.
        changes: As of ``--set``.
        stage: A key of ``STAGES``; ``None`` for the joint recipe alone.
        images: Folder from :func:`tiny_images`; ``None`` generates images into the run's folder.
    """
    path = write_recipe(folder, stage)
    if images is not None:
        changes = ("data.source=table", f"data.root={images}/records.csv", *changes)
    return load_recipe(path, changes)


def tiny_images(folder):
    """Twenty generated identities of 32 x 32 pixels; ``unheld.csv`` has none for validation.

    ``tracklets.csv`` has them in tracklets of two or four images.
    """
    folder = Path(folder)
    described = [
        replace(record, view=f"{camera % 2}", modality=("visible", "infrared")[camera // 2])
        for record in write_identities(folder)
        for camera in [int(str(record.camera))]
    ]
    write_csv(described, folder / "records.csv")

    write_csv(_in_tracklets(described), folder / "tracklets.csv")

    unheld = [record for record in described if record.split not in ("val_query", "val_gallery")]
    write_csv(unheld, folder / "unheld.csv")
    return folder


def write_identities(folder):
    """Write the twenty identities as generated, and return their records."""
    shutil.copytree(_drawn_images().name, folder, dirs_exist_ok=True)
    return TINY_IDENTITIES.write(folder)  # which finds every image drawn


def _in_tracklets(records):
    """The records in tracklets of all images of a person by two cameras."""
    by_two = [replace(record, camera=int(str(record.camera)) // 2) for record in records]
    return group_stills(by_two)


@lru_cache(maxsize=1)
def _drawn_images():
    """A folder with the images, drawn once a process and removed at its end."""
    folder = TemporaryDirectory()
    TINY_IDENTITIES.write(folder.name)
    return folder


def session_of(recipe, folder):
    """What a run of a recipe has before its stage begins."""
    accelerator = _accelerator(recipe, folder)
    records, _ = load_records(recipe, folder)
    return _session(recipe, folder, accelerator, records, resume=False)


def keys_of(recipe):
    """Every key of a resolved recipe but the note, with its value."""
    keys = {}
    for name, value in recipe.model_dump().items():
        if isinstance(value, dict):
            keys |= {f"{name}.{key}": inner for key, inner in value.items()}
        elif name != "note":
            keys[name] = value
    return keys
