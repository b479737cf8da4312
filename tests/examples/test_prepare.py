"""The four steps that prepare the prompts of a fashion data set."""

import json
import runpy
import sys

import pytest

from clipreid_kit.data import count_clip_tokens
from examples.prepare import (
    analyse_prompts,
    filter_identities,
    generate_prompts,
    structured_prompts,
)

SENTENCE = (
    "A woven blouse with a deep V-neckline, fluttery cap sleeves and a row of contrast piping "
    "along the hem. "
)


@pytest.fixture
def folder(tmp_path):
    """Image paths and descriptions of three items, one of them with a single image."""
    images = [("id_1", "01"), ("id_1", "02"), ("id_2", "01"), ("id_3", "01"), ("id_3", "02")]
    paths = {}
    for item, variant in images:
        path = f"img/WOMEN/Blouses_Shirts/{item}/{variant}_1_front.jpg"
        paths[path] = {"item_id": item, "split": "train"}
    (tmp_path / "paths.json").write_text(json.dumps(paths))

    descriptions = [
        {"item": "id_1", "color": "Red", "description": [SENTENCE * 6, "Hand wash."]},
        {"item": "id_2", "color": "Blue", "description": ["Short."]},
    ]
    (tmp_path / "list.json").write_text(json.dumps(descriptions))
    return tmp_path


def content(path):
    return json.loads(path.read_text())


def generate(folder):
    descriptions = ["--descriptions", str(folder / "list.json")]
    images = ["--image-paths", str(folder / "paths.json")]
    generate_prompts.main([*descriptions, *images, "--out", str(folder / "prompts.json")])


def structure(folder, key):
    descriptions = ["--descriptions", str(folder / "list.json")]
    images = ["--image-paths", str(folder / "paths.json")]
    out = folder / f"{key}.json"
    structured_prompts.main([*descriptions, *images, "--key", key, "--out", str(out)])
    return content(out)


def test_every_item_gets_a_prompt(folder, capsys):
    generate(folder)
    assert capsys.readouterr().out == "3 prompts, 1 of them longer than 77 tokens\n"
    assert content(folder / "prompts.json")["id_3"] == "A photo of id 3"


def test_items_with_one_image_are_named(folder, capsys):
    generate(folder)
    images = ["--image-paths", str(folder / "paths.json")]
    analyse_prompts.main([*images, "--prompts", str(folder / "prompts.json"), "--split", "train"])
    assert "1 identities with one image: id_2" in capsys.readouterr().out


def test_items_with_one_image_are_left_out(folder, capsys):
    generate(folder)
    capsys.readouterr()
    filter_identities.main(
        [
            *["--image-paths", str(folder / "paths.json")],
            *["--prompts", str(folder / "prompts.json")],
            *["--out-image-paths", str(folder / "clean.json")],
            *["--out-prompts", str(folder / "prompts_clean.json")],
        ]
    )
    assert capsys.readouterr().out == "kept 4 of 5 images and 2 of 3 prompts\n"
    assert set(content(folder / "prompts_clean.json")) == {"id_1", "id_3"}
    assert {entry["item_id"] for entry in content(folder / "clean.json").values()} == {
        "id_1",
        "id_3",
    }


@pytest.mark.parametrize(
    ("key", "names", "beginning"),
    [
        (
            "identity",
            {"id_1", "id_2"},
            "A clothing item in red, women's blouses and shirts. A woven",
        ),
        (
            "variant",
            {"id_1/01", "id_1/02", "id_2/01"},
            "A clothing item, women's blouses and shirts. A woven",
        ),
    ],
)
def test_structured_prompts_fit_the_text_tower(folder, key, names, beginning):
    prompts = structure(folder, key)
    assert set(prompts) == names
    assert all(count_clip_tokens(prompt) <= 77 for prompt in prompts.values())
    assert prompts["id_1" if key == "identity" else "id_1/02"].startswith(beginning)


def run_as_command(step, monkeypatch):
    """Run a step as ``python -m`` does, and return its exit status."""
    monkeypatch.delitem(sys.modules, f"examples.prepare.{step}")
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(f"examples.prepare.{step}", run_name="__main__")
    return stopped.value.code


@pytest.mark.parametrize("text", ["", "[1, 2", "3", '{"a": 1}', '[{"item": 1}]'])
@pytest.mark.parametrize(
    ("step", "options"),
    [
        ("generate_prompts", ["--descriptions", "wrong.json", "--out", "out.json"]),
        ("analyse_prompts", ["--prompts", "wrong.json"]),
        (
            "filter_identities",
            ["--prompts", "wrong.json", "--out-image-paths", "out.json", "--out-prompts", "p.json"],
        ),
        ("structured_prompts", ["--descriptions", "wrong.json", "--out", "out.json"]),
    ],
)
def test_wrong_json_is_an_error_of_one_line(folder, monkeypatch, capsys, step, options, text):
    (folder / "wrong.json").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [step, "--image-paths", "paths.json", *options])
    assert run_as_command(step, monkeypatch) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "wrong.json" in error
    assert error.count("\n") == 1
    assert not (folder / "out.json").exists()


@pytest.mark.parametrize("name", ["paths.json", "missing.json"])
def test_wrong_or_missing_image_paths_are_an_error_of_one_line(folder, monkeypatch, capsys, name):
    (folder / "paths.json").write_text('["a.jpg"]')
    monkeypatch.chdir(folder)
    arguments = ["analyse_prompts", "--image-paths", name, "--prompts", "list.json"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert run_as_command("analyse_prompts", monkeypatch) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert name in error
    assert error.count("\n") == 1


def test_a_command_without_an_error_ends_with_0(folder, monkeypatch):
    generate(folder)
    monkeypatch.chdir(folder)
    options = ["--image-paths", "paths.json", "--prompts", "prompts.json"]
    monkeypatch.setattr(sys, "argv", ["analyse_prompts", *options])
    assert run_as_command("analyse_prompts", monkeypatch) == 0
