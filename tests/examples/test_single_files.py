"""The single files run, gain, stay short, and stand in the docs as they are."""

import importlib
import importlib.util
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "in_your_code.md").read_text(encoding="utf-8")
FILES = ["plain_loop", "own_loss_own_data", "two_processes", "with_lightning", "with_transformers"]


def missing(package):
    reason = f"{package} is not installed"
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=reason)


def run_main(name, **options):
    """Results before and after, of a short training on one thread."""
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return importlib.import_module(f"examples.{name}").main(**options)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


@pytest.mark.parametrize("name", FILES)
def test_short_and_in_the_docs_as_it_is(name):
    path = ROOT / "examples" / f"{name}.py"
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    assert f'--8<-- "examples/{name}.py"' in PAGE
    assert f"python -m examples.{name}" in text or f"-m examples.{name}." in text
    assert not re.search(r"clipreid_kit\._|import _", text)  # public names only


def test_the_docs_show_no_other_file():
    assert sorted(re.findall(r'--8<-- "examples/(\w+)\.py"', PAGE)) == sorted(FILES)


def test_plain_loop(capsys):
    before, after = run_main("plain_loop", num_identities=60, epochs=5)
    assert after.mean_ap > before.mean_ap + 0.05
    assert after.num_valid_queries == 60
    assert capsys.readouterr().out.count("loss") == 5


def test_own_loss_own_data(capsys):
    before, after = run_main("own_loss_own_data", num_identities=64, epochs=8)
    assert after.mean_ap > before.mean_ap + 0.1
    assert re.search(r"epoch 8: pairs 0\.\d+ triplet 0\.\d+", capsys.readouterr().out)


@missing("lightning")
def test_with_lightning():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice and its use of older torch
        before, after = run_main("with_lightning", num_identities=48, epochs=6)
    assert after.mean_ap > before.mean_ap + 0.05


@missing("transformers")
def test_with_transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = run_main("with_transformers", num_identities=48, epochs=8)
    assert after.mean_ap > before.mean_ap + 0.05


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch has no gloo here")
def test_two_processes():
    """That each result equals the one of all embeddings in one process is checked by the file itself."""
    code = "import torch; torch.set_num_threads(1); from examples.two_processes import main; main(60, 4)"
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
    ]
    done = subprocess.run(
        [*launch, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("processes: 2\nbefore ")
    before, after = (float(found) for found in re.findall(r"mAP (\S+)", done.stdout))
    assert after > before + 5
