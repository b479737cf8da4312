"""Parts that stages share: from sections of a recipe to batches, validation and a fitted method."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from torch import nn

from clipreid_kit import CrossModalityPKSampler, DomainPKSampler, PKSampler
from clipreid_kit.clip import TrainingCheckpoints, read_card, warm_start
from clipreid_kit.data import CategoryIndex, ReidDataset, domain_numbers, records_of
from clipreid_kit.distributed import local_losses
from clipreid_kit.reports import write_json
from examples.settings.augment import Augment
from examples.settings.base_recipes import TrainingRecipe
from examples.settings.losses import AnyLoss
from examples.settings.stages import UnsupervisedRecipe
from examples.trainer.batches import Batches, CaptionTokens, PKBatches
from examples.trainer.evaluation import evaluate, scoring_of
from examples.trainer.images import training_set
from examples.trainer.log import Log, Row
from examples.trainer.loop import Training, Validation, fit
from examples.trainer.losses import losses_of
from examples.trainer.optimizers import optimizers_of
from examples.trainer.records import validation_of
from examples.trainer.session import Session, arguments_of_towers
from examples.trainer.teacher import teacher_of


def training_images(recipe: TrainingRecipe, session: Session) -> ReidDataset:
    """The training images, with augmentation."""
    train = records_of(session.records, "train")
    spec = session.encoding.spec
    return training_set(train, spec, recipe.augment, recipe.data, recipe.seed)


def caption_tokens(
    recipe: TrainingRecipe, session: Session, dataset: ReidDataset
) -> CaptionTokens | None:
    """Captions of the images; ``None`` if no term looks at them."""
    if not recipe.trains_on_captions():
        return None
    return CaptionTokens(session.towers, dataset.captions, recipe.data, recipe.seed)


def pk_batches(recipe: TrainingRecipe, session: Session, dataset: ReidDataset) -> PKBatches:
    """PK batches of this process, with captions where a term looks at them."""
    captions = caption_tokens(recipe, session, dataset)
    sampler = _sampler(recipe, session, dataset)
    return PKBatches(dataset, sampler, session.encoding.categories, captions, recipe.data)


def _sampler(
    recipe: TrainingRecipe, session: Session, dataset: ReidDataset
) -> PKSampler | DomainPKSampler | CrossModalityPKSampler:
    """The sampler of the recipe: of identities, with shares of domains, or with all modalities."""
    options: dict[str, Any] = {
        "cameras": dataset.cameras if recipe.batch.spread_cameras else None,
        "images": dataset.image_numbers,
        "seed": recipe.seed,
        "coverage": recipe.batch.coverage,
        "rank": session.rank,
        "world_size": session.ranks,
    }
    identities, instances = recipe.batch.num_identities, recipe.batch.num_instances
    if recipe.batch.balance_domains:
        domains = domain_numbers(dataset.records).repeat_interleave(dataset.orientations)
        shares = recipe.batch.domain_shares or None
        return DomainPKSampler(
            dataset.labels, domains, identities, instances, shares=shares, **options
        )
    if recipe.batch.across == "none":
        return PKSampler(dataset.labels, identities, instances, **options)

    index = CategoryIndex(dataset.records, recipe.batch.across)
    if instances % len(index):
        raise ValueError(
            f"batch.num_instances: {instances} images of an identity cannot be shared evenly by "
            f"{len(index)} values of {recipe.batch.across}. Set it to a multiple of {len(index)}."
        )
    modalities = index.of(dataset.records).repeat_interleave(recipe.data.orientations)
    return CrossModalityPKSampler(
        dataset.labels, modalities, identities, instances // len(index), **options
    )


def method_losses(
    recipe: TrainingRecipe, session: Session, terms: Collection[str], num_identities: int
) -> dict[str, nn.Module]:
    """The losses of a method's terms: as the recipe says, or those of the run's plugin."""
    loss = cast("AnyLoss", recipe.loss)  # of all stages but text_to_person, which has its own
    losses = losses_of(loss, terms, session.towers, num_identities, distributed=session.distributed)
    return losses | session.plugin.losses_of(recipe, session.towers, num_identities, terms)


def check_negatives(recipe: TrainingRecipe, ranks: int) -> None:
    """Raise ValueError if no image of a batch has a negative for a term that needs one."""
    if recipe.has_mined_batches() or recipe.batch.num_identities * ranks > 1:
        return

    comparing = [name for name in recipe.loss.weights() if name in recipe.comparing_terms]
    if comparing:
        raise ValueError(
            f"batch.num_identities: a batch of one identity has no negatives for "
            f"loss.{comparing[0]}. Set it to 2 or more."
        )


def fit_method(
    recipe: TrainingRecipe,
    session: Session,
    method: nn.Module,
    batches: Batches,
    dataset: ReidDataset,
    *,
    chance: Mapping[str, float],
    first_epoch: int = 0,
    phase: str = "",
) -> nn.Module:
    """Train a method as a recipe says, validated on the held-out identities.

    Args:
        recipe: Optimiser, schedule, validation and log.
        session: The run.
        method: The method, on its device.
        batches: Its batches.
        dataset: The training images.
        chance: Weighted terms where all embeddings are equal.
        first_epoch: Epochs that this run has trained before.
        phase: What the console calls this training, if the run trains several times.

    Returns:
        The method, with its best weights.
    """
    identities = [str(identity) for identity in dataset.identities]
    if recipe.init_from is not None and not _continues(session):
        _start_from(recipe.init_from, method, identities, session)

    training = Training(
        method=method,
        batches=batches,
        optimizers=optimizers_of(method, recipe.optim, getattr(recipe.loss, "center", 0.0)),
        optim=recipe.optim,
        accelerator=session.accelerator,
        log=Log(
            session.out,
            session.accelerator,
            console=recipe.track.console == "epochs",
            first_epoch=first_epoch,
            phase=phase,
        ),
        accumulate=recipe.accumulate,
        channels_last=recipe.model.channels_last,
        validation=_validation(recipe, session),
        card={
            "identities": identities,
            **session.encoding.card(),
            **_towers_of(recipe, session),
        },
        chance_losses=_of_the_library(chance, method),
        ramp_epochs=getattr(recipe.loss, "ramp_epochs", 0),
        keep_every=recipe.track.checkpoint_every,
        alarms=recipe.track.alarms,
        teacher=teacher_of(recipe.teacher, method, session, identities),
    )
    fit(training, resume=session.resume)
    return method


def _towers_of(recipe: TrainingRecipe, session: Session) -> Mapping[str, Any]:
    """Arguments that build the towers, for a checkpoint that leaves out frozen ones."""
    if recipe.init_from is not None:
        return {}
    model, categories = recipe.model, session.encoding.categories
    arguments = arguments_of_towers(model, categories, recipe.seed)
    colours = {"image_mean": session.towers.image_mean, "image_std": session.towers.image_std}
    return {"towers": {"name": model.name, "pretrained": model.pretrained, **arguments, **colours}}


def _of_the_library(chance: Mapping[str, float], method: nn.Module) -> dict[str, float]:
    """Values at chance level, without those of a plugin's losses, which have others."""
    losses: Any = getattr(method, "losses", {})
    own = [
        name
        for name, module in losses.items()
        if not type(module).__module__.startswith("clipreid_kit.")
    ]
    return {name: value for name, value in chance.items() if name not in own}


def _continues(session: Session) -> bool:
    """Whether the training of an interrupted run has a checkpoint to go on from."""
    return session.resume and TrainingCheckpoints(session.out / "checkpoints").exists()


def _start_from(source: str, method: nn.Module, identities: list[str], session: Session) -> None:
    """Load the weights of an earlier run, also of what is beside the towers.

    Rows of identities, such as a classifier's, stay as they are if that run had other identities;
    texts of identities always do.
    """
    own = {
        name: value.clone()
        for name, value in method.state_dict().items()
        if _is_of_identities(name, value, len(identities))
    }
    report = warm_start(method, source)
    if read_card(source).get("identities") == identities:
        own = {name: value for name, value in own.items() if name == "text_embeddings"}

    method.load_state_dict(own, strict=False)
    if session.accelerator.is_main_process:
        write_json(session.out / "init_from.json", {"from": source, **asdict(report)})


def _is_of_identities(name: str, value: torch.Tensor, num_identities: int) -> bool:
    """Whether a tensor beside the towers has a row for each identity."""
    beside = not name.startswith("towers.") and value.ndim > 0
    return beside and value.shape[0] == num_identities


def _validation(recipe: TrainingRecipe, session: Session) -> Validation | None:
    """Validation on the held-out identities; ``None`` without any."""
    by_captions = "text_to_person" in recipe.protocols()
    held_out = validation_of(session.records, by_captions=by_captions)
    if not held_out:
        return None

    options = recipe.evaluate
    scoring = replace(scoring_of(recipe), across=recipe.compares_across())
    batches = _validation_batches(recipe, session) if options.metric == "loss" else None

    def score(method: nn.Module) -> tuple[float, Row]:
        encoder = session.encoding.encoder(method)
        log: Row = dict(evaluate(encoder, held_out, scoring).numbers(options.k_values))
        if batches is not None:
            loss = _validation_loss(method, batches, session)
            return -loss, log | {"loss": {"loss": loss}}

        numbers = log.get(options.task, log.get(f"{options.task}.retrieval"))
        if numbers is None:
            raise ValueError(
                f"evaluate.task: the validation identities have results of {' and '.join(log)}, "
                f"but none of {options.task}. Choose one of those tasks."
            )
        # A retrieval between modalities calls Rank-1 the hit rate at 1.
        name = options.metric if options.metric in numbers else "hit_rate_1"
        return float(numbers[name]), log

    chooses = not isinstance(recipe, UnsupervisedRecipe)
    return Validation(score, options.every, options.patience, chooses)


def _validation_batches(recipe: TrainingRecipe, session: Session) -> PKBatches:
    """Batches of held-out identities without augmentation, of one process."""
    splits = ("val", "val_query", "val_gallery")
    records = [record for record in session.records if record.split in splits]
    data = recipe.data.model_copy(update={"orientations": 1, "workers": 0, "caption_variations": 1})
    plain = Augment(fill=recipe.augment.fill)
    dataset = training_set(records, session.encoding.spec, plain, data, recipe.seed)

    captions = None
    if recipe.trains_on_captions():
        captions = CaptionTokens(session.towers, dataset.captions, data, recipe.seed)
    sampler = PKSampler(
        dataset.labels,
        min(recipe.batch.num_identities, dataset.num_identities),
        recipe.batch.num_instances,
        seed=recipe.seed,
        coverage="images",
    )
    return PKBatches(dataset, sampler, session.encoding.categories, captions, data)


@torch.no_grad()
def _validation_loss(method: Any, batches: PKBatches, session: Session) -> float:  # noqa: ANN401 (a ClipBaseline)
    """Mean loss of the terms that unseen identities have, on the same batches every time."""
    was_training = method.training
    method.eval()

    # The forward that accelerate puts in its place computes in the precision of training.
    forward = getattr(method, "_original_forward", method)
    losses = []
    with local_losses(method):  # the other processes wait, and do not gather
        for batch in batches(0):
            moved = batch.to(session.accelerator.device, torch.preserve_format)
            losses.append(float(forward(**moved.inputs(), terms=method.open_set_terms).loss))

    method.train(was_training)
    return sum(losses) / len(losses)
