"""Every recipe takes real steps on a small tower, over a small set in the layout that it is for."""

import json
from pathlib import Path

import layouts
import pytest

from clipreid_kit import warmup_cosine_factor
from examples.settings.recipe import load_recipe
from examples.settings.smoke import smoke
from examples.trainer import stages
from examples.trainer.__main__ import run

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
RECIPES = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
QUICK = {"fashion/stage3_v2_rn50", "hands/stage2/v5_vit", "papers/prompt_sg_vit_market1501", "quickstart/classifier"}


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    made = {}

    def root(source):
        if source not in made and hasattr(layouts, source):
            made[source] = str(getattr(layouts, source)(tmp_path_factory.mktemp(source)))
        return made.get(source)

    return root


def closed_form(optim, epoch, base):
    """Rate of the last step of an epoch, written anew; for schedules by epoch or with one step an epoch's end."""
    return base * warmup_cosine_factor(epoch - 1, round(optim.warmup_epochs), optim.epochs)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RECIPES])
def test_recipe_trains(tmp_path, monkeypatch, roots, name):
    recipe = load_recipe(FOLDER / f"{name}.yaml")
    own = {r: getattr(recipe.optim, r) for r in ("lr", "text_lr", "head_lr", "projection_lr")}
    factor = max(1.0, 1e-3 / max(rate for rate in own.values() if rate))  # steps that can be seen in two epochs
    changes = [f"optim.{r}={rate * factor}" for r, rate in own.items() if rate]
    recipe = load_recipe(FOLDER / f"{name}.yaml", changes if recipe.stage != "zero_shot" else [])
    recipe.data.root = roots(recipe.data.source)
    small = smoke(recipe)
    seen = {}
    built = stages.method_of

    def method_of(*arguments, **options):
        method = built(*arguments, **options)
        seen["method"] = method
        seen["before"] = {n: p.detach().clone() for n, p in method.named_parameters()}
        for n, p in method.named_parameters():
            if p.requires_grad:
                p.register_hook(lambda g, n=n: seen.setdefault("gradients", {}).__setitem__(n, bool((g != 0).any())))
        return method

    monkeypatch.setattr(stages, "method_of", method_of)
    run(small, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results) - {"data"} == ({"before"} if recipe.stage == "zero_shot" else {"before", "after"})
    if recipe.stage == "zero_shot":
        return
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert sum(rows[0][term] for term in rows[0] if term in TERMS) == pytest.approx(rows[0]["loss"], rel=1e-4)
    after = dict(seen["method"].named_parameters())
    still = {n for n, p in seen["before"].items() if p.equal(after[n])}
    trained = {n for n, p in after.items() if p.requires_grad}
    assert trained <= set(seen["gradients"])
    assert not [n for n, nonzero in seen["gradients"].items() if not nonzero]
    assert still == set(after) - trained
    if recipe.stage == "clip_reid" and recipe.prompt.epochs:
        prompts = [
            json.loads(line) for line in (tmp_path / "run" / "prompt" / "metrics.jsonl").read_text().splitlines()
        ]
        assert prompts[-1]["loss"] < prompts[0]["loss"]


TERMS = set(stages.terms_of(load_recipe(FOLDER / "quickstart" / "joint.yaml")))
