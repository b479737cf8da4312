"""Every recipe takes real steps on a small tower, over a small set in the layout that it is for."""

import json
import math
from pathlib import Path

import pytest

from examples.settings.recipe import load_recipe
from examples.settings.smoke import smoke
from examples.trainer import loop, stages
from examples.trainer.__main__ import run

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
RECIPES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml")
)
# margins, few batches, negatives that grow harder; a memory has few prototypes to tell apart in its first epoch
SLOW_TO_FALL = {
    "hands/stage1/arcface_rn50",
    "omniglot/image_tower",
    "omniglot/clip_reid",  # the prompts: two steps an epoch, of other identities each
    "retrieval/contrastive_hard_negative",
    "papers/prototype_vit_market1501",
    "papers/prototype_vit_msmt17",
}
QUICK = {
    "fashion/stage3_v2_rn50",
    "hands/stage2/v5_vit",
    "papers/prompt_sg_vit_market1501",
    "quickstart/classifier",
}


def closed_form(optim, base, step, steps):
    """The rate of a group at a step, written anew."""
    t, unit = (step // steps, 1) if optim.by_epoch else (step, steps)
    warm, total = round(optim.warmup_epochs * unit), optim.epochs * unit
    if t < warm:
        return base * (optim.warmup_factor + (1 - optim.warmup_factor) * (t + 1) / warm)
    low = min(optim.min_lr, base)
    if optim.schedule == "cosine":
        return low + (base - low) * (1 + math.cos(math.pi * (t - warm) / (total - warm))) / 2
    if optim.schedule == "restarts":
        period = optim.step_epochs * unit
        return low + (base - low) * (1 + math.cos(math.pi * ((t - warm) % period) / period)) / 2
    falls = {
        "constant": 0,
        "multistep": sum(t >= m * unit for m in optim.milestones),
        "step": t // (optim.step_epochs * unit),
        "exponential": (t - warm) // unit,
    }
    return base * optim.gamma ** falls[optim.schedule]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RECIPES]
)
def test_recipe_trains(tmp_path, monkeypatch, roots, name):
    recipe = load_recipe(FOLDER / f"{name}.yaml")
    own = {r: getattr(recipe.optim, r) for r in ("lr", "text_lr", "head_lr", "projection_lr")}
    factor = max(
        1.0, 1e-3 / max(rate for rate in own.values() if rate)
    )  # steps that can be seen in two epochs
    changes = [f"optim.{r}={rate * factor}" for r, rate in own.items() if rate]
    recipe = load_recipe(FOLDER / f"{name}.yaml", changes if recipe.stage != "zero_shot" else [])
    recipe.data.root = roots(recipe.data.source)
    small = smoke(recipe)
    if name in SLOW_TO_FALL:
        small.optim.epochs = 5
        small.prompt.epochs = 10 if recipe.prompt.epochs else 0
    seen = {}
    exact, rates = loop.rate, []

    def rate(optim, base, step, steps):
        rates.append((exact(optim, base, step, steps), closed_form(optim, base, step, steps)))
        return rates[-1][0]

    monkeypatch.setattr(loop, "rate", rate)
    built = stages.method_of

    def method_of(*arguments, **options):
        method = built(*arguments, **options)
        seen["method"] = method
        seen["before"] = {n: p.detach().clone() for n, p in method.named_parameters()}
        for n, p in method.named_parameters():
            if p.requires_grad:
                p.register_hook(
                    lambda g, n=n: seen.setdefault("gradients", {}).__setitem__(
                        n, bool((g != 0).any())
                    )
                )
        return method

    monkeypatch.setattr(stages, "method_of", method_of)
    run(small, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results) - {"data"} == (
        {"before"} if recipe.stage == "zero_shot" else {"before", "after"}
    )
    if recipe.stage == "zero_shot":
        return
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows[-1]["loss"] < max(row["loss"] for row in rows[:-1])
    found, expected = zip(*rates, strict=True)
    assert found == pytest.approx(expected, rel=1e-9)
    assert sum(rows[0][term] for term in rows[0] if term in TERMS) == pytest.approx(
        rows[0]["loss"], rel=1e-4
    )
    after = dict(seen["method"].named_parameters())
    still = {n for n, p in seen["before"].items() if p.equal(after[n])}
    trained = {n for n, p in after.items() if p.requires_grad}
    assert trained <= set(seen["gradients"])
    assert not [n for n, nonzero in seen["gradients"].items() if not nonzero]
    assert still == set(after) - trained
    if recipe.stage == "clip_reid" and recipe.prompt.epochs:
        prompts = [
            json.loads(line)
            for line in (tmp_path / "run" / "prompt" / "metrics.jsonl").read_text().splitlines()
        ]
        assert prompts[-1]["loss"] < prompts[0]["loss"]


TERMS = set(stages.terms_of(load_recipe(FOLDER / "quickstart" / "joint.yaml")))
