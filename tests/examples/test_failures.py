"""Errors during a run: one line that says what is wrong, and the traceback in a file."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from tiny import tiny_images, write_recipe

from clipreid_kit.data import dataset
from examples.trainer import run as trainer
from examples.trainer.__main__ import _second_interrupt_ends, main
from examples.trainer.failures import one_line_errors, sentence_of_failure

FORKS = pytest.mark.skipif(
    multiprocessing.get_start_method() != "fork", reason="what is patched is inherited by a fork"
)


def raised(error):
    """An error as another library raises it."""
    frame = {"error": error, "__name__": "torch.somewhere"}
    try:
        exec("raise error", frame)
    except type(error) as caught:
        return caught


WORKER = (
    "Caught {name} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    '  File "a.py", line 3, in b\n    c()\n{module}{name}: {text}\n'
)
NO_DETERMINISTIC = (
    "histc_cuda does not have a deterministic implementation, but you set "
    "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this ..."
)
SHARED = "unable to allocate shared memory(shm) for file </torch_1_2>: No space left"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "was killed ("),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "Lower data.workers"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "/dev/shm"),
        (RuntimeError("unable to write to file </torch_1_2_3>: No space left"), "docker run"),
        (RuntimeError(WORKER.format(name="RuntimeError", module="", text=SHARED)), "/dev/shm"),
        (RuntimeError("CUDA out of memory. Tried\nmore"), "Lower model.image_size"),
        (RuntimeError(NO_DETERMINISTIC), "but histc_cuda has no deterministic implementation"),
        (MemoryError(), "Lower model.image_size"),
        (ValueError("Expected more than 1 value per channel"), "ValueError: Expected more than 1"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)  # fmt: skip
def test_an_error_of_another_library(error, words):
    sentence = sentence_of_failure(raised(error))
    assert words in sentence
    assert "\n" not in sentence


def test_an_error_in_a_worker_is_its_own_text():
    text = "load_image: cannot read a.jpg: it is truncated.\n  Restore it."
    whole = WORKER.format(name="ValueError", module="a.b.", text=text)
    assert sentence_of_failure(raised(ValueError(whole))) == (
        "load_image: cannot read a.jpg: it is truncated. Restore it. `data.check: raise` finds "
        "such files before the training."
    )


def test_sentences_and_errors_of_the_disk_stay_as_they_are():
    with pytest.raises(ValueError, match="there are no records") as found:
        dataset.ReidDataset([], print)
    assert sentence_of_failure(found.value) is None
    assert sentence_of_failure(raised(OSError(errno.ENOSPC, "No space left"))) is None


def test_the_traceback_of_an_unforeseen_error_is_kept(tmp_path):
    (tmp_path / "error.log").write_text("old")
    with (
        pytest.raises(ValueError, match=r"KeyError: 'x' The traceback is in .*error\.log\."),
        one_line_errors(tmp_path),
    ):
        raise KeyError("x")
    assert "KeyError: 'x'" in (tmp_path / "error.log").read_text()

    with one_line_errors(tmp_path):
        assert not (tmp_path / "error.log").exists()

    with pytest.raises(ValueError, match=r"KeyError: 'x'$"), one_line_errors(tmp_path / "no" / "x"):
        raise KeyError("x")
    with pytest.raises(ValueError, match="error-2"), one_line_errors(tmp_path, rank=2):
        raise KeyError("x")


@pytest.fixture
def images(tmp_path):
    return tiny_images(tmp_path / "images")


def answer(capsys, tmp_path, images, *changes):
    fixed = ("data.source=table", f"data.root={images}/records.csv", "track.console=nothing")
    words = [word for change in (*fixed, *changes) for word in ("--set", change)]
    code = main([str(write_recipe(tmp_path)), "--out", str(tmp_path / "run"), *words])
    text = capsys.readouterr().err
    assert code == 2, text
    assert text.startswith("error: ")
    assert text.count("\n") == 1, text
    return text


def training_image(images):
    line = next(row for row in (images / "records.csv").read_text().splitlines() if ",train" in row)
    return images / line.split(",")[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_cut_short(tmp_path, capsys, images, workers):
    path = training_image(images)
    path.write_bytes(path.read_bytes()[:200])
    text = answer(capsys, tmp_path, images, f"data.workers={workers}")
    assert f"load_image: cannot read {path}" in text
    assert "load_image" in (tmp_path / "run" / "error.log").read_text()


def test_an_image_that_vanishes(tmp_path, capsys, images, monkeypatch):
    original, path = trainer._evaluate, training_image(images)

    def without_the_image(*arguments, **options):
        path.unlink(missing_ok=True)
        return original(*arguments, **options)

    monkeypatch.setattr(trainer, "_evaluate", without_the_image)
    text = answer(capsys, tmp_path, images, "data.workers=1")
    assert f"load_image: cannot read {path}: there is no such file" in text


@FORKS
def test_a_process_that_is_killed(tmp_path, capsys, images, monkeypatch):
    original = dataset.load_image

    def killed(path):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(path)

    monkeypatch.setattr(dataset, "load_image", killed)
    text = answer(capsys, tmp_path, images, "data.workers=1")
    assert "A process that loads images was killed" in text
    assert "Lower data.workers" in text
    assert f"The traceback is in {tmp_path / 'run' / 'error.log'}." in text


def test_a_run_that_another_process_writes(tmp_path, capsys, images, monkeypatch):
    def held(*_):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("process 77 on here\n")
    monkeypatch.setattr("fcntl.lockf", held)
    text = answer(capsys, tmp_path, images)
    assert "process 77 on here is writing to this run" in text
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock"]


def test_a_folder_whose_name_is_not_utf8(tmp_path, capsys):
    out = os.fsdecode(os.fsencode(tmp_path / "run") + b"\xff")
    assert main([str(write_recipe(tmp_path)), "--out", out]) == 2
    assert r"run\xff is not UTF-8. Rename the folder." in capsys.readouterr().err
    assert not Path(out).exists()
    assert main([str(write_recipe(tmp_path)), "--out", "x", "--data", out]) == 2
    assert "--data: the name" in capsys.readouterr().err


@pytest.fixture
def handlers():
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handlers")
def test_a_second_interrupt_ends_quietly(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with _second_interrupt_ends() as interrupted, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert interrupted.is_set()
    assert codes == []
    with pytest.raises(KeyboardInterrupt):  # os._exit returns here
        signal.raise_signal(signal.SIGINT)
    assert codes == [130]


@pytest.mark.usefixtures("handlers")
def test_without_an_interrupt_the_handler_is_restored():
    with _second_interrupt_ends():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("handlers")
def test_what_an_interrupt_breaks_is_not_an_error(tmp_path, capsys, images, monkeypatch):
    def broken(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            raise RuntimeError("DataLoader worker (pid 7) exited unexpectedly")

    monkeypatch.setattr("examples.trainer.__main__.run", broken)
    code = main([str(write_recipe(tmp_path)), "--out", str(tmp_path / "run")])
    assert code == 130
    assert "interrupted: go on with --resume" in capsys.readouterr().err
