"""Kill training, an index and writers at random instants: ``python -m fuzz.kills --kills 50``.

After each kill, everything that was said to be done must be there (else it is *lost*), and what is
there must be readable (else it is *unreadable*). A training run is resumed after each kill, and has
to end with the very content of a run that nobody killed.
"""

import argparse
import json
import multiprocessing as mp
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from clipreid_kit.clip import ClipTowers, TrainingCheckpoints, load_towers, save_towers
from clipreid_kit.data import (
    ImageRecord,
    PromptTable,
    SplitManifest,
    SyntheticReid,
    read_split,
    read_table,
    write_csv,
    write_split,
    write_table,
)
from clipreid_kit.retrieval import GalleryIndex
from examples.trainer.__main__ import main as train

_ROWS = 20  # of a table, and of a batch of the index
_LONGEST = 600  # seconds of a step that nobody kills

_RECIPE = """
note: A run of seconds, to be killed.
stage: classifier
data: {source: table}
"""

_SETTINGS = (
    "data.workers=0",
    "model.name=reid-tiny-resnet",
    "model.image_size=[32, 32]",
    "batch.num_identities=4",
    "batch.num_instances=2",
    "loss.id=1.0",
    "loss.triplet=1.0",
    "optim.epochs=6",
    "optim.warmup_epochs=1",
    "optim.ema_decay=0.8",
    "evaluate.every=2",
    "track.console=nothing",
)


# Each kill is one attempt: a process works, says what it has done, and is killed.


def killed_while(work, folder, rng, longest):
    """Run ``work(folder, say)`` in a process, kill it, and return the last number that it said."""
    context = mp.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(work, folder, sender))
    process.start()
    sender.close()

    process.join(rng.random() * longest)
    process.kill()
    process.join()

    said = None
    try:
        while receiver.poll():
            said = receiver.recv()
    except (EOFError, OSError):  # the last message is cut
        pass
    return said, process.exitcode


def _work(work, folder, sender):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (until the process ends)
    work(folder, sender.send)


# The index: batches are added, each 20 rows of its number; every third is removed again.


def add_batches(folder, say):
    """Add batches to the index until killed, and say how many there are."""
    store = folder / "gallery"
    if not store.exists():
        GalleryIndex.build(_batch(0), store=store)
    index = GalleryIndex.open(store)
    count = index.info().num_images + index.info().num_removed
    while True:
        index.add(_batch(count // _ROWS))
        count += _ROWS
        say(count)
        if count % (3 * _ROWS) == 0:
            index.remove([count - 1])


def _batch(number):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(_ROWS, 8, generator=generator)


def check_index(folder, said):
    """Return what is wrong with the index, or an empty string."""
    store = folder / "gallery"
    if not store.exists():
        return "" if said is None else "lost: there is no index"

    index = GalleryIndex.open(store)
    info = index.info()
    count = info.num_images + info.num_removed
    if count < (said or 0):
        return f"lost: {count} rows of {said}"
    if count % _ROWS:
        return f"unreadable: a part of a batch, {count} rows"

    for number in range(max(0, count // _ROWS - 3), count // _ROWS):
        rows = _batch(number)[:2]  # the last of a batch may be removed
        hits = index.search(rows, k=1).keys[:, 0].tolist()
        if hits != [number * _ROWS, number * _ROWS + 1]:
            return f"unreadable: batch {number} has other rows"
    return ""


# Writers: each file is written again and again, with its version inside.


def write_versions(folder, say):
    """Write every kind of file again and again, and say the version that is complete."""
    version = _version(folder)
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(32, 32))
    layer = nn.Linear(64, 64)
    checkpoints = TrainingCheckpoints(folder / "checkpoints")
    while True:
        version += 1
        records = [ImageRecord(f"{version}.jpg", row, split="train") for row in range(_ROWS)]
        write_csv(records, folder / "a.csv")
        write_table(records, folder / "a.json")
        write_table(records, folder / "a.jsonl")
        manifest = SplitManifest("data", "rule", version, {"train": ("a.jpg",) * 500}, "")
        write_split(manifest, folder / "split.json")
        PromptTable({str(row): f"version {version}" for row in range(_ROWS)}).write(
            folder / "texts.json"
        )
        checkpoints.save(version, layer, {"epoch": version}, best=version % 2 == 0)
        save_towers(towers, folder / "towers", extra={"version": version})
        say(version)


def _version(folder):
    """The last version that every file had."""
    versions = [version for version in _versions(folder).values() if version is not None]
    return max(versions, default=0)


def _versions(folder):
    """The version in each file; ``None`` for one that does not exist."""
    found = {}
    for name in ("a.csv", "a.json", "a.jsonl"):
        found[name] = _if_there(folder / name, lambda path: _of_table(read_table(path)))
    found["split"] = _if_there(folder / "split.json", lambda path: read_split(path).seed)
    found["texts"] = _if_there(folder / "texts.json", _of_texts)
    found["towers"] = _if_there(folder / "towers" / "card.json", _of_towers)
    checkpoints = TrainingCheckpoints(folder / "checkpoints")
    found["checkpoints"] = _of_checkpoints(checkpoints) if checkpoints.exists() else None
    return found


def _if_there(path, read):
    return read(path) if path.exists() else None


def _of_table(records):
    versions = {int(Path(record.path).stem) for record in records}
    if len(records) != _ROWS or len(versions) != 1:
        raise ValueError(f"{len(records)} records of the versions {versions}")
    return versions.pop()


def _of_texts(path):
    texts = json.loads(path.read_text(encoding="utf-8"))
    (version,) = {int(text.split()[1]) for text in texts.values()}
    return version


def _of_towers(path):
    return load_towers(path.parent) and json.loads(path.read_text())["extra"]["version"]


def _of_checkpoints(checkpoints):
    checkpoints.load("last", nn.Linear(64, 64))
    checkpoints.load("best", nn.Linear(64, 64))
    return checkpoints.state()["epoch"]


def check_versions(folder, said):
    """Return what is wrong with the files, or an empty string."""
    for name, version in _versions(folder).items():
        if version is None and said is None:
            continue
        # Each is that of the last complete version, or of the next one.
        if version is None or version < (said or 0):
            return f"lost: {name} has version {version} after {said}"
    return ""


# Training: resumed after each kill, and compared with a run that nobody killed.


def train_on(folder, say):
    """Train, or go on; say nothing."""
    out = folder / "run"
    resumes = (out / "checkpoints" / "index.json").exists()
    say(train([*_command(folder), "--out", str(out), *(["--resume"] if resumes else [])]))


def _command(folder):
    settings = (*_SETTINGS, f"data.root={folder.parent}/images/records.csv")
    return [str(folder.parent / "recipe.yaml"), *(w for s in settings for w in ("--set", s))]


def prepare_training(folder):
    """Write the images and the recipe, and run it once without a kill."""
    images = folder / "images"
    records = SyntheticReid(20, views_per_camera=2, seed=0).write(images)
    write_csv(records, images / "records.csv", relative_to=images)
    (folder / "recipe.yaml").write_text(_RECIPE)

    whole = folder / "whole"
    whole.mkdir()
    start = time.monotonic()
    code = _finish(whole)
    if code != 0:
        raise RuntimeError(f"the run without a kill ended with {code}")
    return content_of(whole / "run"), time.monotonic() - start


def _finish(folder):
    """Run to the end; return the exit code that the trainer said."""
    context = mp.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(train_on, folder, sender))
    process.start()
    sender.close()
    process.join(_LONGEST)
    return receiver.recv() if receiver.poll() else process.exitcode


def content_of(run):
    """Weights that are named, logged numbers, and results of a run."""
    found = {"results": (run / "results.json").read_text()}
    index = json.loads((run / "checkpoints" / "index.json").read_text())
    for name in set(index.values()):
        for path in sorted((run / "checkpoints" / name).glob("*.safetensors")):
            for key, tensor in load_file(path).items():
                found[f"{name}/{path.name}/{key}"] = tensor.numpy().tobytes()

    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = ("seconds", "images_per_second")
    found["rows"] = [{key: row[key] for key in row if key not in times} for row in rows]
    return found


def kill_training(folder, kills, rng, until):
    """Kill a run again and again, let it end, and compare; yield what each kill showed."""
    expected, seconds = prepare_training(folder)
    number = 0
    while number < kills and time.monotonic() < until:
        number += 1
        attempt = folder / f"attempt{number}"
        attempt.mkdir()
        num_here = min(rng.randint(2, 5), kills - number + 1)
        for _ in range(num_here):
            said, _ = killed_while(train_on, attempt, rng, 0.5 * seconds)
            if said not in (None, 0):
                yield f"unreadable: the resumed run ended with {said}"
            number += 1
            yield ""
        number -= 1

        if not (attempt / "run" / "results.json").exists() and _finish(attempt) != 0:
            yield "unreadable: the run does not go on"
        elif content_of(attempt / "run") != expected:
            yield "lost: the run has another content than one that nobody killed"


def kill_files(work, check, longest):
    """Return a function that kills a process that writes files, and checks them."""

    def kill(folder, kills, rng, until):
        said = None
        for _ in range(kills):
            if time.monotonic() > until:
                return
            latest, _ = killed_while(work, folder, rng, longest)
            said = said if latest is None else latest
            yield problem_of(check, folder, said)

    return kill


def problem_of(check, folder, said):
    """Check; what cannot be read is a problem."""
    try:
        return check(folder, said)
    except (ValueError, OSError, KeyError) as error:
        return f"unreadable: {type(error).__name__}: {error}"


SUBJECTS = {
    "writers": kill_files(write_versions, check_versions, 4.0),
    "index": kill_files(add_batches, check_index, 2.0),
    "training": kill_training,
}


def main(arguments=None):
    """Kill each subject in turn; print the figures; return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of all subjects together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=900.0, help="after which it ends")
    parser.add_argument("--subject", choices=SUBJECTS)
    options = parser.parse_args(arguments)

    names = [options.subject] if options.subject else list(SUBJECTS)
    end = time.monotonic() + options.seconds
    problems = 0
    for number, name in enumerate(names):
        share = (options.kills + number) // len(names)
        until = time.monotonic() + (end - time.monotonic()) / (len(names) - number)
        counts = Counter()
        rng = random.Random(f"{options.seed} {name}")
        with tempfile.TemporaryDirectory() as folder:
            for problem in SUBJECTS[name](Path(folder), share, rng, until):
                counts[problem.partition(":")[0] or "sound"] += 1
                if problem:
                    print(f"{name}: {problem}", flush=True)

        lost, unreadable = counts["lost"], counts["unreadable"]
        kills = counts["sound"] + (0 if name == "training" else lost + unreadable)
        print(f"{name}: {kills} kills, {lost} lost, {unreadable} unreadable", flush=True)
        problems += lost + unreadable
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
