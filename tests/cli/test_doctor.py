"""The doctor shows what is installed, and fails only if the base installation is not sound."""

from importlib import metadata

import pytest

from clipreid_kit.cli import _requirements
from clipreid_kit.cli._requirements import extras, problem_of, requirements_of

DECLARED = [
    "numpy>=1.26",
    "torch>=2.6",
    'colorama>=0.4; sys_platform == "none"',
    'matplotlib>=3.8; extra == "viz"',
    'clipreid_kit[viz]; extra == "report"',
    'clipreid_kit[absent]; extra == "all"',
    'clipreid_kit[viz]; extra == "all"',
    'no-such-package>=1.0; extra == "absent"',
    'numpy>=1000; extra == "new"',
]
NAMES = ["viz", "report", "all", "absent", "new"]


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda _: DECLARED)
    monkeypatch.setattr(_requirements, "extras", lambda: NAMES)


def names(extra):
    return [requirement.name for requirement in requirements_of(extra)]


def test_requirements_of_the_base_and_of_extras():
    assert names("") == ["numpy", "torch"]
    assert names("viz") == names("report") == ["matplotlib"]
    assert names("all") == ["no-such-package", "matplotlib"]
    assert names("unknown") == []


def test_what_is_wrong_with_a_package():
    (new,) = requirements_of("new")
    (absent,) = requirements_of("absent")
    assert problem_of(requirements_of()[0]) is None
    assert problem_of(new) == f"numpy is {metadata.version('numpy')}, not >=1000"
    assert problem_of(absent) == "no-such-package is missing"


def test_an_absent_extra_is_no_failure(clipreid):
    status, text, error = clipreid("doctor")
    lines = dict(line.split(maxsplit=1) for line in text.splitlines())

    assert (status, error) == (0, "")
    assert lines["numpy"] == metadata.version("numpy")
    assert lines["devices"].startswith("cpu, ")
    assert lines["[viz]"] == "complete"
    assert lines["[absent]"] == (
        "no-such-package is missing; run pip install 'clipreid_kit[absent]'"
    )


def test_an_old_package_of_the_base_is_one(clipreid, monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda _: ["numpy>=1000"])
    status, text, _ = clipreid("doctor")

    assert status == 1
    assert f"PROBLEM: numpy is {metadata.version('numpy')}, not >=1000; run pip install" in text


def test_a_broken_package_of_the_base_is_one(clipreid, monkeypatch):
    def broken(name):
        raise OSError("libomp.so: cannot open\nshared object file")

    monkeypatch.setattr("clipreid_kit.cli.doctor.importlib.import_module", broken)
    status, text, _ = clipreid("doctor")

    assert status == 1
    assert "PROBLEM: it cannot be imported (libomp.so: cannot open shared object file)" in text


def test_a_source_tree_alone_says_so(clipreid, monkeypatch):
    def unknown(_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", unknown)
    status, _, error = clipreid("doctor")
    assert (status, error.startswith("error: doctor: clipreid_kit runs from its source")) == (
        1,
        True,
    )


def test_extras_for_work_on_the_library_are_left_out(monkeypatch):
    monkeypatch.undo()
    found = extras()
    assert {"train", "viz", "export"} <= set(found)
    assert not {"dev", "docs"} & set(found)
