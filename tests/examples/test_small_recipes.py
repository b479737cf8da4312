"""The small recipes stand alone, and fit people's own images and benchmarks alike."""

from pathlib import Path

import pytest

from examples.settings.recipe import load_recipe

SMALL = Path(__file__).parents[2] / "examples" / "recipes" / "small"
NAMES = ("person", "vehicle", "things")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_inherited(name):
    path = SMALL / f"{name}.yaml"
    assert "base:" not in path.read_text()
    recipe = load_recipe(path)
    assert recipe.model.pretrained is None
    assert recipe.data.orientations == recipe.augment.identity_orientations == 1
    assert recipe.evaluate.rotations == [0.0]
    assert not recipe.trains_on_captions()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("data.test=0.25", "data.validation=0.1"),
        ("data.source=table",),
        ("data.source=coco", "data.test=0.25"),
        ("data.source=market1501",),
        ("data.source=veri776",),
        ("data.source=online_products",),
        ("data.source=synthetic",),
    ],
)
def test_no_key_has_to_be_undone(name, changes):
    """A key of the recipe that had no effect with another source would be said."""
    said = []
    load_recipe(SMALL / f"{name}.yaml", changes, say=said.append)
    assert said == []
