"""Which keys go together. A key that would change nothing in its recipe is an error, never decoration."""

import dataclasses
from collections.abc import Callable

from examples.settings.config import Loss, Recipe

TEXT_TERMS = ("supcon_text", "info_nce", "hard_negative", "triplet_text")
TOWER_TERMS = ("id", "triplet", "center", "supcon_image", "prototype")
TERMS = {
    "classifier": TOWER_TERMS,
    "image_encoder": (*TOWER_TERMS, "supcon_text", "info_nce"),
    "joint": (*TOWER_TERMS, *TEXT_TERMS),
    "retrieval": (*TEXT_TERMS, "supcon_image", "triplet"),
    "clip_reid": ("id", "triplet", "image_to_text", "supcon", "center"),
    "prompt_sg": ("id", "triplet", "supcon"),
}
WITHOUT_IDENTITIES = ("triplet", "supcon_image", *TEXT_TERMS)  # terms that have a value for identities never seen


def terms_of(recipe: Recipe) -> dict[str, float]:
    """Weights of the terms that are switched on."""
    names = {name for terms in TERMS.values() for name in terms}
    return {f.name: getattr(recipe.loss, f.name) for f in dataclasses.fields(Loss) if f.name in names}  # in this order


def uses_text(recipe: Recipe) -> bool:
    """Whether the recipe trains on captions."""
    return any(terms_of(recipe)[name] for name in TEXT_TERMS)


def trains_text(recipe: Recipe) -> bool:
    """Whether the text tower is trained."""
    return recipe.stage in ("joint", "retrieval") and uses_text(recipe)


def _any(*names: str) -> Callable[[Recipe], bool]:
    return lambda recipe: any(getattr(recipe.loss, name) > 0 for name in names)


_TRIPLETS, _CONTRASTS = _any("triplet", "triplet_text"), _any("supcon_image", *TEXT_TERMS, "supcon", "prototype")
_NEEDS: dict[str, tuple[Callable[[Recipe], bool], str]] = {
    "data.max_tokens": (lambda r: r.data.token_safe, "data.token_safe"),
    "data.paraphrases": (lambda r: r.data.caption_variations > 1, "data.caption_variations above 1"),
    "data.synonyms": (lambda r: r.data.caption_variations > 1, "data.caption_variations above 1"),
    "data.at_most": (lambda r: r.data.balance != "none", "data.balance"),
    "data.at_least": (lambda r: r.data.balance != "none", "data.balance"),
    "prompt": (lambda r: r.stage in ("clip_reid", "prompt_sg"), "stage clip_reid or prompt_sg"),
    "mining": (lambda r: r.stage == "retrieval", "stage retrieval"),
    "mining.num_negatives": (lambda r: r.mining.data == "hard_negative", "mining.data: hard_negative"),
    "mining.negatives": (lambda r: r.mining.data == "hard_negative", "mining.data: hard_negative"),
    "mining.triplets": (lambda r: r.mining.data == "triplet", "mining.data: triplet"),
    "mining.positives": (lambda r: r.mining.data == "triplet", "mining.data: triplet"),
    "mining.margin": (lambda r: r.mining.data == "triplet", "mining.data: triplet"),
    "mining.refresh_epochs": (lambda r: r.mining.data != "standard", "mined data"),
    "head": (_any("id"), "loss.id"),
    "head.scale": (lambda r: r.head.kind != "linear", "head.kind: arcface or cosface"),
    "head.margin": (lambda r: r.head.kind != "linear", "head.kind: arcface or cosface"),
    "head.std": (lambda r: r.head.kind == "linear", "head.kind: linear"),
    "head.reduced_dim": (
        lambda r: r.head.neck and r.stage != "clip_reid",
        "head.neck, and another stage than clip_reid",
    ),
    "head.neck": (lambda r: r.stage != "clip_reid", "another stage than clip_reid, which has its necks"),
    "head.dropout": (lambda r: r.stage not in ("clip_reid", "prompt_sg"), "another stage than clip_reid and prompt_sg"),
    "loss.margin": (_TRIPLETS, "loss.triplet or triplet_text"),
    "loss.soft_margin": (_TRIPLETS, "loss.triplet or triplet_text"),
    "loss.mining": (_TRIPLETS, "loss.triplet or triplet_text"),
    "loss.distance": (_TRIPLETS, "loss.triplet or triplet_text"),
    "loss.temperature": (_CONTRASTS, "a contrastive term"),
    "loss.learn_temperature": (_any("info_nce"), "loss.info_nce"),
    "loss.label_smoothing": (_any("id", "image_to_text", "info_nce"), "loss.id, image_to_text or info_nce"),
    "loss.negative_margin": (_any("hard_negative"), "loss.hard_negative"),
    "loss.num_hard": (_any("hard_negative"), "loss.hard_negative"),
    "loss.focal_gamma": (_any("info_nce"), "loss.info_nce"),
    "loss.focal_alpha": (lambda r: r.loss.focal_gamma > 0, "loss.focal_gamma"),
    "loss.momentum": (_any("prototype"), "loss.prototype"),
    "loss.ramp_epochs": (_any("supcon"), "loss.supcon"),
    "model.text_blocks": (trains_text, "a stage that trains the text tower"),
    "optim.text_lr": (trains_text, "a stage that trains the text tower"),
    "optim.center_lr": (_any("center"), "loss.center"),
    "optim.momentum": (lambda r: r.optim.optimizer == "sgd", "optim.optimizer: sgd"),
    "optim.beta1": (lambda r: r.optim.optimizer != "sgd", "optim.optimizer: adam or adamw"),
    "optim.beta2": (lambda r: r.optim.optimizer != "sgd", "optim.optimizer: adam or adamw"),
    "optim.milestones": (lambda r: r.optim.schedule == "multistep", "optim.schedule: multistep"),
    "optim.step_epochs": (lambda r: r.optim.schedule in ("step", "restarts"), "optim.schedule: step or restarts"),
    "optim.gamma": (lambda r: r.optim.schedule in ("multistep", "step", "exponential"), "a schedule of steps"),
    "optim.min_lr": (lambda r: r.optim.schedule in ("cosine", "restarts"), "optim.schedule: cosine or restarts"),
}


def check(recipe: Recipe, source: str) -> None:
    """Require that keys fit together and that every one that was changed has an effect.

    Raises:
        ValueError: With the key and what it needs.
    """
    if recipe.stage == "zero_shot":  # often the child of a recipe that trains
        return
    default = Recipe(stage=recipe.stage, note="")
    for key, (has_effect, need) in _NEEDS.items():
        section, _, name = key.partition(".")
        given, usual = getattr(recipe, section), getattr(default, section)
        changed = getattr(given, name) != getattr(usual, name) if name else given != usual
        if changed and not has_effect(recipe):
            raise ValueError(f"{source}: expected {need} for {key}, got {key} without it. It would change nothing.")
    weights = terms_of(recipe)
    strange = [name for name, weight in weights.items() if weight and name not in TERMS[recipe.stage]]
    if strange or not any(weights.values()):
        known = ", ".join(TERMS[recipe.stage])
        raise ValueError(f"{source}: expected weights in loss of {known}, got {', '.join(strange) or 'none'}.")
    loss, batch, optim, prompt = recipe.loss, recipe.batch, recipe.optim, recipe.prompt
    rules = {
        "batch.num_instances: 1 for loss.info_nce; siblings would be negatives: use supcon_text instead": (
            not loss.info_nce or batch.num_instances == 1
        ),
        "batch.num_instances >= 2; without it these terms have no positive": (
            batch.num_instances > 1 or not (loss.supcon_image or loss.triplet or loss.supcon)
        ),
        "loss.image_to_text or supcon for learned prompts, or prompt.epochs: 0": (
            recipe.stage != "clip_reid" or prompt.epochs == 0 or bool(loss.image_to_text or loss.supcon)
        ),
        "loss.supcon: 0 with prompt.mode: simplified; its text is the same for all": (
            recipe.stage != "prompt_sg" or prompt.mode == "composed" or not loss.supcon
        ),
        "optim.warmup_epochs below optim.epochs": optim.warmup_epochs < optim.epochs,
        "prompt.warmup_epochs below prompt.epochs": (
            recipe.stage != "clip_reid" or prompt.epochs == 0 or prompt.warmup_epochs < prompt.epochs
        ),
        "optim.min_lr at most every rate": optim.min_lr
        <= min(rate for rate in (optim.lr, optim.text_lr, optim.head_lr, optim.projection_lr) if rate is not None),
        "optim.milestones that rise, after the warm-up": (
            optim.milestones == sorted(set(optim.milestones))
            and not [m for m in optim.milestones if m < optim.warmup_epochs]
        ),
        "loss.label_smoothing: 0 or loss.focal_gamma: 0": not (loss.label_smoothing and loss.focal_gamma),
        "evaluate.metric: loss with terms that know no identities": (
            recipe.evaluate.metric != "loss" or {n for n, w in weights.items() if w} <= set(WITHOUT_IDENTITIES)
        ),
        "evaluate.rotations with at least one angle": bool(recipe.evaluate.rotations),
        "evaluate.k_values with at least one": bool(recipe.evaluate.k_values),
    }
    for expected, holds in rules.items():
        if not holds:
            raise ValueError(f"{source}: expected {expected}.")
