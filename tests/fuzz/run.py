"""Fuzz every door: ``python -m fuzz.run --seconds 600 --seed 1``.

Inputs are opened in a worker of bounded memory. An input is a finding if it raises anything but a
ValueError, OSError or ImportError of one line, if it takes more than ten seconds, if it ends the
worker, or if a neutral rewrite has another content. Findings are saved, and can be replayed::

    python -m fuzz.run --replay build/fuzz/csv-1-57.csv --door csv
"""

import argparse
import json
import multiprocessing as mp
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

from fuzz.doors import DOORS
from fuzz.mutations import generator_of, mutate

_SECONDS_AN_INPUT = 10
_SECONDS_OF_SILENCE = 30  # for code that no signal interrupts
_MEMORY = 3 << 30  # of a worker, above what it has at its start
_ROUND = 40  # inputs of a door, before the next door


class Finding(NamedTuple):
    """An input that broke a rule.

    Attributes:
        door: Name of the door.
        index: Number of the input, which with the seed decides its bytes.
        problem: What happened, with the traceback if there is one.
    """

    door: str
    index: int
    problem: str


class _TooLongError(BaseException):
    """An input that takes too long; no ``except Exception`` catches it."""


def input_of(seed, name, index):
    """The bytes of an input, and what they must be equal to (``None`` if nothing)."""
    door = DOORS[name]
    seeds = door.seeds()
    rng = generator_of(seed, name, index)
    source = rng.choice(seeds)

    if door.neutral and index % 20 == 0:
        return rng.choice(door.neutral)(source), source
    return mutate(source, seeds, rng), None


def problem_of(door, content, equal_to, folder):
    """Open an input; return what is wrong, or ``None``."""
    path = Path(folder) / door.file
    try:
        if equal_to is not None:
            path.write_bytes(equal_to)
            want = door.open(path)
            path.write_bytes(content)
            return None if door.open(path) == want else "a neutral rewrite has another content"

        path.write_bytes(content)
        door.open(path)
    except (ValueError, OSError, ImportError) as error:
        if equal_to is not None:
            return f"a neutral rewrite is refused: {error}"
        return _fault_of_text(error, 3000 + 2 * len(content))
    except _TooLongError:
        return f"it takes more than {_SECONDS_AN_INPUT} seconds\n{traceback.format_exc()}"
    except BaseException:  # noqa: BLE001 (that is what is looked for)
        return traceback.format_exc()

    return None


def _fault_of_text(error, longest):
    """What is wrong with the text of an error: foreign, empty, of several lines, or too long."""
    text = str(error)
    if isinstance(error, UnicodeError | json.JSONDecodeError):
        return f"a foreign {type(error).__name__}\n{traceback.format_exc()}"
    if not text.strip():
        return f"an empty {type(error).__name__}\n{traceback.format_exc()}"
    if len(text.splitlines()) != 1:
        return f"an error of {len(text.splitlines())} lines\n{traceback.format_exc()}"
    if len(text) > longest:
        return f"an error of {len(text)} characters\n{text[:500]}"
    return None


def fuzz(name, seed, indices, *, say=lambda finding: None):
    """Open inputs of one door in a worker; restart it when an input ends it."""
    findings = []
    pending = list(indices)

    while pending:
        receiver, sender = mp.get_context("fork").Pipe(duplex=False)
        process = mp.get_context("fork").Process(target=_work, args=(name, seed, pending, sender))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
            process.start()
        sender.close()

        done, problem = _watch(process, receiver, len(pending), findings, say)
        if problem is not None:
            finding = Finding(name, pending[done], problem)
            findings.append(finding)
            say(finding)
            done += 1
        pending = pending[done:]

    return findings


def _watch(process, receiver, count, findings, say):
    """Read what a worker finds; return how many inputs it finished, and why it stopped early."""
    done = 0
    try:
        while done < count:
            if not receiver.poll(_SECONDS_OF_SILENCE):
                return done, f"no answer for {_SECONDS_OF_SILENCE} seconds"

            index, name, problem = receiver.recv()
            done += 1
            if problem is not None:
                findings.append(Finding(name, index, problem))
                say(findings[-1])
    except EOFError:
        process.join(10)
        return done, f"it ended the worker, exit code {process.exitcode}"
    finally:
        if done < count:
            process.kill()
        process.join()

    return done, None


def _work(name, seed, indices, sender):
    """Open inputs one by one, and report each."""
    _bound_memory()
    signal.signal(signal.SIGALRM, _raise_too_long)
    warnings.simplefilter("ignore")
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)  # libtiff and others write there

    with tempfile.TemporaryDirectory() as folder:
        for index in indices:
            content, equal_to = input_of(seed, name, index)
            signal.alarm(_SECONDS_AN_INPUT)
            problem = problem_of(DOORS[name], content, equal_to, folder)
            signal.alarm(0)
            sender.send((index, name, problem))


def _bound_memory():
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _raise_too_long(signum, frame):
    raise _TooLongError


def save(finding, seed, folder):
    """Save an input, and return its path."""
    content, _ = input_of(seed, finding.door, finding.index)
    suffix = Path(DOORS[finding.door].file).suffix
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.door}-{seed}-{finding.index}{suffix}"
    path.write_bytes(content)
    path.with_suffix(".txt").write_text(finding.problem, encoding="utf-8")
    return path


def main(arguments=None):
    """Fuzz all doors in turn until the time is up; return 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", choices=DOORS)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--replay", type=Path, help="open this saved input with --door")
    options = parser.parse_args(arguments)

    if options.replay is not None:
        with tempfile.TemporaryDirectory() as folder:
            content = options.replay.read_bytes()
            problem = problem_of(DOORS[options.door], content, None, folder)
        print(problem or "no finding")
        return int(problem is not None)

    def say(finding):
        path = save(finding, options.seed, options.folder)
        last = finding.problem.strip().splitlines()[-1][:200]
        print(
            f"{finding.door} seed {options.seed} input {finding.index}: {last} ({path})", flush=True
        )

    names = [options.door] if options.door else list(DOORS)
    counts = dict.fromkeys(names, 0)
    num_findings = 0
    end = time.monotonic() + options.seconds

    while time.monotonic() < end:
        for name in names:
            indices = range(counts[name], counts[name] + _ROUND)
            num_findings += len(fuzz(name, options.seed, indices, say=say))
            counts[name] += _ROUND
            if time.monotonic() >= end:
                break

    print("inputs:", ", ".join(f"{name} {count}" for name, count in counts.items()))
    print(f"{sum(counts.values())} inputs, {num_findings} findings")
    return int(num_findings > 0)


if __name__ == "__main__":
    sys.exit(main())
