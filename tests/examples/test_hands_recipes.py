"""The hands recipes: baselines, published figures, and what all versions share."""

import fnmatch
import functools
import re
from pathlib import Path

import pytest
import yaml
from pages import page
from tiny import keys_of
from tiny_towers import tiny_towers

from clipreid_kit.clip import IdentityPromptLearner, PromptComposer
from examples.settings.augment import Augment
from examples.settings.recipe import load_recipe
from examples.settings.section import default_of, lookup

ROOT = Path(__file__).parents[2]
HANDS = ROOT / "examples" / "recipes" / "hands"
NAMES = sorted(path.relative_to(HANDS).with_suffix("").as_posix() for path in HANDS.rglob("*.yaml"))
TRAINED = [name for name in NAMES if name != "base" and "zero_shot" not in name]

# what base says of training, and a recipe that trains inherits
TRAINING = {
    "data.validation": 0.15,
    "batch.num_identities": 8,
    "optim.warmup_epochs": 0,
    "optim.decay_all": True,
    "evaluate.metric": "rank_1",
}
RN50 = {"model.name": "RN50-quickgelu", "model.batch_norm": "frozen"}

# file: (parent, all that differs from it once both are resolved)
# the versions of the stages 2 and 3 are in test_recipe_versions.py
CHANGES = {
    "base": (
        None,
        {
            "data.source": "hands11k",
            "model.name": "ViT-B-16-quickgelu",
            "model.pretrained": "openai",
            "model.fit": "pad",
        },
    ),
    "stage1/zero_shot_vit": ("base", {}),
    "stage1/zero_shot_rn50": ("stage1/zero_shot_vit", {"model.name": "RN50-quickgelu"}),
    "stage1/classifier_vit": (
        "base",
        {
            **TRAINING,
            "stage": "classifier",
            "head.neck": False,
            "head.std": 0.0585,  # Xavier: (2 / (512 + 72)) ** 0.5
            "loss.id": 1,
            "loss.triplet": 1,
            "optim.optimizer": "adam",
            "optim.lr": 1e-5,
            "optim.head_lr": 1e-6,
            "optim.weight_decay": 1e-4,
            "optim.schedule": "constant",
            "optim.clip_norm": 1,
            "evaluate.patience": 3,
        },
    ),
    "stage1/classifier_rn50": (
        "stage1/classifier_vit",
        {**RN50, "head.std": 0.0427},
    ),  # (2 / (1024 + 72)) ** 0.5
    "stage1/sequential_vit": ("stage1/classifier_vit", {"head.neck": True, "head.dropout": 0.2}),
    "stage1/sequential_rn50": ("stage1/classifier_rn50", {"head.neck": True, "head.dropout": 0.2}),
    "stage1/arcface_vit": ("stage1/classifier_vit", {"head.kind": "arcface"}),
    "stage1/arcface_rn50": ("stage1/classifier_rn50", {"head.kind": "arcface"}),
    "stage1/random_vit": ("stage1/classifier_vit", {"model.pretrained": None}),
    "stage1/random_rn50": (
        "stage1/classifier_rn50",
        {"model.pretrained": None, "model.batch_norm": "follow"},
    ),
}
# what a version has in the end, however many parents it has: (key, value)
FACTS = {
    "stage1/classifier_rn50": [
        ("optim.epochs", 10),
        ("loss.margin", 0.3),
        ("batch.num_instances", 4),
    ],
    "stage2/v1_vit": [
        ("head.scale", 30),
        ("head.margin", 0.5),
        ("optim.schedule", "cosine"),
        ("optim.center_lr", 0.5),
    ],
    "stage2/v2_rn50": [
        ("optim.lr", 1e-4),
        ("loss.temperature", 0.07),
        ("optim.weight_decay", 5e-4),
    ],
    "stage2/v3_rn50": [("optim.head_lr", 1e-4), ("prompt.lr", 1e-4), ("optim.schedule", "cosine")],
    "stage2/v5_vit": [
        ("optim.lr", 1e-5),
        ("loss.id", 1),
        ("loss.supcon", 1),
        ("model.image_blocks", "all"),
    ],
    "stage2/v7_rn50": [("optim.lr", 5e-4), ("model.image_blocks", 2), ("loss.center", 5e-4)],
    "stage2/v8_rn50": [
        ("head.margin", 0.35),
        ("loss.center", 5e-4),
        ("loss.triplet", 1),
        ("optim.schedule", "cosine"),
    ],
    "stage2/v9_vit": [("optim.lr", 1e-5), ("evaluate.patience", 5), ("prompt.num_tokens", 12)],
    "stage2/v10_rn50": [
        ("optim.lr", 7e-5),
        ("head.margin", 0.4),
        ("loss.center", 3e-4),
        ("loss.margin", 0.3),
    ],
    "stage3/v1_vit": [
        ("head.kind", "linear"),
        ("optim.clip_norm", 5),
        ("loss.supcon", 0),
        ("prompt.mode", "composed"),
    ],
    "stage3/v4_rn50": [
        ("head.scale", 30),
        ("head.margin", 0.5),
        ("head.neck", True),
        ("loss.supcon", 0.5),
    ],
    "stage3/v5_rn50": [
        ("optim.clip_norm", 5),
        ("prompt.inversion_dim", 512),
        ("optim.weight_decay", 1e-4),
    ],
    "stage3/v11_vit": [
        ("loss.id", 0.2),
        ("loss.triplet", 1),
        ("head.reduced_dim", 256),
        ("optim.clip_norm", 1),
    ],
    "stage3/v11_rn50": [
        ("loss.id", 0.1),
        ("optim.lr", 1e-4),
        ("optim.epochs", 60),
        ("evaluate.patience", 10),
    ],
}
# R1/mAP in percent, dorsal_r, mean of 10 splits; None where none was published
PUBLISHED = {
    "stage1/zero_shot": ("71.42/78.98", "68.61/75.78"),
    "stage1/classifier": ("93.69/95.58", "57.65/66.18"),
    "stage2/v1": ("62.11/71.35", "57.64/67.07"),
    "stage2/v2": ("75.90/83.19", "46.09/57.59"),
    "stage2/v3": ("84.82/89.91", "53.37/62.85"),
    "stage2/v4": ("74.07/81.93", "50.82/61.34"),
    "stage2/v5": ("88.18/92.20", "53.74/63.69"),
    "stage2/v6": ("76.08/83.03", "45.09/56.47"),
    "stage2/v7": (None, "51.62/62.63"),
    "stage2/v8": (None, "52.97/64.30"),
    "stage2/v9": ("28.88/47.23", "59.84/69.80"),
    "stage2/v10": (None, "51.52/62.26"),
    "stage3/v1": ("62.38/71.57", "64.07/71.44"),
    "stage3/v2": ("36.45/47.64", "56.18/66.17"),
    "stage3/v3": ("26.35/38.68", "68.99/76.28"),
    "stage3/v4": ("42.25/54.32", "51.92/61.73"),
    "stage3/v5": ("41.45/52.09", "45.70/55.54"),
    "stage3/v6": ("80.83/86.63", "50.08/60.29"),
    "stage3/v7": (None, None),
    "stage3/v8": ("85.86/89.99", "61.23/69.75"),
    "stage3/v9": ("84.90/89.79", "52.86/62.88"),
    "stage3/v10": ("84.87/89.35", "63.00/71.13"),
    "stage3/v11": ("81.59/86.93", "58.25/67.29"),
}
FIGURES = [
    (f"{version}_{tower}", figure)
    for version, pair in PUBLISHED.items()
    for tower, figure in zip(("vit", "rn50"), pair, strict=True)
    if figure
]


def file(name):
    return HANDS / f"{name}.yaml"


@functools.cache
def recipe_of(name):
    return load_recipe(file(name))


def default(recipe, key):
    return default_of(lookup(recipe, key)[1])


def resolved(name):
    return keys_of(recipe_of(name))


def test_every_file_is_in_the_table():
    assert sorted(CHANGES) == [name for name in NAMES if not re.match("stage[23]/", name)]


@pytest.mark.parametrize("name", NAMES)
def test_files_are_short_and_say_why(name):
    lines = file(name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 120
    assert len(recipe_of(name).note) > 80


@pytest.mark.parametrize("name", CHANGES)
def test_a_baseline_changes_what_was_reported_and_nothing_else(name):
    parent, expected = CHANGES[name]
    tree = yaml.safe_load(file(name).read_text(encoding="utf-8"))
    if parent is None:
        assert "base" not in tree
        before = {"stage": "zero_shot"}
    else:
        assert (file(name).parent / tree["base"]).resolve() == file(parent)
        before = resolved(parent)

    # a key that the parent's stage, head or schedule does not have is compared with its default
    recipe = recipe_of(name)
    changed = {}
    for key, value in resolved(name).items():
        old = before[key] if key in before else default(recipe, key)
        if value != old:
            changed[key] = value
    assert changed == expected


@pytest.mark.parametrize("name", FACTS)
def test_facts_that_are_inherited(name):
    keys = resolved(name)
    assert [(key, keys[key]) for key, _ in FACTS[name]] == FACTS[name]


@pytest.mark.parametrize(("name", "figure"), FIGURES)
def test_notes_have_the_published_figure(name, figure):
    note = recipe_of(name).note
    assert figure in note
    assert "10 splits" in note or "9 splits" in note or "dorsal_r" in note


@pytest.mark.parametrize(
    "name", [name for name in TRAINED if re.search(r"stage[23]/v(?!1_)", name)]
)
def test_notes_say_what_the_figure_is_worth(name):
    note = recipe_of(name).note
    assert re.search(r"test persons|faulty fusion|; the last epoch|; epoch 1\b|of 9 splits", note)


@pytest.mark.parametrize("name", TRAINED)
def test_images_are_prepared_alike_and_epochs_are_not_chosen_by_the_test(name):
    recipe = recipe_of(name)
    # above all no mirroring: it would turn right hands into left ones
    assert recipe.augment == Augment()
    assert not recipe.evaluate.flip
    assert recipe.model.image_mean is None
    assert recipe.model.image_std is None
    assert recipe.model.interpolation == "bicubic"

    assert recipe.data.validation > 0
    assert recipe.evaluate.patience is not None
    assert recipe.batch.num_identities * recipe.batch.num_instances == 32
    assert recipe.evaluate.protocols == []  # the source's own: see below
    assert recipe.evaluate.num_splits == 10


@pytest.mark.parametrize(
    "name", ["base", "stage1/classifier_vit", "stage2/v10_rn50", "stage3/v11_vit"]
)
@pytest.mark.parametrize(
    "switch",
    [
        "data.aspect=dorsal_l",
        "data.aspect=palmar_r",
        "data.aspect=palmar_l",
        "data.source=polyu_hands",
    ],
)
def test_another_aspect_or_hd_by_one_switch(name, switch):
    key, _, value = switch.partition("=")
    changed = keys_of(load_recipe(file(name), [switch]))
    assert changed == {**resolved(name), key: value}


def test_small_and_distractor_galleries_are_the_own_protocols_of_the_hands():
    assert recipe_of("base").protocols() == ("splits", "distractors")

    # the galleries of HK PolyU hold the distractors already
    polyu = load_recipe(file("base"), ["data.source=polyu_hands"])
    assert polyu.protocols() == ("splits",)


def test_one_cycle_warms_up_a_tenth_in_both_phases():
    recipe = recipe_of("stage2/v3_vit")
    assert recipe.optim.warmup_epochs / recipe.optim.epochs == pytest.approx(0.1)
    assert recipe.prompt.warmup_epochs / recipe.prompt.epochs == pytest.approx(0.1)


@pytest.mark.parametrize(("stage", "num_sentences"), [(3, 3), (2, 5)])
def test_templates_take_part(stage, num_sentences):
    """Each has one place for the pseudo word and fits the context, and its fields are known."""
    towers = tiny_towers(image_size=(32, 32)).eval()
    sentences = {}
    for name in TRAINED:
        if name.startswith(f"stage{stage}"):
            prompt = recipe_of(name).prompt
            for template in prompt.template:
                sentences[template] = prompt
    assert len(sentences) == num_sentences

    for template, prompt in sentences.items():
        fields = {"aspect": "right dorsal"} if "{aspect}" in template else {}
        if stage == 2:
            options = {"fields": fields, "num_tokens": prompt.num_tokens}
            templates = IdentityPromptLearner(towers, 3, template, **options).templates
        else:
            templates = PromptComposer(towers, template, fields=fields).templates

        (sentence,) = templates.plain_texts
        assert "{" not in sentence
        assert ("right dorsal hand" in sentence) == bool(fields)


def test_deviations_name_recipes_that_exist():
    text = page("deviations.md")
    section = re.split(r"^## ", text.partition("\n## Hands\n")[2], flags=re.MULTILINE)[0]
    rows = [row.strip("|").split("|") for row in re.findall(r"^\| `.*\|$", section, re.MULTILINE)]
    assert len(rows) > 30
    for cells in rows:
        assert len(cells) == 5, cells
        for pattern in re.findall(r"`([^`]+)`", cells[0]):
            assert fnmatch.filter(NAMES, pattern), pattern
