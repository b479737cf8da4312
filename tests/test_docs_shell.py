"""Every shell block of README and docs runs, page by page, in an empty folder; every recipe loads.

The folder holds the photographs, tables and features that the pages mention. Three programs are
replaced, so that a page takes seconds: ``pip`` checks that package and extra exist, ``make`` checks
that the target exists, and the trainer gets ``--smoke``.
"""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image

from clipreid_kit.cli.main import main as clipreid
from examples.trainer.records import load_records

ROOT = Path(__file__).parents[1]
# The pages of the pipelines name most recipes, each of which test_recipes_run.py runs by itself;
# the other two run scripts of examples/, as test_single_files.py does on smaller sets.
# So their blocks run in exhaustive/test_long_pages.py alone.
PIPELINES = ("pipelines/fashion", "pipelines/hands", "pipelines/retrieval")
ELSEWHERE = (*PIPELINES, "examples", "in_your_code")
DOCS = ROOT / "docs"
RECIPE_PAGES = sorted(DOCS.glob("recipes/*.md"))
PAGES = [
    ROOT / "README.md",
    *(
        page
        for page in sorted(DOCS.rglob("*.md"))
        if page.relative_to(DOCS).with_suffix("").as_posix() not in ELSEWHERE
    ),
]

SHELL = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
MAKER = shutil.which("make")
RECIPE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)

LAYOUTS = {
    "fashion": layouts.inshop,
    "hands": layouts.hands11k,
    "omniglot": layouts.omniglot,
    "own": lambda root: root.parent / "photos",
    "papers": layouts.market1501,
    "retrieval": layouts.annotations,
    "small": lambda root: root.parent / "photos",
    "text_to_person": layouts.cuhk_pedes,
    "unsupervised": layouts.market1501,
    "cross_modality": layouts.sysu_mm01,
}

PYTHON = """#!/bin/sh
case "$*" in
    *--help*|*examples.trainer.report*) exec {python} "$@" ;;
    *"-m examples.trainer "*) exec {python} "$@" --smoke ;;
esac
exec {python} "$@"
"""

# Weights that would be downloaded are random ones here; a server would never end.
CLIPREID = """#!/bin/sh
for argument do
    shift
    [ "$argument" = "ViT-B-16:openai" ] && argument=reid-tiny-vit:random
    set -- "$@" "$argument"
done
case "$1 $*" in
    serve*) set -- "$@" --help ;;
    train*--help*|train*--resume*|train*--smoke*) ;;
    train*) exec {python} -m clipreid_kit "$@" --smoke ;;
esac
exec {python} -m clipreid_kit "$@"
"""

MAKE = """#!/bin/sh
exec {make} --dry-run --directory {root} "$@" > /dev/null
"""

PIP = """#!/bin/sh
exec {python} {root}/tests/check_requirements.py "$@"
"""


def pages_with(block, pages=PAGES):
    """Pages that hold a block of a kind, and their names as ids."""
    return [
        pytest.param(page, id=str(page.relative_to(ROOT).with_suffix("")))
        for page in pages
        if block.search(page.read_text(encoding="utf-8"))
    ]


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def write_photos(folder):
    """Photographs of 22 identities in the layout of the pages, and a table of the same images."""
    identities = {
        "train": range(16),
        "val_query": range(16, 19),
        "val_gallery": range(16, 19),
        "query": range(19, 22),
        "gallery": range(19, 22),
    }
    lines = ["path,identity,split,camera"]
    for shade, (split, numbers) in enumerate(identities.items()):
        for number in numbers:
            for photo in range(4):
                path = Path(
                    "photos", split, f"{number:04}", f"{split}_c{photo % 2 + 1}_{photo}.png"
                )
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (48, 64), (number * 11, photo * 40, 90 + shade)).save(file)
                lines.append(f"{path},{number:04},{split},{photo % 2 + 1}")

    (folder / "photos.csv").write_text("\n".join(lines) + "\n")


def write_animals(folder):
    """A folder for each of 22 animals, without splits, with images of four days."""
    for animal in range(22):
        for month in range(1, 5):
            file = folder / "animals" / f"{animal:04}" / f"2024-0{month}-05_c{month % 2 + 1}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 64), (animal * 11, month * 40, 50)).save(file)


def write_features(folder):
    """Features of ten identities in the two forms that the evaluation command reads."""
    rng = np.random.default_rng(0)
    gallery_ids = np.arange(40) % 10
    arrays = {
        "query_embeddings": rng.standard_normal((10, 8)),
        "gallery_embeddings": rng.standard_normal((40, 8)),
        "query_ids": np.arange(10),
        "gallery_ids": gallery_ids,
    }
    np.savez(folder / "features.npz", **arrays)
    np.savez(folder / "ids.npz", query_ids=arrays["query_ids"], gallery_ids=gallery_ids)
    np.save(folder / "q.npy", arrays["query_embeddings"])
    np.save(folder / "g.npy", arrays["gallery_embeddings"])


@pytest.fixture
def folder(tmp_path):
    """A folder in which the commands of a page can run."""
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    names = {"python": sys.executable, "root": ROOT, "make": MAKER}
    for program in ("bin/python", ".venv/bin/python"):
        write_program(tmp_path / program, PYTHON.format(**names))

    write_program(tmp_path / "bin" / "clipreid", CLIPREID.format(**names))
    write_program(tmp_path / "bin" / "pip", PIP.format(**names))
    write_program(tmp_path / "bin" / "make", MAKE.format(**names))
    write_photos(tmp_path)
    write_animals(tmp_path)
    write_features(tmp_path)
    layouts.market1501(tmp_path / "Market-1501")
    characters = layouts.omniglot(tmp_path / "omniglot")
    shutil.make_archive(tmp_path / "omniglot-reid", "zip", characters)
    return tmp_path


def write_data(page, folder):
    """Write what ``DATA`` stands for on a page of recipes or of a pipeline."""
    layout = LAYOUTS.get(page.stem)
    if page.parent.name in ("recipes", "pipelines") and layout is not None:
        root = layout(folder / f"of_{page.stem}")
        (folder / "DATA").symlink_to(root)


@pytest.mark.slow
@pytest.mark.skipif(not MAKER, reason="make is not installed")
@pytest.mark.parametrize(
    "page", pages_with(SHELL, [page for page in PAGES if page not in RECIPE_PAGES])
)
def test_shell_blocks_run(page, folder):
    run_blocks(page, folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with(SHELL, RECIPE_PAGES))
@pytest.mark.filterwarnings("ignore:read_[\\s\\S]* officially:UserWarning")  # small sets
def test_commands_of_recipe_pages_find_recipe_and_images(page, tmp_path, monkeypatch):
    """Each trains one recipe, and ``test_recipes_run.py`` trains every recipe."""
    found = []

    def read_images(recipe, out, **_):
        if recipe.data.source != "synthetic":
            found.extend(load_records(recipe, out)[0])
        found.append(out)

    monkeypatch.setattr("examples.trainer.__main__.run", read_images)
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path)
    write_data(page, tmp_path)

    (block,) = SHELL.findall(page.read_text(encoding="utf-8"))
    program, *arguments = shlex.split(block.replace("\\\n", " "))
    assert program == "clipreid"
    assert clipreid(arguments) == 0

    assert found[-1] == Path(arguments[-1])
    assert len(found) > 20 or "DATA" not in arguments


def run_blocks(page, folder, seconds=900):
    """Run the shell blocks of a page, one after the other, each for that many seconds at most."""
    write_data(page, folder)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(
            [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
    }
    for block in SHELL.findall(page.read_text(encoding="utf-8")):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", pages_with(RECIPE))
def test_recipes_load(page, folder):
    from examples.settings.recipe import load_recipe

    for number, text in enumerate(RECIPE.findall(page.read_text(encoding="utf-8"))):
        file = folder / f"recipe{number}.yaml"
        file.write_text(text)
        assert load_recipe(file).note


def test_there_are_blocks():
    assert len(pages_with(SHELL)) >= 4
    assert len(pages_with(RECIPE)) >= 1
