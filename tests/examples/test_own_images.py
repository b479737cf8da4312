"""People's own images: every way that the documentation shows trains, on folders and on tables."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clipreid_kit.data import SyntheticReid, write_csv
from examples.settings.recipe import load_recipe
from examples.trainer.__main__ import main

pytestmark = pytest.mark.usefixtures("without_report")

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
OWN = RECIPES / "own" / "train.yaml"
QUICKSTART = RECIPES / "quickstart" / "joint.yaml"

PHOTOGRAPHS = """
base: {own}
note: My photographs, image tower alone, from OpenAI's weights.
model: {{name: ViT-B-16-quickgelu, pretrained: openai, image_size: [256, 128]}}
optim: {{epochs: 20, lr: 1.0e-5}}
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Split folders of identity folders; the same as a table with cameras, and with captions."""
    root = tmp_path_factory.mktemp("own")
    records = SyntheticReid(24, views_per_camera=2, image_size=(48, 32)).write(root / "drawn")
    own = []
    for record in records:
        name = Path(record.path).name
        path = root / "photos" / str(record.split) / f"{record.identity:04}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(record.path).read_bytes())
        own.append(replace(record, path=str(path), view=None))

    write_csv(own, root / "captioned.csv")
    write_csv([replace(record, caption=None) for record in own], root / "photos.csv")
    return root


def trained(out, recipe, data, *changes, capsys):
    """Run the command as a user would, and return its output and the results of the run."""
    sets = [word for change in changes for word in ("--set", change)]
    code = main([str(recipe), "--data", str(data), "--out", str(out), "--smoke", *sets])
    text = capsys.readouterr()
    assert (code, text.err) == (0, "")
    return text.out, json.loads((out / "results.json").read_text())


WAYS = {
    "folders": ("photos", ()),
    "table": ("photos.csv", ("data.source=table",)),
    "cameras in names": ("photos", (r"data.camera_pattern=_c(?P<camera>\d+)",)),
    "captioned table": (
        "captioned.csv",
        ("data.source=table", "stage=joint", "loss.supcon_text=1"),
    ),
    "no triplets": ("photos", ("loss.triplet=0", "head.kind=arcface")),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_recipe_for_own_images(tmp_path, images, capsys, way):
    data, changes = WAYS[way]
    said, results = trained(tmp_path, OWN, images / data, *changes, capsys=capsys)
    assert "after" in results
    assert "without effect" not in said
    assert ("text_to_image" in results["after"]) == (way == "captioned table")


@pytest.mark.slow
def test_own_images_without_validation_train_all_epochs(tmp_path, images, capsys):
    unheld = images / "unheld"
    if not unheld.exists():
        unheld.mkdir()
        for split in ("train", "query", "gallery"):
            (unheld / split).symlink_to(images / "photos" / split)
    trained(tmp_path, OWN, unheld, capsys=capsys)
    index = json.loads((tmp_path / "checkpoints" / "index.json").read_text())
    assert index["best"] == index["last"] == "epoch-0002"


@pytest.mark.slow
def test_a_child_for_photographs(tmp_path, images, capsys):
    path = tmp_path / "photographs.yaml"
    path.write_text(PHOTOGRAPHS.format(own=OWN))
    trained(tmp_path / "run", path, images / "photos", capsys=capsys)
    kept = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert kept["model"]["name"] == "reid-tiny-vit"  # of --smoke
    assert kept["model"]["image_size"] == [64, 32]


@pytest.mark.slow
@pytest.mark.parametrize("data", ["photos", "captioned.csv"])
def test_the_quickstart_on_own_images(tmp_path, images, capsys, data):
    """What it says of the generated set falls away, in one line."""
    changes = ["data.source=folder", "loss.supcon_text=0"]
    if data.endswith(".csv"):
        changes = ["data.source=table"]
    said, _ = trained(tmp_path, QUICKSTART, images / data, *changes, capsys=capsys)
    (line,) = [line for line in said.splitlines() if line.startswith("without effect")]
    assert "data.num_identities, data.views_per_camera of " in line


def test_nothing_is_inherited():
    assert "base" not in OWN.read_text()
    recipe = load_recipe(OWN)
    assert (recipe.stage, recipe.data.source) == ("classifier", "folder")
    assert recipe.model.pretrained is None
    assert not recipe.trains_on_captions()
