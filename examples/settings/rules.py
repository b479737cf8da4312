"""Which keys go together. A key that would change nothing in its recipe is an error, never decoration."""

import dataclasses
from collections.abc import Callable
from typing import Literal

from examples.settings.config import Augment, Loss, Recipe

TEXT_TERMS = ("supcon_text", "info_nce", "hard_negative", "triplet_text")
TOWER_TERMS = ("id", "triplet", "center", "supcon_image", "prototype")
TEXT_STAGES = (
    "zero_shot",
    "joint",
    "retrieval",
    "image_encoder",
)  # that compare images with texts in the end
TERMS = {
    "classifier": TOWER_TERMS,
    "image_encoder": (*TOWER_TERMS, "supcon_text", "info_nce"),
    "joint": (*TOWER_TERMS, *TEXT_TERMS),
    "retrieval": (*TEXT_TERMS, "supcon_image", "triplet"),
    "clip_reid": ("id", "triplet", "image_to_text", "supcon", "center"),
    "prompt_sg": ("id", "triplet", "supcon"),
}
HANDS = ("hands11k", "polyu_hands")
OWN_PROTOCOLS = {  # of sources that have another than a query and a gallery
    "hands11k": ["splits", "distractors"],
    "polyu_hands": ["splits"],
    "vehicleid": ["splits"],
    "online_products": ["leave_one_out"],
    "cuhk_pedes": ["leave_one_out"],
    "annotations": ["leave_one_out"],
    "captioned_folder": ["leave_one_out"],
}
WITHOUT_IDENTITIES = (
    "triplet",
    "supcon_image",
    *TEXT_TERMS,
)  # terms that have a value for identities never seen


def terms_of(recipe: Recipe) -> dict[str, float]:
    """Weights of the terms that are switched on."""
    names = {name for terms in TERMS.values() for name in terms}
    return {
        f.name: getattr(recipe.loss, f.name) for f in dataclasses.fields(Loss) if f.name in names
    }  # in this order


def uses_text(recipe: Recipe) -> bool:
    """Whether the recipe trains on captions."""
    return any(terms_of(recipe)[name] for name in TEXT_TERMS)


def too_long(recipe: Recipe) -> Literal["sentence", "cut"]:
    """Where a text that is longer than the model's context ends."""
    return "sentence" if recipe.data.token_safe else "cut"


def trains_text(recipe: Recipe) -> bool:
    """Whether the text tower is trained."""
    return recipe.stage in ("joint", "retrieval") and uses_text(recipe)


def _any(*names: str) -> Callable[[Recipe], bool]:
    return lambda recipe: any(getattr(recipe.loss, name) > 0 for name in names)


def _fills(recipe: Recipe) -> bool:
    augment, usual = recipe.augment, Augment()
    moves = (
        "pad",
        "rotation",
        "translate",
        "scale",
        "shear",
        "perspective",
        "augmix",
        "identity_warp",
    )
    changed = any(getattr(augment, name) != getattr(usual, name) for name in moves)
    return changed or recipe.model.fit == "pad" or any(recipe.evaluate.rotations)


def _paired(recipe: Recipe) -> bool:
    return recipe.loss.info_nce > 0 and recipe.mining.data == "standard"


_TRIPLETS, _CONTRASTS = (
    _any("triplet", "triplet_text"),
    _any("supcon_image", *TEXT_TERMS, "supcon", "prototype"),
)
_NEEDS: dict[str, tuple[Callable[[Recipe], bool], str]] = {
    "data.root": (lambda r: r.data.source != "synthetic", "another data.source than synthetic"),
    "data.num_identities": (lambda r: r.data.source == "synthetic", "data.source: synthetic"),
    "data.views_per_camera": (lambda r: r.data.source == "synthetic", "data.source: synthetic"),
    "data.camera_pattern": (lambda r: r.data.source == "folder", "data.source: folder"),
    "data.boxes": (lambda r: r.data.source == "cuhk03", "data.source: cuhk03"),
    "data.merge_val": (lambda r: r.data.source == "msmt17", "data.source: msmt17"),
    "data.test_identities": (lambda r: r.data.source == "vehicleid", "data.source: vehicleid"),
    "data.held_out": (lambda r: r.data.source == "omniglot", "data.source: omniglot"),
    "data.aspect": (lambda r: r.data.source in HANDS, "data.source: hands11k or polyu_hands"),
    "data.texts_key": (lambda r: r.data.texts is not None, "data.texts"),
    "data.caption_variations": (uses_text, "a term of loss that trains on captions"),
    "data.max_tokens": (lambda r: r.data.token_safe, "data.token_safe"),
    "data.paraphrases": (
        lambda r: r.data.caption_variations > 1,
        "data.caption_variations above 1",
    ),
    "data.synonyms": (lambda r: r.data.caption_variations > 1, "data.caption_variations above 1"),
    "data.at_most": (lambda r: r.data.balance != "none", "data.balance"),
    "data.at_least": (lambda r: r.data.balance != "none", "data.balance"),
    "prompt": (lambda r: r.stage in ("clip_reid", "prompt_sg"), "stage clip_reid or prompt_sg"),
    "prompt.epochs": (lambda r: r.stage == "clip_reid", "stage clip_reid"),
    **{
        f"prompt.{name}": (
            lambda r: r.stage == "clip_reid" and r.prompt.epochs > 0,
            "stage clip_reid and its epochs",
        )
        for name in (
            "num_tokens",
            "shared_tokens",
            "camera_tokens",
            "batch_size",
            "lr",
            "weight_decay",
            "warmup_epochs",
            "min_lr",
            "temperature",
            "normalize",
        )
    },
    "prompt.warmup_factor": (
        lambda r: r.stage == "clip_reid" and r.prompt.epochs > 0 and r.prompt.warmup_epochs > 0,
        "stage clip_reid and prompt.warmup_epochs",
    ),
    "prompt.mode": (lambda r: r.stage == "prompt_sg", "stage prompt_sg"),
    "prompt.test_mode": (
        lambda r: r.stage == "prompt_sg" and r.prompt.mode == "composed",
        "prompt.mode: composed",
    ),
    "prompt.inversion_dim": (
        lambda r: r.stage == "prompt_sg" and r.prompt.mode == "composed",
        "prompt.mode: composed",
    ),
    "prompt.interaction_blocks": (lambda r: r.stage == "prompt_sg", "stage prompt_sg"),
    "prompt.interaction_dropout": (lambda r: r.stage == "prompt_sg", "stage prompt_sg"),
    "prompt.triplet_levels": (
        lambda r: r.stage == "prompt_sg" and r.loss.triplet > 0,
        "stage prompt_sg, loss.triplet",
    ),
    "mining": (lambda r: r.stage == "retrieval", "stage retrieval"),
    "mining.num_negatives": (
        lambda r: r.mining.data == "hard_negative",
        "mining.data: hard_negative",
    ),
    "mining.negatives": (lambda r: r.mining.data == "hard_negative", "mining.data: hard_negative"),
    "mining.triplets": (lambda r: r.mining.data == "triplet", "mining.data: triplet"),
    "mining.positives": (lambda r: r.mining.data == "triplet", "mining.data: triplet"),
    "mining.margin": (lambda r: r.mining.data == "triplet", "mining.data: triplet"),
    "mining.refresh_epochs": (lambda r: r.mining.data != "standard", "mined data"),
    "augment.fill": (
        _fills,
        "augment.pad, a turn or another warp, evaluate.rotations, or model.fit: pad",
    ),
    "batch.coverage": (lambda r: r.mining.data == "standard", "mining.data: standard"),
    "batch.spread_cameras": (
        lambda r: r.mining.data == "standard" and r.batch.num_instances > 1,
        "batch.num_instances above 1, and mining.data: standard",
    ),
    "head": (_any("id"), "loss.id"),
    "head.scale": (lambda r: r.head.kind != "linear", "head.kind: arcface or cosface"),
    "head.margin": (lambda r: r.head.kind != "linear", "head.kind: arcface or cosface"),
    "head.std": (lambda r: r.head.kind == "linear", "head.kind: linear"),
    "head.reduced_dim": (
        lambda r: r.head.neck and r.stage != "clip_reid",
        "head.neck, and another stage than clip_reid",
    ),
    "head.neck": (
        lambda r: r.stage != "clip_reid",
        "another stage than clip_reid, which has its necks",
    ),
    "head.dropout": (
        lambda r: r.stage not in ("clip_reid", "prompt_sg"),
        "another stage than clip_reid and prompt_sg",
    ),
    "loss.margin": (
        lambda r: _TRIPLETS(r) and not r.loss.soft_margin,
        "loss.triplet or triplet_text, and no soft_margin",
    ),
    "loss.soft_margin": (_TRIPLETS, "loss.triplet or triplet_text"),
    "loss.mining": (_TRIPLETS, "loss.triplet or triplet_text"),
    "loss.distance": (_TRIPLETS, "loss.triplet or triplet_text"),
    "loss.temperature": (_CONTRASTS, "a contrastive term"),
    "loss.learn_temperature": (_paired, "loss.info_nce, and mining.data: standard"),
    "loss.label_smoothing": (
        lambda r: _any("id", "image_to_text")(r) or _paired(r),
        "loss.id or image_to_text, or info_nce with mining.data: standard",
    ),
    "loss.negative_margin": (_any("hard_negative"), "loss.hard_negative"),
    "loss.num_hard": (_any("hard_negative"), "loss.hard_negative"),
    "loss.focal_gamma": (_paired, "loss.info_nce, and mining.data: standard"),
    "loss.focal_alpha": (lambda r: r.loss.focal_gamma > 0, "loss.focal_gamma"),
    "loss.momentum": (_any("prototype"), "loss.prototype"),
    "loss.ramp_epochs": (_any("supcon"), "loss.supcon"),
    "model.text_blocks": (trains_text, "a stage that trains the text tower"),
    "optim.text_lr": (trains_text, "a stage that trains the text tower"),
    "optim.head_lr": (
        lambda r: (
            r.stage in ("clip_reid", "prompt_sg") or r.loss.id > 0 or r.loss.learn_temperature
        ),
        "something to train beside the towers",
    ),
    "optim.projection_lr": (lambda r: r.model.train_projections, "model.train_projections"),
    "optim.decay_all": (lambda r: r.optim.weight_decay > 0, "optim.weight_decay"),
    "optim.warmup_factor": (lambda r: r.optim.warmup_epochs > 0, "optim.warmup_epochs"),
    "evaluate.descriptor": (
        lambda r: (
            r.stage == "clip_reid" or (r.head.neck and (r.stage == "prompt_sg" or r.loss.id > 0))
        ),
        "a neck, as loss.id and head.neck make one",
    ),
    "evaluate.num_splits": (
        lambda r: bool(
            {"splits", "distractors"}
            & {*r.evaluate.protocols, *OWN_PROTOCOLS.get(r.data.source, ())}
        ),
        "evaluate.protocols with splits or distractors",
    ),
    **{
        f"evaluate.rerank_{n}": (lambda r: r.evaluate.rerank, "evaluate.rerank")
        for n in ("k1", "k2", "lambda")
    },
    "track.wandb_entity": (lambda r: r.track.wandb is not None, "track.wandb"),
    "optim.center_lr": (_any("center"), "loss.center"),
    "optim.momentum": (lambda r: r.optim.optimizer == "sgd", "optim.optimizer: sgd"),
    "optim.beta1": (lambda r: r.optim.optimizer != "sgd", "optim.optimizer: adam or adamw"),
    "optim.beta2": (lambda r: r.optim.optimizer != "sgd", "optim.optimizer: adam or adamw"),
    "optim.milestones": (lambda r: r.optim.schedule == "multistep", "optim.schedule: multistep"),
    "optim.step_epochs": (
        lambda r: r.optim.schedule in ("step", "restarts"),
        "optim.schedule: step or restarts",
    ),
    "optim.gamma": (
        lambda r: r.optim.schedule in ("multistep", "step", "exponential"),
        "a schedule of steps",
    ),
    "optim.min_lr": (
        lambda r: r.optim.schedule in ("cosine", "restarts"),
        "optim.schedule: cosine or restarts",
    ),
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
            raise ValueError(
                f"{source}: expected {need} for {key}, got {key} without it. It would change nothing."
            )
    weights = terms_of(recipe)
    strange = [
        name for name, weight in weights.items() if weight and name not in TERMS[recipe.stage]
    ]
    if strange or not any(weights.values()):
        known = ", ".join(TERMS[recipe.stage])
        raise ValueError(
            f"{source}: expected weights in loss of {known}, got {', '.join(strange) or 'none'}."
        )
    loss, batch, optim, prompt = recipe.loss, recipe.batch, recipe.optim, recipe.prompt
    rules = {
        "batch.num_instances: 1 for loss.info_nce; siblings would be negatives: use supcon_text instead": (
            not loss.info_nce or batch.num_instances == 1
        ),
        "batch.num_instances >= 2; without it these terms have no positive": (
            batch.num_instances > 1 or not (loss.supcon_image or loss.triplet or loss.supcon)
        ),
        "loss.image_to_text or supcon for learned prompts, or prompt.epochs: 0": (
            recipe.stage != "clip_reid"
            or prompt.epochs == 0
            or bool(loss.image_to_text or loss.supcon)
        ),
        "loss.supcon: 0 with prompt.mode: simplified; its text is the same for all": (
            recipe.stage != "prompt_sg" or prompt.mode == "composed" or not loss.supcon
        ),
        "optim.warmup_epochs below optim.epochs": optim.warmup_epochs < optim.epochs,
        "prompt.warmup_epochs below prompt.epochs": (
            recipe.stage != "clip_reid"
            or prompt.epochs == 0
            or prompt.warmup_epochs < prompt.epochs
        ),
        "optim.min_lr at most every rate": optim.min_lr
        <= min(
            rate
            for rate in (optim.lr, optim.text_lr, optim.head_lr, optim.projection_lr)
            if rate is not None
        ),
        "optim.milestones that rise, after the warm-up": (
            optim.milestones == sorted(set(optim.milestones))
            and not [m for m in optim.milestones if m < optim.warmup_epochs]
        ),
        "loss.label_smoothing: 0 or loss.focal_gamma: 0": not (
            loss.label_smoothing and loss.focal_gamma
        ),
        "evaluate.metric: loss with terms that know no identities": (
            recipe.evaluate.metric != "loss"
            or {n for n, w in weights.items() if w} <= set(WITHOUT_IDENTITIES)
        ),
        "evaluate.metric: another than loss for clip_reid and prompt_sg": (
            recipe.evaluate.metric != "loss" or recipe.stage not in ("clip_reid", "prompt_sg")
        ),
        "evaluate.task: image_to_image for a stage that compares no texts": (
            recipe.evaluate.task == "image_to_image" or recipe.stage in TEXT_STAGES
        ),
        "stage: retrieval for evaluate.task: image_to_text, and another metric than mean_inp": (
            recipe.evaluate.task != "image_to_text"
            or (recipe.stage == "retrieval" and recipe.evaluate.metric != "mean_inp")
        ),
        "data.orientations: 1 with mined data": recipe.data.orientations == 1
        or recipe.mining.data == "standard",
        "data.orientations: 1 for clip_reid, whose texts are of the identities": (
            recipe.data.orientations == 1 or recipe.stage != "clip_reid"
        ),
        "one sentence as prompt.template of prompt_sg": recipe.stage != "prompt_sg"
        or len(prompt.template) == 1,
        "evaluate.rotations with at least one angle": bool(recipe.evaluate.rotations),
        "evaluate.k_values with at least one": bool(recipe.evaluate.k_values),
    }
    for expected, holds in rules.items():
        if not holds:
            raise ValueError(f"{source}: expected {expected}.")
