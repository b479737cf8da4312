"""Recipes by name, by folder and by path."""

import re
from pathlib import Path

import pytest

from clipreid_kit.cli._recipe_names import find_recipe, recipe_names, recipes_folder

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


def test_all_names():
    assert recipes_folder() == RECIPES
    assert len(recipe_names()) == len(list(RECIPES.rglob("*.yaml")))
    assert "hands/stage2/v1_vit" in recipe_names()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("own/train", "own/train.yaml"),
        ("own", "own/train.yaml"),
        ("quickstart", "quickstart/joint.yaml"),
        ("hands/stage3/v8_vit", "hands/stage3/v8_vit.yaml"),
    ],
)
def test_a_name(name, file):
    assert find_recipe(name) == RECIPES / file


def test_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own").touch()
    assert find_recipe("own") == Path("own")
    assert find_recipe("mine.yaml") == Path("mine.yaml")  # the trainer says that it is missing


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own/trian", "no recipe 'own/trian'; did you mean own/train"),
        ("hands/stage1", "in that folder are hands/stage1/arcface_rn50, "),
        ("omniglot", "in that folder are omniglot/classifier, omniglot/clip_reid, "),
        ("zzz", "no recipe 'zzz'; `clipreid recipes list` lists all."),
    ],
)
def test_an_unknown_name(name, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        find_recipe(name)
