"""The trainer is written out with its tests, which pass in the folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipreid_kit.cli.examples import write_examples

ROOT = Path(__file__).parents[2]


def files(folder):
    return {
        path.relative_to(folder)
        for part in ("examples", "tests/examples")
        for path in (folder / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_folder(clipreid, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    status, text, _ = clipreid("examples", folder)

    assert status == 0
    assert text.startswith(f"{folder} holds the trainer")
    assert files(folder) == files(ROOT)
    assert (folder / "tests" / "conftest.py").is_file()

    status, _, error = clipreid("examples", folder)
    assert (status, error) == (1, f"error: examples: {folder} is not empty. Name a new folder.\n")

    monkeypatch.chdir(folder)
    status, _, error = clipreid("train", "none/such")
    assert status == 1
    assert error.startswith(f"clipreid runs the trainer in {ROOT / 'examples'}. The copy in this")


@pytest.mark.slow
def test_its_tests_pass_there(tmp_path):
    write_examples(tmp_path)
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            *["tests/examples/test_alarms.py", "tests/examples/test_captions.py"],
            *["tests/examples/test_recipe.py", "tests/examples/test_plugin.py", "-k", "not run"],
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
