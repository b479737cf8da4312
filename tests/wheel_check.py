"""Use everything public where only the wheel and its core dependencies are installed."""

import importlib
import subprocess
import sys
import tempfile
from importlib import metadata, resources
from pathlib import Path

HEAVY = ("torch", "open_clip", "torchvision", "timm", "faiss", "matplotlib", "PIL", "transformers")
EXTRAS = ("accelerate", "matplotlib", "pytest")  # yaml and tqdm come with open_clip


def main() -> None:
    check_import()
    check_towers()
    check_figures()
    check_command()
    print("clipreid_kit works with its core dependencies alone")


def check_import() -> None:
    import clipreid_kit

    loaded = sorted(name for name in HEAVY if name in sys.modules)
    assert not loaded, f"import clipreid_kit pulled in {loaded}"
    assert "site-packages" in clipreid_kit.__file__, clipreid_kit.__file__
    assert metadata.version("clipreid_kit") == clipreid_kit.__version__
    assert resources.files("clipreid_kit").joinpath("py.typed").is_file()
    page = resources.files("clipreid_kit").joinpath("retrieval", "page", "static")
    assert {"page.html", "page.css", "page.js"} <= {file.name for file in page.iterdir()}

    for name in clipreid_kit.__all__:
        assert getattr(clipreid_kit, name) is not None
    loaded = sorted(name for name in HEAVY if name in sys.modules and name != "torch")
    assert not loaded, f"the names of clipreid_kit pulled in {loaded}"

    for extra in EXTRAS:
        try:
            importlib.import_module(extra)
        except ImportError:
            continue
        raise AssertionError(f"{extra} is installed: this environment is not the core alone")


def check_towers() -> None:
    from clipreid_kit.clip import ClipTowers
    from clipreid_kit.data import SyntheticReid

    towers = ClipTowers.from_open_clip("reid-tiny-resnet")
    tokens = towers.tokenize([SyntheticReid(20).caption(0, 0, 0)])
    assert towers.encode_text(tokens).shape == (1, towers.embed_dim)


def check_figures() -> None:
    import clipreid_kit.viz

    try:
        clipreid_kit.viz.cmc_figure({"a": [0.5, 1.0]})
    except ImportError as error:
        if "pip install clipreid_kit[viz]" not in str(error):
            raise
    else:
        raise AssertionError("cmc_figure drew without matplotlib")


def check_command() -> None:
    for file in metadata.files("clipreid_kit") or ():
        top = file.parts[0]  # .. for the commands, which lie outside site-packages
        assert top in ("clipreid_kit", "..") or top.endswith(".dist-info"), file

    assert "train" in clipreid("--help")
    assert "[train]" in clipreid("doctor")
    assert "own/train" in clipreid("recipes", "list")

    with tempfile.TemporaryDirectory() as folder:
        clipreid("examples", f"{folder}/mine")
        assert Path(folder, "mine", "examples", "trainer", "loop.py").is_file()
        assert Path(folder, "mine", "tests", "examples", "test_trainer.py").is_file()

        lacking = clipreid("train", "quickstart", "--out", f"{folder}/run", status=1)
        assert "pip install 'clipreid_kit[train]'" in lacking, lacking


def clipreid(*arguments: str, status: int = 0) -> str:
    """Run the command that the wheel installs, and return what it prints."""
    program = Path(sys.executable).with_name("clipreid")
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == status, f"clipreid {arguments}: {done.returncode} {done.stderr}"
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
