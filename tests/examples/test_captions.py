"""Captions that a recipe inherits do not describe the images of another source."""

import pytest

from examples.settings.recipe import load_recipe

PARENT = """
note: Handwritten characters.
stage: classifier
data: {source: omniglot, root: characters, caption: "A handwritten character, {identity}."}
loss: {id: 1.0}
"""


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def parent(tmp_path):
    return write(tmp_path, "parent.yaml", PARENT)


def test_an_option_that_names_another_source_drops_them(parent):
    said = []
    recipe = load_recipe(parent, ["data.source=folder"], data="people", say=said.append)
    assert recipe.data.caption is None
    assert said == [
        f"captions of other images, and left out: data.caption of {parent}, for data.source: "
        "omniglot. Set data.caption or data.texts for data.source: folder"
    ]


def test_a_child_that_names_another_source_drops_them(parent):
    text = "base: parent.yaml\nnote: People.\ndata: {source: folder}\n"
    child = write(parent.parent, "child.yaml", text)
    assert load_recipe(child).data.caption is None


def test_captions_of_the_new_source_stay(parent):
    text = 'base: parent.yaml\nnote: People.\ndata: {source: folder, caption: "a person"}\n'
    child = write(parent.parent, "child.yaml", text)
    said = []
    assert load_recipe(child, say=said.append).data.caption == "a person"
    assert said != []  # of the parent

    changes = ["data.caption=a person", "data.source=folder"]
    assert load_recipe(parent, changes).data.caption == "a person"


def test_captions_stay_where_only_the_place_changes(parent):
    said = []
    recipe = load_recipe(parent, data="elsewhere", say=said.append)
    assert recipe.data.root == "elsewhere"
    assert recipe.data.caption == "A handwritten character, {identity}."
    assert said == []


def test_texts_and_their_key_are_dropped_together(tmp_path):
    text = PARENT.replace('caption: "A handwritten character, {identity}."', "texts: a.json")
    path = write(tmp_path, "a.yaml", text.replace("a.json", "a.json, texts_key: variant"))
    said = []
    recipe = load_recipe(path, ["data.source=folder"], say=said.append)
    assert (recipe.data.texts, recipe.data.texts_key) == (None, "identity")
    assert "data.texts, data.texts_key of" in said[0]


def test_captions_without_a_source_are_anyones(tmp_path):
    write(tmp_path, "a.yaml", "note: a\nstage: classifier\nloss: {id: 1.0}\ndata: {caption: it}\n")
    child = write(tmp_path, "b.yaml", "base: a.yaml\nnote: b\ndata: {source: folder}\n")
    assert load_recipe(child).data.caption == "it"
