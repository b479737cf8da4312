"""Places where no file can be written are refused before any work is done."""

import os

import numpy as np
import pytest

from clipreid_kit.cli.main import main
from clipreid_kit.retrieval import GalleryIndex

COMMANDS = {
    "export": ["export", "towers", "{}.onnx"],
    "calibrate": ["calibrate", "an.index", "images", "--figure", "{}.png"],
    "discover": ["discover", "an.index", "--out", "{}.csv"],
    "convert": ["recipes", "convert", "config.yml", "--out", "{}.yaml"],
    "leaderboard": ["compare", "runs", "--html", "{}.html"],
    "table": ["compare", "runs", "--test", "--out", "{}.md"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    (tmp_path / "towers").mkdir()
    (tmp_path / "towers" / "card.json").touch()
    GalleryIndex.build(np.eye(2, dtype=np.float32), store=tmp_path / "an.index")
    return tmp_path


def error_of(command, place, capsys):
    status = main([part.format(place) for part in COMMANDS[command]])
    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert "Errno" not in output.err
    assert output.err.count("\n") == 1
    return output.err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_place_is_named_with_the_reason(command, here, capsys, monkeypatch):
    name = COMMANDS[command][-1].format("a folder")
    (here / name).mkdir()
    assert f"{name}: it is a folder; name a file" in error_of(command, "a folder", capsys)

    assert "there is no folder missing; create it first" in error_of(command, "missing/x", capsys)
    assert "a file is a file, and no folder" in error_of(command, "a file/x", capsys)

    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert "you may not write to the folder ." in error_of(command, "x", capsys)


@pytest.mark.parametrize(
    ("command", "endings"), [("discover", ".csv, .json"), ("calibrate", ".png, .svg or .pdf")]
)
def test_the_name_has_to_have_a_known_ending(command, endings, here, capsys):
    arguments = [*COMMANDS[command][:-1], "x.nothing"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert f"{arguments[-2]}: expected " in error
    assert endings in error


@pytest.mark.parametrize("option", ["--json", "--per-query", "--state"])
def test_results_of_features(option, here):
    (here / "features.npz").touch()
    from clipreid_kit.evaluate import _check_outputs, option_parser  # the features come first

    options = option_parser().parse_args(["features.npz", option, str(here)])
    with pytest.raises(IsADirectoryError, match="it is a folder; name a file"):
        _check_outputs(options)


def test_a_folder_that_cannot_be_made(here, capsys):
    assert main(["examples", "a file"]) == 1
    assert capsys.readouterr().err == "error: examples: a file is a file. Name a new folder.\n"

    assert main(["examples", "a file/x"]) == 1
    assert capsys.readouterr().err == f"error: a file/x: {here}/a file is a file, and no folder.\n"
