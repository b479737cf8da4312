"""Kills, full disks and pauses at any instant: the same bits, or one line of error."""

import errno
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from forked import started
from safetensors.torch import load_file
from tiny import write_recipe

from examples.settings.recipe import load_recipe
from examples.trainer import run as trainer
from examples.trainer.__main__ import main

NAMES = ("metrics.jsonl", "prompt/metrics.jsonl")


def settings(images, *changes):
    """Options of a command line that trains on the shared images, to the bit on a GPU too."""
    fixed = (
        "data.source=table",
        f"data.root={images}/records.csv",
        "track.console=nothing",
        "deterministic=true",
    )
    return [word for change in (*fixed, *changes) for word in ("--set", change)]


def done(out):
    """Epochs that were completed, of all phases."""
    return sum(
        len((out / name).read_text().splitlines()) for name in NAMES if (out / name).exists()
    )


def content(out):
    """Everything that a run leaves but times: weights that an index names, and rows."""
    found = {}
    pointed = {
        path.parent / name
        for path in out.rglob("index.json")
        for which, name in json.loads(path.read_text()).items()
        if which in ("last", "best")
    }
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".safetensors" and path.parent in pointed:
            found |= {
                f"{name}/{key}": value.numpy().tobytes() for key, value in load_file(path).items()
            }
        elif path.suffix == ".jsonl":
            found[name] = [json.loads(line) for line in path.read_text().splitlines()]
            for row in found[name]:
                for key in ("seconds", "images_per_second"):
                    row.pop(key, None)
    return found | {"results.json": (out / "results.json").read_text()}


def kill_until_done(folder, path, options, kills, rng, late):
    """Kill a run at random instants, go on each time, and let it end at last.

    However fast the machine is, the first three kills come after one more epoch each, and the
    second half of them after ``late`` epochs.

    Returns:
        After how many epochs each kill came.
    """
    whole, killed, errors = folder / "whole", folder / "killed", folder / "errors.txt"
    with started(path, "--out", whole, *options, errors=errors) as process:
        process.join(900)
        assert process.exitcode == 0, errors.read_text()
    came = []
    for attempt in range(kills + 1):
        before = done(killed)
        with started(
            path, "--out", killed, *options, *(["--resume"] if attempt else []), errors=errors
        ) as process:
            if attempt == kills:
                process.join(900)
                assert process.exitcode == 0, errors.read_text()
                break
            wanted = before + (1 if attempt < 3 else rng.choice([0, 0, 1]))
            if attempt >= kills // 2:
                wanted = max(wanted, late)
            while done(killed) < wanted and process.exitcode is None:
                time.sleep(0.002)
            if attempt >= 3:  # some instant of start, epoch, save, validation or report
                process.join(rng.random() * 0.6)
            process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL), errors.read_text()
            came.append(done(killed))
    found, expected = content(killed), content(whole)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    return came


@pytest.mark.slow
def test_twelve_kills(tmp_path, images):
    """With everything that has a state: average, centres, memory, patience, dropout, a worker."""
    path = write_recipe(tmp_path, "classifier")
    options = settings(
        images,
        "optim.ema_decay=0.8",
        "teacher.source=average",
        "loss.center=0.1",
        "loss.prototype=0.5",
        "accumulate=2",
        "evaluate.patience=3",
        "evaluate.every=2",
        "head.dropout=0.5",
        "data.workers=1",
        "optim.epochs=14",
        "optim.optimizer=adam",
    )
    came = kill_until_done(tmp_path, path, options, 12, random.Random(7), late=7)
    assert len({count for count in came if 0 < count < 14}) >= 3


@pytest.mark.slow
def test_kills_in_both_phases(tmp_path, images):
    path = write_recipe(tmp_path, "clip_reid")
    options = settings(
        images,
        "prompt.epochs=6",
        "optim.epochs=5",
        "loss.center=0.1",
        "prompt.shared_tokens=1",
        "head.std=0.1",
        "loss.supcon=0.1",
        "loss.ramp_epochs=3",
    )
    came = kill_until_done(tmp_path, path, options, 8, random.Random(3), late=7)
    assert {count < 6 for count in came} == {True, False}


def kill_between_two_minings(folder, images, *changes):
    path = write_recipe(folder, "retrieval")
    options = settings(
        images,
        "mining.refresh_epochs=2",
        "optim.epochs=5",
        "optim.lr=1e-2",
        "loss.triplet_text=1",
        "data.caption=figure {identity} by camera {camera}",
        *changes,
    )
    came = kill_until_done(folder, path, options, 5, random.Random(5), late=3)
    assert any(count % 2 for count in came)


@pytest.mark.slow
def test_kills_between_two_minings(tmp_path, images):
    kill_between_two_minings(tmp_path, images, "mining.data=triplet", "mining.margin=1.5")


def command(capsys, *arguments):
    code = main(list(map(str, arguments)))
    return code, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["classifier", "clip_reid"])
def test_another_recipe_is_refused(tmp_path, images, capsys, monkeypatch, stage):
    """In the first phase, too."""
    monkeypatch.setattr(trainer, "write_run_report", lambda *_, **__: None)
    path, out = write_recipe(tmp_path, stage), tmp_path / "run"

    class StopError(ValueError):
        pass

    original = Path.replace

    def until_the_first_epoch(source, target):
        original(source, target)
        if Path(target).name == "metrics.jsonl":
            raise StopError("enough")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", until_the_first_epoch)
        assert command(capsys, path, "--out", out, *settings(images))[0] == 2
    assert done(out) == 1
    code, text = command(
        capsys, path, "--out", out, "--resume", *settings(images, "loss.triplet=0.5")
    )
    assert code == 2
    assert "the run to resume has other settings (loss)" in text
    code, text = command(capsys, path, "--out", out, *settings(images))
    assert code == 2
    assert "Continue it with --resume" in text
    assert command(capsys, path, "--out", out, "--resume", *settings(images))[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["classifier", "clip_reid"])
def test_a_disk_that_is_full_again_and_again(tmp_path, images, capsys, monkeypatch, stage):
    """The n-th write fails, for every n: one line each time, and finally the undisturbed run."""
    monkeypatch.setattr(trainer, "write_run_report", lambda *_, **__: None)
    path = write_recipe(tmp_path, stage)
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert command(capsys, path, "--out", whole, *settings(images))[0] == 0
    failures = 0
    for count in range(1, 60):
        calls = []

        def full(_, calls=calls, count=count):
            calls.append(count)
            if len(calls) == count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        code, text = command(capsys, path, "--out", out, "--resume", *settings(images))
        if code == 0:
            break
        failures += 1
        assert code == 2
        assert text.startswith("error: ")
        assert text.count("\n") == 1
        assert "No space left" in text
        assert not list(out.rglob(".*.tmp"))[1:], (
            "what was half written is cleared, or replaced by the next"
        )
    assert failures >= 10
    assert content(out) == content(whole)


@pytest.mark.slow
def test_full_disk_in_earnest(tmp_path, images):
    """The operating system refuses: the weights fit, the optimiser's state does not."""
    path, errors = write_recipe(tmp_path), tmp_path / "errors.txt"
    with started(
        path, "--out", tmp_path / "run", *settings(images), errors=errors, file_limit=20_000_000
    ) as process:
        process.join(600)
        assert process.exitcode == 2
    assert errors.read_text().startswith("error: ")
    assert errors.read_text().count("\n") == 1
    assert not (tmp_path / "run" / "checkpoints" / "index.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="/proc and permissions are POSIX")
def test_a_folder_that_takes_nothing(tmp_path, images, capsys):
    write_recipe(tmp_path)
    (tmp_path / "file").touch()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    places = [
        tmp_path / "file" / "run",
        Path("/proc/run"),
        *([closed / "run"] if os.geteuid() else []),
    ]
    for place in places:
        code, text = command(capsys, tmp_path / "tiny.yaml", "--out", place, *settings(images))
        assert code == 2
        assert text.startswith("error: ")
        assert text.count("\n") == 1
        assert str(place) in text


@pytest.mark.slow
def test_interrupt_says_how_to_go_on(tmp_path, images):
    path, errors = write_recipe(tmp_path), tmp_path / "errors.txt"
    out = tmp_path / "run"
    with started(
        path, "--out", out, *settings(images, "optim.epochs=40"), errors=errors
    ) as process:
        while done(out) == 0:
            assert process.exitcode is None, errors.read_text()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        process.join(600)
        assert process.exitcode == 130
    assert f"--resume --out {out}" in errors.read_text()


@pytest.mark.slow
def test_a_lost_row_of_metrics_comes_back(tmp_path, images, capsys, monkeypatch):
    monkeypatch.setattr(trainer, "write_run_report", lambda *_, **__: None)
    write_recipe(tmp_path)
    out, options = tmp_path / "run", settings(images)
    assert command(capsys, tmp_path / "tiny.yaml", "--out", out, *options)[0] == 0
    whole = content(out)
    (out / "metrics.jsonl").unlink()
    assert command(capsys, tmp_path / "tiny.yaml", "--out", out, "--resume", *options)[0] == 0
    assert content(out) == whole


@pytest.mark.slow
def test_going_back_to_a_kept_checkpoint(tmp_path, images, monkeypatch):
    """The run goes on from there, and ends as if it had never been further."""
    monkeypatch.setattr(trainer, "write_run_report", lambda *_, **__: None)
    recipe = load_recipe(write_recipe(tmp_path), settings(images, "track.checkpoint_every=1")[1::2])
    out = tmp_path / "run"
    trainer.run(recipe, out)
    whole = content(out)
    kept = json.loads((out / "checkpoints" / "index.json").read_text())["kept"]
    assert list(kept) == ["epoch-0001", "epoch-0002"]
    assert kept["epoch-0001"] == "epoch-0001"

    with pytest.raises(ValueError, match=r"no checkpoint 'epoch-0009' to go back to; it keeps"):
        trainer.run(recipe, out, resume=True, checkpoint="epoch-0009")

    trainer.run(recipe, out, resume=True, checkpoint="epoch-0001")
    assert content(out) == whole
    assert "resumed" in (out / "train.log").read_text()
