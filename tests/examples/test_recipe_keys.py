"""Each key that a recipe changes, found by walking: back at its usual value, the run of that recipe is another one.

Every key of a stage is shown on one of the recipes that change it, of those the one that shows most.
"""

import copy
import os

import pytest
from test_keys import ELSEWHERE, keys, outcome_of
from test_recipes_run import FOLDER, RECIPES

from examples.settings.config import Recipe
from examples.settings.recipe import load_recipe
from examples.settings.rules import terms_of
from examples.settings.smoke import smoke
from examples.trainer import __main__ as trainer

LONGER = "A thing." + " It was seen on a quiet day in a place that nobody knows" * 12 + "."
# what a small run has otherwise in any case, or not at all without its partners: it gets another value than the usual
OTHERS = {
    "batch.num_identities": (3, 2),
    "batch.num_instances": (2, 3),
    "data.caption": ("A thing.",),
    "evaluate.num_splits": (3,),
    "evaluate.patience": (1,),
    "model.image_size": ((32, 32),),
    "model.name": ("reid-tiny-vit", "reid-tiny-resnet"),
    "optim.epochs": (3,),
    "optim.step_epochs": (1, 2),
    "optim.warmup_epochs": (0.0,),
    "prompt.batch_size": (3,),
    "prompt.epochs": (3,),
    "prompt.warmup_epochs": (0.0,),
}
SCHEDULE = {
    "optim.epochs": 5,
    "optim.warmup_epochs": 2.0,
    "optim.step_epochs": 2,
}  # two restarts and all of a decay
PROMPT_SCHEDULE = {"prompt.epochs": 4, "prompt.warmup_epochs": 2.0}
# what both runs have, so that the key can be seen in two epochs of a few images
PARTNERS = {
    "data.validation": {"evaluate.patience": None},
    "data.token_safe": {"data.caption": LONGER},
    "evaluate.patience": {
        "evaluate.patience": None, "optim.epochs": 4, "optim.lr": 1e-30, "optim.text_lr": None, "optim.head_lr": None,
        "optim.projection_lr": None, "optim.min_lr": 0.0, "optim.weight_decay": 0.0,
    },
    "model.fit": {"model.image_size": (64, 32)},
    "model.name": {"model.last_stride": None, "model.patch_stride": None},
    **{f"optim.{name}": SCHEDULE for name in ("schedule", "min_lr", "step_epochs", "warmup_epochs", "warmup_factor")},
    **{f"optim.{name}": SCHEDULE for name in ("by_epoch", "milestones")},
    **{f"prompt.{name}": PROMPT_SCHEDULE for name in ("min_lr", "warmup_epochs", "warmup_factor")},
}  # fmt: skip
# changes of training, which a run without it inherits from the recipe that it is the child of
TRAINING = (
    "batch.",
    "loss.",
    "optim.",
    "augment.",
    "head.",
    "prompt.",
    "mining.",
    "precision",
    "seed",
    "accumulate",
)
ALSO_TRAINING = {"data.validation", "evaluate.metric", "evaluate.patience", "model.batch_norm"}
WITHOUT_TEXT = (
    "classifier",
    "clip_reid",
    "prompt_sg",
)  # and these a caption, which no term of theirs looks at


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
        inherited = (recipe.stage == "zero_shot" and training) or (
            recipe.stage in WITHOUT_TEXT and key == "data.caption"
        )
        if inherited or key in ELSEWHERE or key == "stage":
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
    monkeypatch.setattr(trainer, "write_run_report", lambda *_, **__: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def unchanged(roots, tmp_path_factory):
    """The small recipe with what it needs, and the outcome of its run, made when it is first asked for."""
    made = {}

    def of(name, partners):
        case = (name, *partners)
        if case not in made:
            recipe = load_recipe(FOLDER / f"{name}.yaml", ["track.console=nothing"])
            recipe.data.root = roots(recipe.data.source)
            small = smoke(recipe)
            for key, value in partners.items():
                put(small, key, value)
            if small.optim.milestones:
                small.optim.milestones = [small.optim.epochs - 1]
            made[case] = (
                small,
                outcome_of(copy.deepcopy(small), tmp_path_factory.mktemp("unchanged")),
            )
        return made[case]

    return of


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
@pytest.mark.slow
def test_its_run_repeats_itself(tmp_path, unchanged, name):
    small, before = unchanged(name, {})
    assert outcome_of(copy.deepcopy(small), tmp_path) == before


@pytest.mark.filterwarnings("ignore:tokenize. .* tokens:UserWarning")  # captions that are cut
@pytest.mark.parametrize(("name", "key"), CASES)
@pytest.mark.slow
def test_key_of_a_recipe_changes_its_run(tmp_path, unchanged, name, key):
    small, before = unchanged(name, PARTNERS.get(key, {}))
    other, now, usual = (
        copy.deepcopy(small),
        get(small, key),
        get(Recipe(stage=small.stage, note=""), key),
    )
    weights = [term for term, weight in terms_of(small).items() if weight]
    if [key.removeprefix("loss.")] == weights:  # the only one
        usual = now / 2
    put(other, key, next(value for value in OTHERS.get(key, (usual,)) if value != now))
    assert outcome_of(other, tmp_path) != before
