"""Public names are promises: listed, sorted, documented; Args sections equal signatures."""

import importlib
import inspect
import json
import re
import typing
from pathlib import Path

import pytest

PACKAGES = [
    "clipreid_kit",
    "clipreid_kit.clip",
    "clipreid_kit.data",
    "clipreid_kit.data.fashion",
    "clipreid_kit.data.hands",
    "clipreid_kit.losses",
    "clipreid_kit.metrics",
    "clipreid_kit.modules",
    "clipreid_kit.reports",
    "clipreid_kit.retrieval",
    "clipreid_kit.samplers",
    "clipreid_kit.schedulers",
    "clipreid_kit.viz",
]
MODULES = {
    "clipreid_kit.distances": [
        "cosine_similarity",
        "dot_product",
        "euclidean_distance",
        "l2_normalize",
        "squared_euclidean_distance",
    ],
    "clipreid_kit.distributed": ["gather", "local_losses", "world_size"],
}
SURFACE = Path(__file__).with_name("api_surface.json")


def public():
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            yield package, name, getattr(module, name)
    for module_name, names in MODULES.items():
        for name in names:
            yield module_name, name, getattr(importlib.import_module(module_name), name)


def test_the_list_of_public_names_is_frozen():
    found = {
        package: sorted(name for p, name, _ in public() if p == package)
        for package in [*PACKAGES, *MODULES]
    }
    assert found == json.loads(SURFACE.read_text()), (
        "a name came or went: say so in CHANGELOG.md, then update the list"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_sorted(package):
    names = importlib.import_module(package).__all__
    assert list(names) == sorted(names)


@pytest.mark.parametrize(
    ("package", "name", "value"), list(public()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_is_documented(package, name, value):
    if (
        not callable(value) or typing.get_origin(value) is not None
    ):  # a type alias has no docstring of its own
        return
    text = inspect.getdoc(value)
    assert text, f"{package}.{name} has no docstring"
    assert len(text.splitlines()[0]) < 121


def documented_arguments(text):
    match = re.search(r"^Args:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    return re.findall(r"^    \*{0,2}(\w+): ", match[1], re.MULTILINE) if match else []


@pytest.mark.parametrize(
    ("package", "name", "value"),
    [x for x in public() if inspect.isfunction(x[2]) or inspect.isclass(x[2])],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_args_section_equals_the_signature(package, name, value):
    documented = documented_arguments(inspect.getdoc(value) or "")
    if not documented:
        return
    actual = [p for p in inspect.signature(value).parameters if p != "self"]
    assert documented == actual


def test_most_names_document_their_arguments():
    functions = [x for x in public() if inspect.isfunction(x[2])]
    with_arguments = [x for x in functions if documented_arguments(inspect.getdoc(x[2]) or "")]
    assert len(with_arguments) > 0.7 * len(functions)


def test_every_name_is_in_the_docs():
    pages = "\n".join(p.read_text() for p in (Path(__file__).parents[1] / "docs").rglob("*.md"))
    words = set(re.findall(r"\w+", pages))
    missing = [f"{package}.{name}" for package, name, _ in public() if name not in words]
    assert not missing, "write them on the page of their package, in docs/components"
