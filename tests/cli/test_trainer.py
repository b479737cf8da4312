"""The trainer is found in the wheel or the checkout, and nothing else is taken for it."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from clipreid_kit.cli import _trainer
from clipreid_kit.cli._trainer import examples_root, note_on_copy, trainer_function, trainer_module

ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package, in which the module believes to be."""
    folder = tmp_path / "site-packages" / "clipreid_kit"
    (folder / "cli").mkdir(parents=True)
    monkeypatch.setattr(_trainer, "__file__", str(folder / "cli" / "_trainer.py"))
    return folder


def add_trainer(root):
    (root / "examples" / "trainer").mkdir(parents=True)
    (root / "examples" / "trainer" / "__main__.py").touch()


def test_a_checkout_has_it_at_its_root():
    assert examples_root() == ROOT


def test_the_wheel_has_it_as_data(package):
    add_trainer(package / "_examples")
    add_trainer(package.parents[1])
    assert examples_root() == package / "_examples"


def test_without_it(package):
    with pytest.raises(ValueError, match=r"the trainer is not in .*_examples\. Install"):
        examples_root()


def test_a_copy_in_the_current_folder_is_not_run_silently(package, tmp_path):
    add_trainer(package / "_examples")
    assert note_on_copy(tmp_path) is None
    assert note_on_copy(package / "_examples") is None

    add_trainer(tmp_path)
    note = note_on_copy(tmp_path)
    assert note.startswith(f"clipreid runs the trainer in {package / '_examples' / 'examples'}. ")
    assert note.endswith("The copy in this folder runs as: python -m examples.trainer RECIPE")


def test_modules_have_their_usual_names():
    assert trainer_module("trainer.run").__name__ == "examples.trainer.run"
    assert sys.path[0] == str(ROOT)
    assert trainer_function("settings.recipe", "load_recipe").__module__.startswith("examples.")


def test_another_package_of_that_name(package, monkeypatch):
    add_trainer(package / "_examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ValueError, match="another package `examples` is loaded"):
        trainer_module("trainer.run")

    monkeypatch.setitem(sys.modules, "examples", ModuleType("examples"))
    monkeypatch.delitem(sys.modules, "examples.trainer")
    monkeypatch.delitem(sys.modules, "examples.trainer.run")
    with pytest.raises(ValueError, match="another package `examples` is loaded"):
        trainer_module("trainer.run")


def test_a_missing_extra_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name="accelerate.utils")

    monkeypatch.setattr(_trainer.importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"accelerate is not installed.*clipreid_kit\[train\]"):
        trainer_module("trainer.run")
