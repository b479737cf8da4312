"""The examples of one file run, improve the model, stay short, and are in the docs as they are."""

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
from pages import page
from PIL import Image

from clipreid_kit.data import SyntheticReid
from examples.example_images import read_images

# The gain is that of the models as they are.
pytestmark = pytest.mark.full_width

ROOT = Path(__file__).parents[2]
METHODS = ["finetune_clip", "clip_reid", "prompt_sg"]
PARTS = [
    "own_loss_own_data",
    "frozen_prefix",
    "two_processes",
    "with_lightning",
    "with_transformers",
]
PAGES = {
    "examples": [*METHODS, "example_images"],
    "in_your_code": [name for name in PARTS if name != "frozen_prefix"],
}


def source(name):
    return (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")


def missing(package):
    reason = f"{package} is not installed"
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=reason)


def run_main(name, *arguments, **options):
    """Results before and after a short training run on one thread."""
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return importlib.import_module(f"examples.{name}").main(*arguments, **options)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return SyntheticReid(80, views_per_camera=2).write(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_fits_on_one_screen(name):
    assert len(source(name).splitlines()) <= 100
    assert f"python -m examples.{name} [IMAGES]" in source(name)


@pytest.mark.parametrize("name", [*METHODS, *PARTS])
def test_examples_use_public_names_only(name):
    assert f"-m examples.{name}" in source(name)
    assert not re.search(r"clipreid_kit\._|import _", source(name))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_its_files_and_no_other(name):
    assert re.findall(r'--8<-- "examples/(\w+)\.py"', page(f"{name}.md")) == PAGES[name]


@pytest.mark.slow
def test_finetune_clip(records, capsys):
    before, after = run_main("finetune_clip", records, epochs=5)
    assert after.mean_ap > before.mean_ap + 0.05
    assert capsys.readouterr().out.count(": loss ") == 5


@pytest.mark.slow
def test_clip_reid(records, capsys):
    before, after = run_main("clip_reid", records, prompt_epochs=2, epochs=4)
    assert after.mean_ap > before.mean_ap + 0.05

    printed = capsys.readouterr().out
    assert printed.count("prompts, epoch") == 2
    assert printed.count("image tower, epoch") == 4


@pytest.mark.slow
def test_prompt_sg(records, capsys):
    before, after = run_main("prompt_sg", records, epochs=5)
    assert after.mean_ap > before.mean_ap + 0.05
    assert re.search(
        r"epoch 5: id \d\.\d+, triplet \d\.\d+, supcon \d\.\d+", capsys.readouterr().out
    )


def test_images_of_a_folder(tmp_path):
    for name in ("train/rex/1", "query/tom/2", "gallery/tom/3"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(path)

    found = read_images([str(tmp_path)])
    assert [(record.identity, record.split) for record in found] == [
        ("rex", "train"),
        ("tom", "query"),
        ("tom", "gallery"),
    ]


def test_images_of_omniglot(tmp_path):
    for name in ("train/Greek/character01/1_01", "test/Latin/character02/2_05"):
        path = tmp_path / "omniglot-reid" / f"{name}.png"
        path.parent.mkdir(parents=True)
        path.touch()

    found = read_images([str(tmp_path / "omniglot-reid")])
    assert [record.identity for record in found] == ["Greek/character01", "Latin/character02"]


def test_generated_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("examples.example_images.SyntheticReid", lambda *_, **__: SyntheticReid(8))
    found = read_images([])
    assert {record.split for record in found} >= {"train", "query", "gallery"}
    assert found == read_images([])
    assert all(Path(record.path).is_file() for record in found)


def test_own_loss_own_data(capsys):
    before, after = run_main("own_loss_own_data", num_identities=64, epochs=8)
    assert after.mean_ap > before.mean_ap + 0.1
    assert re.search(r"epoch 8: pairs 0\.\d+ triplet 0\.\d+", capsys.readouterr().out)


@pytest.mark.slow
def test_frozen_prefix(records):
    before, after = run_main("frozen_prefix", records, epochs=4)
    assert after.mean_ap > before.mean_ap + 0.03


@pytest.mark.slow
@missing("lightning")
def test_with_lightning():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice, and its use of older torch
        before, after = run_main("with_lightning", num_identities=48, epochs=6)
    assert after.mean_ap > before.mean_ap + 0.05


@pytest.mark.slow
@missing("transformers")
def test_with_transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = run_main("with_transformers", num_identities=48, epochs=8)
    assert after.mean_ap > before.mean_ap + 0.05


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch has no gloo here")
def test_two_processes(tmp_path):
    """The script itself checks that its results equal those of one process."""
    code = (
        "import torch; torch.set_num_threads(1); "
        "from examples.two_processes import main; main(60, 4)"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--log-dir", str(tmp_path)]  # else a folder that stays among the temporary ones
    command = [*launcher, "--nproc-per-node=2", "--no-python", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("processes: 2\nbefore ")
    before, after = (float(found) for found in re.findall(r"mAP (\S+)", done.stdout))
    assert after > before + 5
