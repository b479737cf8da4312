"""The table of the page on installation is what pyproject.toml says, and extras can be imported."""

import importlib
import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")

# Names that packages are imported under, where they have another one.
MODULES = {
    "faiss-cpu": "faiss",
    "milvus-lite": "milvus_lite",
    "pillow-heif": "pillow_heif",
    "open_clip_torch": "open_clip",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
FOR_THE_LIBRARY = ("dev", "docs")


def packages(lines):
    """Names of packages, with those of the extras that are named."""
    names = []
    for requirement in map(Requirement, lines):
        if requirement.name == "clipreid_kit":
            inner = [
                name for extra in sorted(requirement.extras) for name in packages(EXTRAS[extra])
            ]
            names += inner
        else:
            names.append(requirement.name)
    return list(dict.fromkeys(names))


def rows():
    """Packages by extra, as the page has them; the base installation has an empty name."""
    found = {}
    for first, second in re.findall(r"^\| (`\w+`|\(none\)) \| (.+?) \| ", PAGE, re.MULTILINE):
        name = "" if first == "(none)" else first.strip("`")
        found[name] = second.split(", ")
    return found


def test_every_extra_has_a_row():
    assert set(rows()) == {"", *EXTRAS}


def test_the_base_installation():
    assert sorted(rows()[""]) == sorted(packages(PROJECT["dependencies"]))


@pytest.mark.parametrize("extra", [name for name in EXTRAS if name != "dev"])
def test_an_extra_brings_what_the_page_says(extra):
    assert sorted(rows()[extra]) == sorted(packages(EXTRAS[extra]))


def test_dev_brings_all_but_two():
    wanted = {name for name in EXTRAS if name not in (*FOR_THE_LIBRARY, "tensorboard")}
    (own,) = [one for one in map(Requirement, EXTRAS["dev"]) if one.name == "clipreid_kit"]
    assert own.extras == wanted


@pytest.mark.parametrize("extra", ["", *(name for name in EXTRAS if name not in FOR_THE_LIBRARY)])
def test_what_an_extra_brings_can_be_imported(extra):
    for name in packages(EXTRAS[extra] if extra else PROJECT["dependencies"]):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
        assert importlib.import_module(MODULES.get(name, name))


def test_the_citation_has_the_version():
    from clipreid_kit import __version__

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation
