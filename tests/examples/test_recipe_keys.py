"""Each key that a recipe changes, found by walking: back at its usual value, the run of that recipe is another one.

Every key of a stage is shown on one of the recipes that change it, of those the one that shows most.
"""

import copy
import os

import pytest
from test_keys import ELSEWHERE, keys, outcome_of
from test_recipes_run import FOLDER, RECIPES, roots  # noqa: F401 (a fixture)

from examples.settings.config import Recipe
from examples.settings.recipe import load_recipe
from examples.settings.smoke import smoke
from examples.trainer import __main__ as trainer

# what a small run has otherwise, or at its usual value: it gets another one
OTHERS = {
    "batch.num_identities": 3,
    "batch.num_instances": 2,
    "evaluate.num_splits": 3,
    "model.image_size": (48, 48),
    "optim.epochs": 3,
    "optim.milestones": [],
    "optim.step_epochs": 2,
    "optim.warmup_epochs": 0.0,
    "prompt.epochs": 3,
    "prompt.warmup_epochs": 0.0,
}
# changes of training, which a run without it inherits from the recipe that it is the child of
TRAINING = ("batch.", "loss.", "optim.", "augment.", "head.", "prompt.", "mining.", "precision", "seed", "accumulate")
ALSO_TRAINING = {"data.validation", "evaluate.metric", "evaluate.patience", "model.batch_norm"}


def get(recipe, key):
    section, _, name = key.rpartition(".")
    return getattr(getattr(recipe, section) if section else recipe, name)


def put(recipe, key, value):
    section, _, name = key.rpartition(".")
    setattr(getattr(recipe, section) if section else recipe, name, value)


def changed(recipe):
    usual = Recipe(stage=recipe.stage, note="")
    for key in keys(Recipe):
        training = key.startswith(TRAINING) or key in ALSO_TRAINING
        if key in ELSEWHERE or key == "stage" or (recipe.stage == "zero_shot" and training):
            continue
        if get(recipe, key) != get(usual, key):
            yield key


def cases():
    """For each stage and key a recipe that changes it; as few recipes as a greedy choice finds."""
    wanted: dict[str, set[tuple[str, str]]] = {}
    for name in RECIPES:
        recipe = load_recipe(FOLDER / f"{name}.yaml")
        wanted[name] = {(recipe.stage, key) for key in changed(recipe)}
    left = set().union(*wanted.values())
    while left:
        name = max(sorted(wanted), key=lambda n: len(wanted[n] & left))
        yield from ((name, key) for _, key in sorted(wanted[name] & left))
        left -= wanted[name]


CASES = list(cases())


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch):
    monkeypatch.setattr(trainer, "write_run_report", lambda *_: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def unchanged(roots, tmp_path_factory):
    """The small recipe and the outcome of its run, made when it is first asked for."""
    made = {}

    def of(name):
        if name not in made:
            recipe = load_recipe(FOLDER / f"{name}.yaml", ["track.console=nothing"])
            recipe.data.root = roots(recipe.data.source)
            small = smoke(recipe)
            made[name] = small, outcome_of(copy.deepcopy(small), tmp_path_factory.mktemp("unchanged"))
        return made[name]

    return of


@pytest.mark.parametrize(("name", "key"), CASES)
@pytest.mark.slow
def test_key_of_a_recipe_changes_its_run(tmp_path, unchanged, name, key):
    small, before = unchanged(name)
    other, usual = copy.deepcopy(small), get(Recipe(stage=small.stage, note=""), key)
    put(other, key, OTHERS[key] if get(small, key) == usual else usual)
    assert outcome_of(other, tmp_path) != before
