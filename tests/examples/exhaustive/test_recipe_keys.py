"""Each key that a recipe changes matters: with its default, the run is another one.

Every key is tested on one of the recipes that change it: the one that covers most keys. Whether it
changes the run of every stage that has it is the subject of ``test_keys.py``.
"""

import pytest
from test_keys import ELSEWHERE, keys, outcome_of
from test_recipes_run import FOLDER, RECIPES

from examples.settings.recipe import load_recipe, recipe_of
from examples.settings.section import default_of, lookup
from examples.settings.smoke import smoke

# Small sets are cut smaller still: an identity may keep a single image.
# Narrower models may rank alike by two values of a key.
pytestmark = [
    pytest.mark.filterwarnings("ignore:PKSampler. .* have a single image:UserWarning"),
    pytest.mark.usefixtures("without_report"),
    pytest.mark.full_width,
]

LONGER = "A thing." + " It was seen on a quiet day in a place that nobody knows" * 12 + "."
# Keys that a small run sets anyway, or that need partners, get another value than the default.
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
        "evaluate.patience": None,
        "optim.epochs": 4,
        "optim.lr": 1e-30,
        "optim.text_lr": None,
        "optim.head_lr": None,
        "optim.projection_lr": None,
        "optim.min_lr": 0.0,
        "optim.weight_decay": 0.0,
    },
    "model.fit": {"model.image_size": (64, 32)},
    "model.name": {"model.last_stride": None, "model.patch_stride": None, "model.lora_rank": 0},
    **{
        f"optim.{name}": SCHEDULE
        for name in ("schedule", "min_lr", "step_epochs", "warmup_epochs", "warmup_factor")
    },
    **{f"optim.{name}": SCHEDULE for name in ("by_epoch", "milestones")},
    **{f"prompt.{name}": PROMPT_SCHEDULE for name in ("min_lr", "warmup_epochs", "warmup_factor")},
}
WITHOUT_TEXT = ("classifier", "clip_reid", "prompt_sg")  # no term of theirs looks at captions
# What tells variants apart: back at the usual one, the keys of the other fall away.
TAGS = ("data.source", "head.kind", "mining.data", "optim.schedule")


def changed(recipe):
    """Keys that a recipe changes, and that this test is to show."""
    for key in keys():
        found = lookup(recipe, key)
        if found is None or key in ELSEWHERE or key in ("stage", "precision"):
            continue  # small runs on a CPU have full precision
        if recipe.stage in WITHOUT_TEXT and key == "data.caption":
            continue
        if recipe.stage == "zero_shot" and key == "augment.fill":
            continue  # it is compared with that of `init_from`, and changes no figure
        value, field = found
        if value != default_of(field) or (key in TAGS and field.is_required()):
            yield key


def with_values(recipe, values):
    """A recipe with other values of some keys, where it has these keys."""
    tree = recipe.model_dump()
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        holder = tree.get(section, {}) if section else tree
        if name in holder or key in ("mining.data", "optim.schedule"):
            holder[name] = value

    if tree.get("optim", {}).get("milestones"):
        tree["optim"]["milestones"] = [tree["optim"]["epochs"] - 1]
    return recipe_of(tree)


USUAL = {"head.kind": "linear", "mining.data": "standard", "optim.schedule": "cosine"}


def another_value(recipe, key):
    """The usual value of a key, or one that differs from the recipe's."""
    now, field = lookup(recipe, key)
    usual = USUAL[key] if key in USUAL else default_of(field)

    terms = set(recipe.loss.weights()) if hasattr(recipe, "loss") else set()
    needed = terms & {"image_to_text", "supcon"} if recipe.stage == "clip_reid" else terms
    if {key.removeprefix("loss.")} == needed:  # without its only term the recipe would be none
        usual = now / 2
    return next(value for value in OTHERS.get(key, (usual,)) if value != now)


def cases():
    """For each key a recipe that changes it; as few recipes as a greedy choice finds."""
    wanted: dict[str, set[str]] = {}
    for name in RECIPES:
        recipe = load_recipe(FOLDER / f"{name}.yaml")
        wanted[name] = set(changed(recipe))
    left = set().union(*wanted.values())
    while left:
        name = max(sorted(wanted), key=lambda n: len(wanted[n] & left))
        yield from ((name, key) for key in sorted(wanted[name] & left))
        left -= wanted[name]


CASES = list(cases())


@pytest.fixture(scope="module")
def unchanged(roots, tmp_path_factory):
    """The small recipe with what it needs, and the outcome of its run, computed on first use."""
    made = {}

    def of(name, partners):
        case = (name, *partners)
        if case not in made:
            path = FOLDER / f"{name}.yaml"
            source = load_recipe(path).data.source
            recipe = load_recipe(path, ["track.console=nothing"], data=roots(source))
            small = with_values(smoke(recipe), partners)
            made[case] = (small, outcome_of(small, tmp_path_factory.mktemp("unchanged")))
        return made[case]

    return of


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_its_run_repeats_itself(tmp_path, unchanged, name):
    small, before = unchanged(name, {})
    assert outcome_of(small, tmp_path) == before


@pytest.mark.filterwarnings("ignore:tokenize. .* tokens:UserWarning")  # captions that are cut
@pytest.mark.parametrize(("name", "key"), CASES)
def test_key_of_a_recipe_changes_its_run(tmp_path, unchanged, name, key):
    small, before = unchanged(name, PARTNERS.get(key, {}))
    other = with_values(small, {key: another_value(small, key)})
    assert outcome_of(other, tmp_path) != before
