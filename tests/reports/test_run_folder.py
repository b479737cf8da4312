"""A run's folder is created once, resumed with its own settings, and never overwritten."""

import json

import pytest
import trees

from clipreid_kit.reports.run_folder import open_run, write_history
from clipreid_kit.reports.run_lock import LOCK_FILE

SETTINGS = {"stage": "joint", "data": {"root": "here"}}


def finish(folder):
    (folder / "results.json").write_text("{}")


def test_a_new_folder_gets_settings_and_environment(tmp_path):
    open_run(tmp_path / "a" / "run", SETTINGS, resume=False)
    assert json.loads((tmp_path / "a" / "run" / "recipe.json").read_text()) == SETTINGS
    environment = json.loads((tmp_path / "a" / "run" / "environment.json").read_text())
    assert {"clipreid_kit", "torch", "python", "machine", "revision"} == environment.keys()


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="the folder holds other files"):
        open_run(tmp_path, SETTINGS, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_hidden_files_do_not_count(tmp_path):
    (tmp_path / ".gitignore").touch()
    open_run(tmp_path, SETTINGS, resume=False)
    assert (tmp_path / "recipe.json").is_file()


@pytest.mark.parametrize(
    "sign", ["results.json", "checkpoints/index.json", "prompt/checkpoints/index.json"]
)
def test_a_run_is_not_overwritten(tmp_path, sign):
    open_run(tmp_path, SETTINGS, resume=False)
    (tmp_path / sign).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / sign).touch()
    with pytest.raises(ValueError, match="already holds a run"):
        open_run(tmp_path, SETTINGS, resume=False)


def test_a_run_is_resumed_with_its_own_settings_only(tmp_path):
    open_run(tmp_path, SETTINGS, resume=False)
    finish(tmp_path)
    open_run(tmp_path, SETTINGS, resume=True)
    with pytest.raises(ValueError, match=r"the run to resume has other settings \(stage\)"):
        open_run(tmp_path, {**SETTINGS, "stage": "retrieval"}, resume=True)


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000, "\xff"])
@pytest.mark.parametrize("name", ["recipe.json", "environment.json"])
def test_a_damaged_file_of_a_run_is_named(tmp_path, name, content):
    open_run(tmp_path, SETTINGS, resume=False)
    finish(tmp_path)
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=f"{name}: the file (of the run is damaged|has to hold)"):
        open_run(tmp_path, SETTINGS, resume=True)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: the file of the run is missing"):
        open_run(tmp_path, SETTINGS, resume=True)


def test_a_recipe_of_someone_else_is_not_replaced(tmp_path):
    (tmp_path / "recipe.json").write_text('{"flour": 500}')
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").touch()
    with pytest.raises(ValueError, match="the folder holds other files"):
        open_run(tmp_path, SETTINGS, resume=False)
    assert (tmp_path / "recipe.json").read_text() == '{"flour": 500}'
    assert not (tmp_path / LOCK_FILE).exists()


def test_data_that_was_not_generated_is_not_deleted(tmp_path):
    open_run(tmp_path, SETTINGS, resume=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpg").touch()
    open_run(tmp_path, {"data": {"root": "there"}}, resume=False)
    assert (tmp_path / "data" / "a.jpg").exists()


@pytest.mark.parametrize(("root", "kept"), [("here", True), ("there", False)])
def test_a_run_that_failed_early_starts_again(tmp_path, root, kept):
    open_run(tmp_path, SETTINGS, resume=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "synthetic.json").write_text("{}")
    changed = {"stage": "joint", "data": {"root": root}}
    open_run(tmp_path, changed, resume=False)
    assert json.loads((tmp_path / "recipe.json").read_text()) == changed
    assert (tmp_path / "data").is_dir() == kept  # generated for other settings


def test_the_history_holds_everything(tmp_path):
    open_run(tmp_path, SETTINGS, resume=False)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    write_history(tmp_path, {"after": {}})
    history = json.loads((tmp_path / "history.json").read_text())
    assert list(history) == ["recipe", "environment", "epochs", "results"]
    assert history["recipe"] == SETTINGS
    assert history["epochs"] == [{"epoch": 1}, {"epoch": 2}]
    assert (
        json.loads((tmp_path / "results.json").read_text()) == history["results"] == {"after": {}}
    )


def test_what_is_added_to_generated_data_is_not_deleted(tmp_path):
    open_run(tmp_path, SETTINGS, resume=False)
    trees.fill(
        tmp_path / "data", "synthetic.json", "images/0003_c1_v0.png", "images/mine.png", "notes.txt"
    )
    open_run(tmp_path, {"data": {"root": "there"}}, resume=False)
    left = [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert sorted(left) == ["mine.png", "notes.txt"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "/file is a file"),
        ("file/run", "/file is a file"),
        ("link", "/link is a link that leads nowhere"),
        ("link/run", "/link is a link that leads nowhere"),
    ],
)
def test_a_folder_that_cannot_be_created_is_explained(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    with pytest.raises(ValueError, match=rf"{reason}.*Change --out\.$"):
        open_run(tmp_path / name, SETTINGS, resume=False)
    assert (tmp_path / "link").is_symlink()


def test_a_name_that_is_too_long_is_explained(tmp_path):
    with pytest.raises(ValueError, match=r"There can be no file at .*: File name too long\.$"):
        open_run(tmp_path / ("n" * 300), SETTINGS, resume=False)
