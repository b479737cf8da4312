"""A run is resumed on the same records, processes and state only."""

import csv
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from tiny import tiny_images, write_recipe

from clipreid_kit.data import ImageRecord
from examples.trainer import run as trainer
from examples.trainer.__main__ import main
from examples.trainer.same_run import keep_or_check, trained_on

RECORDS = [
    ImageRecord("here/a/1.jpg", "a", camera=1, split="train"),
    ImageRecord("here/b/2.jpg", "b", camera=2, split="train"),
]


def test_the_fingerprint_survives_a_move_of_the_folder():
    moved = [replace(r, path=r.path.replace("here", "/there/now")) for r in RECORDS]
    assert trained_on(moved, 1) == trained_on(RECORDS, 1)


@pytest.mark.parametrize(
    "changed",
    [
        RECORDS[::-1],
        [replace(RECORDS[0], identity="b"), replace(RECORDS[1], identity="a")],
        [replace(RECORDS[0], identity="c"), RECORDS[1]],
        [replace(RECORDS[0], camera=3), RECORDS[1]],
        [replace(RECORDS[0], caption="a coat"), RECORDS[1]],
        [replace(RECORDS[0], split="query"), RECORDS[1]],
        [replace(RECORDS[0], path="here/a/3.jpg"), RECORDS[1]],
    ],
    ids=["order", "permuted", "renamed", "camera", "caption", "split", "path"],
)
def test_what_changes_the_numbers_is_refused(tmp_path, changed):
    keep_or_check(tmp_path, trained_on(RECORDS, 1), resumes=False)
    keep_or_check(tmp_path, trained_on(RECORDS, 1), resumes=True)
    with pytest.raises(ValueError, match="2 images of 2 identities, but with other names"):
        keep_or_check(tmp_path, trained_on(changed, 1), resumes=True)


def test_fewer_records_and_other_processes_are_refused(tmp_path):
    keep_or_check(tmp_path, trained_on(RECORDS, 2), resumes=False)
    with pytest.raises(ValueError, match="trained on other data: 2 images of 2 identities, now 1"):
        keep_or_check(tmp_path, trained_on(RECORDS[:1], 2), resumes=True)
    with pytest.raises(ValueError, match="has 2 processes, not 1; its batches"):
        keep_or_check(tmp_path, trained_on(RECORDS, 1), resumes=True)


def test_a_new_run_and_one_of_an_earlier_version_keep_theirs(tmp_path):
    keep_or_check(tmp_path, trained_on(RECORDS, 1), resumes=True)
    keep_or_check(tmp_path, trained_on(RECORDS[:1], 1), resumes=False)
    keep_or_check(tmp_path, trained_on(RECORDS[:1], 1), resumes=True)


def test_records_without_a_common_folder(tmp_path):
    mixed = [RECORDS[0], replace(RECORDS[1], path="/there/2.jpg")]
    keep_or_check(tmp_path, trained_on(mixed, 1), resumes=False)
    keep_or_check(tmp_path, trained_on(mixed, 1), resumes=True)


@pytest.mark.parametrize("content", ["[]", "{", '{"images": 2}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "trained_on.json").write_text(content)
    with pytest.raises(ValueError, match=r"trained_on\.json: the file of the run is damaged"):
        keep_or_check(tmp_path, trained_on(RECORDS, 1), resumes=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, and the command line that made it."""
    folder = tmp_path_factory.mktemp("finished")
    images = tiny_images(folder / "images")
    changes = [
        "data.source=table",
        f"data.root={images}/records.csv",
        "track.console=nothing",
        "data.validation=0",
        "optim.epochs=1",
        "optim.warmup_epochs=0",
    ]
    options = [str(write_recipe(folder)), *(w for change in changes for w in ("--set", change))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "write_run_report", lambda *_, **__: None)
        assert main([*options, "--out", str(folder / "run")]) == 0
    return folder / "run", options, images / "records.csv"


@pytest.fixture
def copy(finished, tmp_path):
    out, options, table = finished
    shutil.copytree(out, tmp_path / "run")
    return tmp_path / "run", options, table


def resumed(copy, capsys):
    out, options, _ = copy
    code = main([*options, "--out", str(out), "--resume"])
    text = capsys.readouterr().err
    assert code == 2
    assert text.startswith("error: ")
    assert text.count("\n") == 1, text
    return text


def test_permuted_identities_are_refused(copy, capsys):
    table = copy[2]
    content = table.read_text()
    rows = list(csv.DictReader(content.splitlines()))
    names = {row["identity"]: row["identity"] for row in rows if row["split"] == "train"}
    first, second = list(names)[:2]
    names |= {first: second, second: first}
    try:
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(
                {**row, "identity": names.get(row["identity"], row["identity"])} for row in rows
            )
        assert "the run to resume was trained on other data" in resumed(copy, capsys)
    finally:
        table.write_text(content)


def with_state(out, change):
    """Change the state in the last checkpoint."""
    folder = out / "checkpoints"
    path = folder / json.loads((folder / "index.json").read_text())["last"] / "trainer.pt"
    state = torch.load(path, weights_only=True)
    torch.save(change(state), path)


STATES = {
    "it lacks optimizers, random": lambda state: {
        key: value for key, value in state.items() if key not in ("optimizers", "random")
    },
    "its epoch is 1, after 0 rows": lambda state: {**state, "history": []},
    "it is of 2 processes": lambda state: {**state, "random": state["random"] * 2},
    "param|group": lambda state: {**state, "optimizers": [{"state": {}, "param_groups": []}]},
}


@pytest.mark.parametrize("words", STATES)
def test_a_damaged_state_is_named(copy, capsys, words):
    with_state(copy[0], STATES[words])
    text = resumed(copy, capsys)
    assert "epoch-0001: the state of the run is damaged (" in text
    assert any(word in text for word in words.split("|")), text


def test_a_lost_index_of_the_checkpoints_is_named(copy, capsys):
    """The run does not begin again, over its own checkpoints."""
    folder = copy[0] / "checkpoints"
    before = sorted(path.name for path in folder.iterdir())
    index = (folder / "index.json").rename(copy[0] / "elsewhere.json")
    try:
        text = resumed(copy, capsys)
        assert "the run has finished epochs, but index.json, which names its checkpoints" in text
    finally:
        index.rename(folder / "index.json")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_state_of_another_epoch_is_refused(copy, capsys):
    with_state(copy[0], lambda state: {**state, "epoch": 10**9})
    assert "says that it is of epoch 1000000000; it was saved as that of 1" in resumed(copy, capsys)


def stored(folder, content):
    (folder / "a.jpg").write_bytes(content)
    return [ImageRecord(str(folder / "a.jpg"), "a", split="train")]


def test_images_of_other_content_are_refused(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    keep_or_check(out, trained_on(stored(tmp_path, b"pixels"), 1), resumes=False)

    keep_or_check(out, trained_on(stored(tmp_path, b"pixels"), 1), resumes=True)
    with pytest.raises(ValueError, match="trained on other images: files of the same names"):
        keep_or_check(out, trained_on(stored(tmp_path, b"others"), 1), resumes=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")
def test_a_pipe_of_synonyms_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "words.json")
    files = {"data.synonyms": str(tmp_path / "words.json")}
    assert trained_on([], 1, files)["files"] == {"data.synonyms": ""}


def test_another_file_of_synonyms_is_refused(tmp_path):
    file = tmp_path / "synonyms.json"
    files = {"data.synonyms": str(file)}
    file.write_text('{"red": ["crimson"]}')
    keep_or_check(tmp_path, trained_on(RECORDS, 1, files), resumes=False)

    keep_or_check(tmp_path, trained_on(RECORDS, 1, files), resumes=True)
    file.write_text('{"red": ["scarlet"]}')
    with pytest.raises(ValueError, match=r"the file of data\.synonyms has changed since"):
        keep_or_check(tmp_path, trained_on(RECORDS, 1, files), resumes=True)


def test_facts_of_earlier_versions_are_read(tmp_path):
    facts = trained_on(RECORDS, 1)
    old = {key: facts[key] for key in ("images", "identities", "fingerprint", "processes")}
    (tmp_path / "trained_on.json").write_text(json.dumps(old))

    keep_or_check(tmp_path, trained_on(RECORDS, 1), resumes=True)
