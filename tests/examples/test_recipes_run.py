"""Every recipe takes real steps on a small tower, over a small set in the layout that it is for."""

import json
import math
from pathlib import Path

import pytest

from examples.settings.optim import AnyOptim
from examples.settings.recipe import load_recipe
from examples.settings.smoke import smoke
from examples.trainer import loop
from examples.trainer import run as trainer

# Small sets are cut smaller still: an identity may keep a single image.
# SLOW_TO_FALL is of the losses of the models as they are.
pytestmark = [
    pytest.mark.filterwarnings("ignore:PKSampler. .* have a single image:UserWarning"),
    pytest.mark.full_width,
]

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
RECIPES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml")
)
# Margins, few batches, negatives that grow harder, towers from scratch; a memory with few
# prototypes at first.
SLOW_TO_FALL = {
    "fashion/stage3_v1_vit",
    "fashion/stage3_v2_vit",
    "fashion/stage3_v3_vit",
    "hands/stage1/arcface_rn50",
    "omniglot/image_tower",
    "omniglot/clip_reid",  # the prompts: two steps an epoch, of other identities each
    "retrieval/captioned_folder",
    "retrieval/contrastive_hard_negative",
    "papers/prototype_vit_market1501",
    "papers/prototype_vit_msmt17",
    "robust/leave_night_out",
    "robust/patches",
    "robust/stripes",
    "robust/stripes_and_patches",
    "small/person",
    "small/things",
    "small/vehicle",
    "text_to_person/tbps_clip_vit_cuhk_pedes",
    "unsupervised/generated_supervised",
    "unsupervised/omniglot_supervised",
}
WITH_REPORT = {  # of every stage
    "fashion/stage3_v2_rn50",
    "hands/stage2/v5_vit",
    "own/train",
    "papers/prompt_sg_vit_market1501",
    "quickstart/classifier",
}


def closed_form(optim, peak, step, steps):
    """The rate of a group at a step, written anew."""
    t, unit = (step // steps, 1) if optim.by_epoch else (step, steps)
    warm, total = round(optim.warmup_epochs * unit), optim.epochs * unit
    if t < warm:
        return peak * (optim.warmup_factor + (1 - optim.warmup_factor) * (t + 1) / warm)

    if optim.schedule in ("cosine", "restarts"):
        period = total - warm if optim.schedule == "cosine" else optim.step_epochs * unit
        low = min(optim.min_lr, peak)
        return low + (peak - low) * (1 + math.cos(math.pi * ((t - warm) % period) / period)) / 2

    if optim.schedule == "constant":
        return peak
    if optim.schedule == "multistep":
        return peak * optim.gamma ** sum(t >= m * unit for m in optim.milestones)
    if optim.schedule == "step":
        return peak * optim.gamma ** (t // (optim.step_epochs * unit))
    return peak * optim.gamma ** ((t - warm) // unit)


def faster(recipe):
    """Changes to rates with which steps can be seen in two epochs."""
    if recipe.stage == "zero_shot":
        return []

    names = ("lr", "text_lr", "head_lr", "projection_lr")
    rates = {name: getattr(recipe.optim, name) for name in names}
    known = {name: rate for name, rate in rates.items() if rate}
    factor = max(1.0, 1e-3 / max(known.values()))
    return [f"optim.{name}={rate * factor}" for name, rate in known.items()]


class Watched:
    """The method of the last training, what it began with, and which parameters had a gradient."""

    def __init__(self, monkeypatch):
        self.rates = []
        self.method, self.began, self.gradients = None, {}, {}
        exact, prepare = AnyOptim.rate, loop.prepare

        def rate(optim, peak, step, steps):
            self.rates.append(
                (exact(optim, peak, step, steps), closed_form(optim, peak, step, steps))
            )
            return self.rates[-1][0]

        def prepared(training):
            self.watch(training.method)
            prepare(training)

        monkeypatch.setattr(AnyOptim, "rate", rate)
        monkeypatch.setattr(loop, "prepare", prepared)

    def watch(self, method):
        self.method, self.gradients = method, {}
        self.began = {name: p.detach().clone() for name, p in method.named_parameters()}
        for name, parameter in method.named_parameters():
            if parameter.requires_grad:
                parameter.register_hook(
                    lambda gradient, name=name: self.gradients.__setitem__(
                        name, bool((gradient != 0).any())
                    )
                )


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains(tmp_path, monkeypatch, roots, name):
    path = FOLDER / f"{name}.yaml"
    recipe = load_recipe(path)
    recipe = load_recipe(path, faster(recipe), data=roots(recipe.data.source))
    small = smoke(recipe)
    if getattr(small, "precision", "no") == "fp16":
        small.precision = "bf16"  # on a GPU the first steps of fp16 are skipped, to find its scale
    if name in SLOW_TO_FALL:
        small.optim.epochs = 5
        if recipe.stage == "clip_reid" and recipe.prompt.epochs:
            small.prompt.epochs = 10

    if name not in WITH_REPORT:
        monkeypatch.setattr(trainer, "write_run_report", lambda *_, **__: None)

    watched = Watched(monkeypatch)
    trainer.run(small, tmp_path / "run")

    results = json.loads((tmp_path / "run" / "results.json").read_text())
    moments = {"before"} if recipe.stage == "zero_shot" else {"before", "after"}
    assert set(results) - {"data"} == moments
    if recipe.stage == "zero_shot":
        return

    history = rows(tmp_path / "run" / "metrics.jsonl")
    if getattr(small.loss, "balance", "none") == "none":  # balanced terms change their factors
        assert history[-1]["loss"] < max(row["loss"] for row in history[:-1])
    names = {*small.loss.terms(), "distillation"}
    terms = [value for term, value in history[0].items() if term in names]
    assert sum(terms) == pytest.approx(history[0]["loss"], rel=1e-4)
    found, expected = zip(*watched.rates, strict=True)
    assert found == pytest.approx(expected, rel=1e-9)

    after = dict(watched.method.named_parameters())
    unmoved = {name for name, p in watched.began.items() if p.equal(after[name])}
    trained = {name for name, p in after.items() if p.requires_grad}
    assert trained <= set(watched.gradients)
    assert not [name for name, nonzero in watched.gradients.items() if not nonzero]
    assert unmoved == set(after) - trained

    if recipe.stage == "clip_reid" and recipe.prompt.epochs:
        prompts = rows(tmp_path / "run" / "prompt" / "metrics.jsonl")
        assert prompts[-1]["loss"] < prompts[0]["loss"]
