"""Each version of a pipeline changes what its authors reported, and nothing else.

The table below holds the lists of changes of the authors' documents, claim by claim. A claim
changes keys, or says again what the version before had already, or has a row in
docs/deviations.md that says why it is not taken. Versions are compared once they are resolved.
"""

import fnmatch
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import page
from tiny import keys_of

from examples.settings.recipe import load_recipe
from examples.settings.section import default_of, lookup

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"
FOLDERS = ("hands/stage2/*.yaml", "hands/stage3/*.yaml", "fashion/stage3_*.yaml")


@dataclass(frozen=True)
class Claim:
    """One thing that a version is said to do.

    Attributes:
        said: The claim, in the words of the documents.
        changes: Keys that change for it, with their values.
        holds: Keys that have these values in the version before, too.
        row: Words of the row of the deviations that explains the rest.
    """

    said: str
    changes: dict[str, Any] = field(default_factory=dict)
    holds: dict[str, Any] = field(default_factory=dict)
    row: str = ""


RN50 = Claim("same flags, --model RN50", {"model.name": "RN50-quickgelu"})
FROZEN_STATISTICS = Claim(
    "nothing about BatchNorm", {"model.batch_norm": "frozen"}, row="statistics of BatchNorm"
)
# What hands/base says of training; a recipe that trains shows it.
HANDS = Claim(
    "batches of 32, validation on split 0",
    {
        "data.validation": 0.15,
        "batch.num_identities": 8,
        "optim.warmup_epochs": 0,
        "optim.decay_all": True,
        "evaluate.metric": "rank_1",
    },
    row="holds out 15 % of the training persons",
)

# Hands, stage 2.
FOUR_TEMPLATES = [
    "A photo of a {tokens} hand.",
    "A close-up of the {tokens} of a person.",
    "{tokens} hand image.",
    "An image showing a {tokens}.",
]
DIVERSITY = Claim("Added prompt diversity", {"prompt.template": FOUR_TEMPLATES})
NORMALIZED = Claim("normalization", {"loss.distance": "cosine"}, row="triplets by cosine distance")
BY_BATCH = Claim("cosine per batch", {"optim.by_epoch": False}, row="steps it each batch")
ONE_CYCLE = Claim(
    "Switched to OneCycleLR (pct_start 0.1, to almost 0)",
    {
        "optim.warmup_epochs": 3,
        "optim.warmup_factor": 0.04,
        "optim.min_lr": 0,
        "prompt.warmup_epochs": 3,
        "prompt.warmup_factor": 0.04,
        "prompt.min_lr": 0,
    },
    row="a warm-up of 10 % from a 25th",
)
COSINE = Claim(
    "CosineAnnealing",
    {
        "optim.warmup_epochs": 0,
        "optim.warmup_factor": 0,
        "optim.min_lr": 1e-6,
        "prompt.warmup_epochs": 0,
        "prompt.warmup_factor": 0.0286,
        "prompt.min_lr": 1e-6,
    },
    row="one cosine over all batches",
)
# The distance is that of triplets, and goes and comes with them.
TRIPLET_OFF = Claim("Triplet OFF", {"loss.triplet": 0, "loss.distance": "euclidean"})
TRIPLET_ON = Claim("Triplet ON", {"loss.triplet": 1, "loss.distance": "cosine"})
LOSSES_OFF = [Claim("Triplet and Center loss disabled", {"loss.center": 0}), TRIPLET_OFF]
SOFTENED = [
    Claim(
        "ArcFace softened (scale 20, margin 0.3)",
        {"head.scale": 20, "head.margin": 0.3},
        row="cross entropy of ArcFace logits",
    ),
    Claim("all losses ON", {"loss.center": 5e-4}, {"loss.id": 1, "loss.supcon": 1}),
    TRIPLET_ON,
]
PARTIAL = Claim("unfreeze_blocks=2", {"model.image_blocks": 2}, row="train with the last blocks")
FULL = Claim("full encoder", {"model.image_blocks": "all"}, row='"full encoder" was 12 blocks')
EXTREME = Claim("ArcFace extreme (scale=35, margin 0.4)", {"head.scale": 35, "head.margin": 0.4})
CENTER_3 = Claim("centre loss 3e-4", {"loss.center": 3e-4})

# Hands, stage 3.
STABILITY = [
    Claim("weight_decay=1e-4", {"optim.weight_decay": 1e-4}),
    Claim(
        "LR warm-up, cosine decay (eta_min 1e-7)",
        {"optim.schedule": "cosine", "optim.warmup_epochs": 1, "optim.min_lr": 1e-7},
        row="warms up over the batches of the first epoch",
    ),
    Claim("configurable temperature 0.07", holds={"loss.temperature": 0.07}),
    Claim(
        "supcon weight grows with the epochs",
        {"loss.supcon": 0.5, "loss.ramp_epochs": 20},
        row="gave SupCon the weight 0",
    ),
    Claim("Loss Weight Auto-balancing", {"loss.balance": "magnitude"}, row="never wrote a balance"),
    Claim("Early Stopping Patience = 5", {"evaluate.patience": 5}, row="7 is reported as well"),
]
NO_CROSS_ENTROPY = [
    Claim("avoid crossentropy loss", {"loss.id": 0, "loss.label_smoothing": 0}),
    Claim("and with it the head, whose keys fall back", {"head.neck": True, "head.std": 0.001}),
    Claim("patience of 3", holds={"evaluate.patience": 5}, row="keeps v2's 5"),
]
BNNECK = [
    Claim("classifier: arcface", {"head.kind": "arcface", "loss.id": 1}, row="with weight 1"),
    Claim("label smoothing of the cross-entropy", {"loss.label_smoothing": 0.1}),
    Claim("bnneck_reduction, bnneck_dim: 256", {"head.reduced_dim": 256}),
]
PAPER = [
    Claim(
        "3-layer MLP with 512 hidden dimensions, BatchNorm1d",
        {"prompt.inversion": "paper"},
        {"prompt.inversion_dim": 512},
    ),
    Claim(
        "1 cross-attn + 2 self-attn",
        {"prompt.interaction_blocks": 2, "prompt.interaction_dropout": 0.1},
        row="built 3 self-attention blocks",
    ),
    Claim(
        "A photo of a {} {aspect} hand.",
        {"prompt.template": ["A photo of a {tokens} {aspect} hand."]},
    ),
    Claim(
        "composed prompt for training and validation",
        holds={"prompt.mode": "composed", "prompt.test_mode": "composed"},
    ),
]
SLOW = [
    Claim("max_norm=1.0", {"optim.clip_norm": 1}, row="clips before it"),
    Claim(
        "lr_clip_visual: 0.000001, lr_modules: 0.000001",
        {"optim.lr": 1e-6, "optim.head_lr": 1e-6},
    ),
    Claim(
        "BNNeck + ArcFace, optional inference switch",
        holds={"head.kind": "arcface", "head.reduced_dim": 256, "prompt.test_mode": "composed"},
    ),
]
CONSTANT = Claim(
    "Removed CosineAnnealingLR", {"optim.schedule": "constant", "optim.warmup_epochs": 0}
)
LONG = [
    Claim("epochs: 60", {"optim.epochs": 60}),
    Claim("early_stop_patience: 10", {"evaluate.patience": 10}),
    Claim("(supcon weight over all epochs, as before)", {"loss.ramp_epochs": 60}),
]
SURVEILLANCE = Claim(
    "from 'A detailed photo of {aspect} hand for identification.' to 'A captured frame ...'",
    {
        "prompt.template": [
            "A captured frame showing a persons {tokens} {aspect} hand during surveillance."
        ]
    },
    row="v5's, which is v9's",
)
PORTRAIT = [
    Claim("224 x 128", {"model.image_size": (224, 128)}),
    Claim("Resize((224, 128))", {"model.fit": "stretch"}, row="stretched images to 224 x 128"),
]

# Fashion, stage 3.
JOINT = [
    Claim("v1: InfoNCE", {"loss.info_nce": 1}, {"loss.temperature": 0.07}),
    Claim("raw prompts", {"data.texts": "image_prompts_per_identity.json"}),
    Claim(
        "--batch_size 32, default sampler",
        {"batch.num_identities": 32, "batch.num_instances": 1},
        row="Shuffled batches with one image of an item",
    ),
    Claim("--epochs 10 --lr 5e-5", {"optim.lr": 5e-5}, {"optim.epochs": 10}),
    Claim(
        "LR scheduler: constant; AdamW as torch has it",
        {
            "optim.schedule": "constant",
            "optim.warmup_epochs": 0,
            "optim.weight_decay": 0.01,
            "optim.decay_all": True,
        },
    ),
    Claim("--early_stop_patience 3", {"evaluate.patience": 3}),
    Claim(
        "--val_split val --early_stop_metric val_loss",
        {"data.validation": 0.2},
        row="on a fifth of the training items, held out",
    ),
]
SUPCON = [
    Claim(
        "SupCon",
        {"loss.info_nce": 0, "loss.supcon_image": 1, "loss.supcon_text": 1},
        row="SupCon among images, and between images and prompts",
    ),
    Claim(
        "--p 16 --k 2",
        {"batch.num_identities": 16, "batch.num_instances": 2},
        row="An epoch shows every image",
    ),
    Claim("clean prompts, 2 images/ID", {"data.texts": "image_prompts_clean.json"}),
    Claim("--epochs 20", {"optim.epochs": 20}),
]
TOKEN_SAFE = [
    Claim(
        "77-token-safe prompts",
        {
            "data.texts": "image_prompts_structured.json",
            "data.texts_key": "variant",
            "data.token_safe": True,
        },
        row="Colour and category first",
    ),
    Claim("--epochs 50", {"optim.epochs": 50}),
    Claim(
        "CosineAnnealing + warm-up",
        {"optim.schedule": "cosine", "optim.warmup_epochs": 2},
        row="Warm-up for two epochs",
    ),
    Claim("--early_stop_patience 10", {"evaluate.patience": 10}),
    Claim("a run of its own, not resumed", {"init_from": None}),
    Claim("--lr 5e-5", {"optim.lr": 5e-5}),
]

# recipe: the version before it, and all that the documents say of it
VERSIONS: dict[str, tuple[str, list[Claim]]] = {
    "hands/stage2/v1_vit": (
        "hands/base",
        [
            HANDS,
            Claim(
                "Baseline dual-stage",
                {
                    "stage": "clip_reid",
                    "prompt.template": ["A photo of {tokens}'s {aspect} hand for identification."],
                    "prompt.num_tokens": 12,
                    "prompt.epochs": 30,
                    "prompt.batch_size": 32,
                    "prompt.warmup_epochs": 0,
                    "prompt.temperature": 0.07,
                    "prompt.normalize": True,
                    "optim.epochs": 30,
                },
            ),
            Claim(
                "all losses",
                {"loss.id": 1, "loss.triplet": 1, "loss.center": 5e-4, "loss.supcon": 1},
                {"loss.margin": 0.3, "loss.temperature": 0.07, "optim.center_lr": 0.5},
            ),
            Claim(
                "ArcFace, scale 30 and margin 0.5",
                {"head.kind": "arcface"},
                {"head.scale": 30, "head.margin": 0.5},
                row="one term for the reported two",
            ),
            Claim(
                "Adam 1e-4, weight decay 5e-4",
                {
                    "optim.optimizer": "adam",
                    "optim.lr": 1e-4,
                    "optim.weight_decay": 5e-4,
                    "prompt.lr": 1e-4,
                    "prompt.weight_decay": 5e-4,
                },
            ),
            Claim(
                "Cosine LR",
                {"optim.min_lr": 1e-6, "optim.by_epoch": True},
                {"prompt.min_lr": 1e-6, "optim.schedule": "cosine"},
                row="each phase has its own cosine",
            ),
            Claim("patience 5", {"evaluate.patience": 5}),
        ],
    ),
    "hands/stage2/v1_rn50": ("hands/stage2/v1_vit", [RN50, FROZEN_STATISTICS]),
    "hands/stage2/v2_vit": (
        "hands/stage2/v1_vit",
        [
            DIVERSITY,
            Claim(
                "AdamW, a rate for each part",
                {"optim.optimizer": "adamw", "optim.lr": 1e-5, "optim.head_lr": 1e-4},
            ),
            NORMALIZED,
            BY_BATCH,
        ],
    ),
    "hands/stage2/v2_rn50": (
        "hands/stage2/v1_rn50",
        [
            DIVERSITY,
            Claim(
                "AdamW, a rate for each part",
                {"optim.optimizer": "adamw", "optim.head_lr": 1e-4},
                {"optim.lr": 1e-4},
            ),
            NORMALIZED,
            BY_BATCH,
        ],
    ),
    "hands/stage2/v3_vit": ("hands/stage2/v2_vit", [ONE_CYCLE]),
    "hands/stage2/v3_rn50": (
        "hands/stage2/v2_rn50",
        [ONE_CYCLE, Claim("RN50: lr_visual 5e-4", {"optim.lr": 5e-4})],
    ),
    "hands/stage2/v4_vit": ("hands/stage2/v3_vit", LOSSES_OFF),
    "hands/stage2/v4_rn50": ("hands/stage2/v3_rn50", LOSSES_OFF),
    "hands/stage2/v5_vit": ("hands/stage2/v4_vit", SOFTENED),
    "hands/stage2/v5_rn50": ("hands/stage2/v4_rn50", SOFTENED),
    "hands/stage2/v6_vit": ("hands/stage2/v5_vit", [PARTIAL]),
    "hands/stage2/v6_rn50": ("hands/stage2/v5_rn50", [PARTIAL]),
    "hands/stage2/v7_rn50": (
        "hands/stage2/v6_rn50",
        [
            Claim("reduced LR", holds={"optim.lr": 5e-4}, row='"reduced LR"'),
            Claim("ArcFace scale=25, margin 0.35", {"head.scale": 25, "head.margin": 0.35}),
            Claim("unfreeze_blocks=2", holds={"model.image_blocks": 2}),
        ],
    ),
    "hands/stage2/v8_rn50": (
        "hands/stage2/v7_rn50",
        [
            Claim("deeper FT (unfreeze_blocks=4)", {"model.image_blocks": 4}),
            Claim("Center ON", holds={"loss.center": 5e-4}),
            Claim("scale 30, margin 0.35", {"head.scale": 30}, {"head.margin": 0.35}),
            Claim("lr_visual 1e-4", {"optim.lr": 1e-4}),
            COSINE,
        ],
    ),
    "hands/stage2/v9_vit": (
        "hands/stage2/v6_vit",
        [EXTREME, TRIPLET_OFF, CENTER_3, FULL, COSINE, Claim("1e-5", holds={"optim.lr": 1e-5})],
    ),
    "hands/stage2/v9_rn50": (
        "hands/stage2/v8_rn50",
        [EXTREME, TRIPLET_OFF, CENTER_3, FULL, Claim("lr_visual 7e-5", {"optim.lr": 7e-5})],
    ),
    "hands/stage2/v10_rn50": (
        "hands/stage2/v9_rn50",
        [
            Claim("ArcFace scale=30", {"head.scale": 30}, {"head.margin": 0.4}),
            TRIPLET_ON,
            Claim("unfreeze_blocks 4", {"model.image_blocks": 4}, row="4 blocks in its files"),
        ],
    ),
    "hands/stage3/v1_vit": (
        "hands/base",
        [
            HANDS,
            Claim("Baseline PromptSG", {"stage": "prompt_sg"}),
            Claim("nn.Linear", {"head.neck": False, "head.std": 0.0255}, {"head.kind": "linear"}),
            Claim(
                "CE + Triplet",
                {"loss.id": 1, "loss.triplet": 1, "loss.label_smoothing": 0.1},
                {"loss.margin": 0.3},
            ),
            Claim("SupCon = 0", holds={"loss.supcon": 0}),
            Claim(
                "AdamW: clip.visual 0.0001, all others 0.00001, weight_decay 0.0005",
                {"optim.lr": 1e-4, "optim.head_lr": 1e-5, "optim.weight_decay": 5e-4},
                {"optim.optimizer": "adamw", "optim.clip_norm": 5},
            ),
            Claim("constant rate", {"optim.schedule": "constant"}),
            Claim(
                "A detailed photo of {}'s {aspect} hand for identification.",
                {
                    "prompt.template": [
                        "A detailed photo of {tokens}'s {aspect} hand for identification."
                    ]
                },
                row="fills it in",
            ),
            Claim(
                "TextualInversionMLP: Basic",
                {"prompt.inversion": "basic"},
                {"prompt.mode": "composed"},
                row="two linear layers with a ReLU",
            ),
            Claim(
                "cross-attention (1 layer), mean pooling",
                {"prompt.interaction_blocks": 0},
                row="the mean of three attended vectors",
            ),
            Claim(
                "F.normalize() on pooled embeddings",
                {"prompt.unit_representation": True, "prompt.triplet_levels": "final"},
            ),
            Claim("F.dropout(p=0.1) after fusion", row="dropout after the normalisation"),
            Claim("20 epochs, patience 3", {"optim.epochs": 20, "evaluate.patience": 3}),
            Claim(
                "classifier logits not used in validation", holds={"evaluate.distance": "cosine"}
            ),
        ],
    ),
    "hands/stage3/v1_rn50": (
        "hands/stage3/v1_vit",
        [RN50, FROZEN_STATISTICS, Claim("nn.Linear of 1024", {"head.std": 0.018})],
    ),
    "hands/stage3/v2_vit": ("hands/stage3/v1_vit", STABILITY),
    "hands/stage3/v2_rn50": ("hands/stage3/v1_rn50", STABILITY),
    "hands/stage3/v3_vit": ("hands/stage3/v2_vit", NO_CROSS_ENTROPY),
    "hands/stage3/v3_rn50": ("hands/stage3/v2_rn50", NO_CROSS_ENTROPY),
    "hands/stage3/v4_vit": ("hands/stage3/v3_vit", BNNECK),
    "hands/stage3/v4_rn50": ("hands/stage3/v3_rn50", BNNECK),
    "hands/stage3/v5_vit": ("hands/stage3/v4_vit", PAPER),
    "hands/stage3/v5_rn50": ("hands/stage3/v4_rn50", PAPER),
    "hands/stage3/v6_vit": ("hands/stage3/v5_vit", SLOW),
    "hands/stage3/v6_rn50": ("hands/stage3/v5_rn50", SLOW),
    "hands/stage3/v7_vit": (
        "hands/stage3/v6_vit",
        [Claim("keep ID loss (even with low weight)", {"loss.id": 0.2}, row="with weight 0.2")],
    ),
    "hands/stage3/v7_rn50": (
        "hands/stage3/v6_rn50",
        [
            Claim("keep ID loss (even with low weight)", {"loss.id": 0.1}, row="with weight 0.2"),
            Claim(
                "lr_visual 0.0005, ArcFace scale 25 margin 0.35, unfreeze_blocks 2",
                holds={"optim.lr": 1e-6, "head.scale": 30, "model.image_blocks": "all"},
                row="a remark gives it",
            ),
        ],
    ),
    "hands/stage3/v8_vit": (
        "hands/stage3/v7_vit",
        [Claim("Config unchanged for ViT", row="took out warm-up and cosine"), CONSTANT],
    ),
    "hands/stage3/v8_rn50": (
        "hands/stage3/v7_rn50",
        [
            Claim("lr_clip_visual, lr_modules 0.0001", {"optim.lr": 1e-4, "optim.head_lr": 1e-4}),
            Claim("max_norm= 0.5", {"optim.clip_norm": 0.5}),
            Claim("bnneck_dim: 1024", {"head.reduced_dim": 1024}),
            CONSTANT,
            Claim(
                "unfreeze_blocks 4, ArcFace scale 30 margin 0.35",
                holds={"head.scale": 30, "head.margin": 0.5, "model.image_blocks": "all"},
                row="a remark gives it",
            ),
        ],
    ),
    "hands/stage3/v9_vit": ("hands/stage3/v8_vit", LONG),
    "hands/stage3/v9_rn50": ("hands/stage3/v8_rn50", LONG),
    "hands/stage3/v10_vit": ("hands/stage3/v9_vit", [SURVEILLANCE]),
    "hands/stage3/v10_rn50": ("hands/stage3/v9_rn50", [SURVEILLANCE]),
    "hands/stage3/v11_vit": ("hands/stage3/v10_vit", PORTRAIT),
    "hands/stage3/v11_rn50": ("hands/stage3/v10_rn50", PORTRAIT),
    "fashion/stage3_v1_vit": ("fashion/stage1_vit", [Claim("v1", {"stage": "joint"}), *JOINT]),
    "fashion/stage3_v1_rn50": (
        "fashion/stage3_v1_vit",
        [
            RN50,
            Claim("nothing about BatchNorm", {"model.batch_norm": "frozen"}, row="Small batches"),
        ],
    ),
    "fashion/stage3_v2_vit": ("fashion/stage3_v1_vit", SUPCON),
    "fashion/stage3_v2_rn50": (
        "fashion/stage3_v1_rn50",
        [*SUPCON, Claim("same flags, or 5e-4", holds={"optim.lr": 5e-5}, row="no log says")],
    ),
    "fashion/stage3_v3_vit": (
        "fashion/stage3_v2_vit",
        [
            Claim("--resume_ckpt", {"init_from": "runs/fashion/stage3_v2_vit"}, row="`init_from`"),
            Claim("--lr 1e-4", {"optim.lr": 1e-4}),
        ],
    ),
    "fashion/stage3_v3_rn50": (
        "fashion/stage3_v2_rn50",
        [
            Claim("--resume_ckpt", {"init_from": "runs/fashion/stage3_v2_rn50"}, row="`init_from`"),
            Claim(
                "higher LR",
                {"optim.lr": 1e-5, "loss.temperature": 0.05, "evaluate.patience": 5},
                row='"Higher rate" in the documents',
            ),
        ],
    ),
    "fashion/stage3_v4_vit": (
        "fashion/stage3_v3_vit",
        [*TOKEN_SAFE, Claim("--temperature 0.05", {"loss.temperature": 0.05})],
    ),
    "fashion/stage3_v4_rn50": (
        "fashion/stage3_v3_rn50",
        [*TOKEN_SAFE, Claim("--model RN50, temperature 0.07", {"loss.temperature": 0.07})],
    ),
}


@functools.cache
def recipe_of(name):
    return load_recipe(RECIPES / f"{name}.yaml")


def difference(recipe, before):
    """Keys in which a recipe differs; one that the other lacks is compared with its default."""
    old = keys_of(before)
    changed = {}
    for key, value in keys_of(recipe).items():
        usual = default_of(lookup(recipe, key)[1])
        if value != old.get(key, usual):
            changed[key] = value
    return changed


def reported(name):
    """All keys that the claims about a version change."""
    changes = {}
    for claim in VERSIONS[name][1]:
        assert not changes.keys() & claim.changes.keys()
        changes |= claim.changes
    return changes


def tree_of(name):
    return yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))


def lines_of(tree):
    """Keys that a file says itself."""
    for section, value in tree.items():
        if isinstance(value, dict):
            yield from ((section, key) for key in value)
        elif section not in ("base", "note"):
            yield (section, None)


def deviations(name):
    """Rows of the deviations that are about a recipe."""
    family, _, stem = name.partition("/")
    text = page("deviations.md")
    for row in re.findall(r"^\| `.*\|$", text, re.MULTILINE):
        patterns = re.findall(r"`([^`]+)`", row.split("|")[1])
        plain = [pattern.removesuffix(".yaml").removeprefix(f"{family}/") for pattern in patterns]
        if any(fnmatch.fnmatch(stem, pattern) for pattern in plain):
            yield row


def test_every_version_is_in_the_table():
    files = [path for pattern in FOLDERS for path in RECIPES.glob(pattern)]
    names = {path.relative_to(RECIPES).with_suffix("").as_posix() for path in files}
    assert set(VERSIONS) == names


@pytest.mark.parametrize("name", VERSIONS)
def test_a_version_changes_what_was_reported_and_nothing_else(name):
    before, _ = VERSIONS[name]
    assert difference(recipe_of(name), recipe_of(before)) == reported(name)


@pytest.mark.parametrize("name", VERSIONS)
def test_what_was_reported_again_holds_before_and_after(name):
    before, claims = VERSIONS[name]
    for claim in claims:
        for key, value in claim.holds.items():
            assert keys_of(recipe_of(name))[key] == value, claim.said
            found = lookup(recipe_of(before), key)
            assert found is None or found[0] == value, claim.said


@pytest.mark.parametrize("name", VERSIONS)
def test_what_is_not_taken_has_a_row_of_the_deviations(name):
    rows = list(deviations(name))
    for claim in VERSIONS[name][1]:
        assert claim.changes or claim.holds or claim.row, claim.said
        assert not claim.row or any(claim.row in row for row in rows), claim.said


def mutants():
    """Every line of a version but those that say a default again."""
    for name, (_, claims) in VERSIONS.items():
        said_again = {key for claim in claims for key in claim.holds}
        for section, key in lines_of(tree_of(name)):
            if f"{section}.{key}" not in said_again:
                yield name, section, key


@pytest.mark.parametrize(("name", "section", "key"), list(mutants()))
def test_a_line_that_is_left_out_is_noticed(tmp_path, name, section, key):
    """Mutants of the recipes: none of their lines is idle, and the table would miss each."""
    before, _ = VERSIONS[name]
    tree = tree_of(name)
    if "base" in tree:
        tree["base"] = str((RECIPES / f"{name}.yaml").parent / tree["base"])

    if key is None:
        del tree[section]
    else:
        del tree[section][key]
    mutant = tmp_path / "mutant.yaml"
    mutant.write_text(yaml.safe_dump(tree))

    try:
        changed = difference(load_recipe(mutant), recipe_of(before))
    except ValueError:  # no recipe at all without it
        return
    assert changed != reported(name)
