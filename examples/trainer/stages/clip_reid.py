"""CLIP-ReID: learn prompts of the identities, then train the image tower against their texts."""

import torch
from torch import Tensor, nn

from clipreid_kit.clip import (
    ClipReID,
    ClipReIDPromptStage,
    IdentityPromptLearner,
    caption_embeddings,
)
from clipreid_kit.data import CategoryIndex, ReidDataset
from examples.settings.stages import ClipReIDRecipe
from examples.trainer.assemble import fit_method, method_losses, pk_batches, training_images
from examples.trainer.batches import FeatureBatch, FeatureBatches
from examples.trainer.log import TEXT_LOG, Log
from examples.trainer.loop import Training, fit
from examples.trainer.losses import (
    chance_losses,
    identity_branch,
    ramped_weights,
    set_trained_parts,
)
from examples.trainer.optimizers import optimizers_of
from examples.trainer.prompts import templates_of
from examples.trainer.session import Session


def build(
    recipe: ClipReIDRecipe, session: Session, num_identities: int, texts: Tensor | None = None
) -> nn.Module:
    """The method, with new weights beside its towers; without texts those are zeros to load."""
    # Model and losses: an identity branch on each of two levels, and terms against the texts.
    loss, towers = recipe.loss, session.towers
    set_trained_parts(towers, recipe.model, text_blocks="none")
    if texts is None:
        texts = torch.zeros(num_identities, towers.embed_dim)

    weights = ramped_weights(loss)
    return ClipReID(
        towers,
        texts,
        weights=weights,
        losses=method_losses(recipe, session, weights, num_identities),
        identity=identity_branch(recipe.head, loss, levels=True),
        image_blocks=None,
        descriptor=recipe.evaluate.descriptor,
        distributed=session.distributed,
    ).to(session.accelerator.device)


def train(recipe: ClipReIDRecipe, session: Session) -> nn.Module:
    """Learn a text of each identity, then train the image tower; the text tower is frozen."""
    # Data: PK batches of augmented images.
    dataset = training_images(recipe, session)
    batches = pk_batches(recipe, session, dataset)

    # First stage: texts of the identities, learned, or else the mean of their captions.
    if recipe.prompt.epochs > 0:
        texts = learn_texts(recipe, session, dataset)
    else:
        texts = texts_of_captions(recipe, session, dataset)
    method = build(recipe, session, dataset.num_identities, texts)

    # Loop, validated on held-out identities; the best weights are evaluated.
    chance = chance_losses(
        recipe.loss, recipe.batch, dataset.num_identities, ranks=session.ranks, levels=2
    )
    return fit_method(
        recipe,
        session,
        method,
        batches,
        dataset,
        chance=chance,
        first_epoch=recipe.prompt.epochs,
        phase="images" if recipe.prompt.epochs else "",
    )


def learn_texts(recipe: ClipReIDRecipe, session: Session, dataset: ReidDataset) -> Tensor:
    """A text of each identity (C, D), learned against cached image embeddings."""
    prompt = recipe.prompt
    cameras = CategoryIndex(dataset.records, "camera") if prompt.camera_tokens else None
    modalities = None
    if prompt.modality_tokens:
        modalities = CategoryIndex(dataset.records, prompt.modality_column)

    # Model: learned words of each identity, in the sentences of the recipe.
    stage = prompt_stage(
        recipe,
        session,
        dataset.num_identities,
        num_cameras=0 if cameras is None else len(cameras),
        num_modalities=0 if modalities is None else len(modalities),
    )

    # Data: embeddings of the images as they are, encoded once.
    columns = FeatureBatch(
        image_features(stage, session, dataset),
        dataset.labels,
        rows=torch.arange(len(dataset.labels)),
        cameras=None if cameras is None else cameras.of(dataset.records),
        modalities=None if modalities is None else modalities.of(dataset.records),
    )
    batches = FeatureBatches(columns, prompt.batch_size, recipe.seed, session.rank, session.ranks)

    # Loop, with a log and checkpoints of its own.
    training = Training(
        method=stage,
        batches=batches,
        optimizers=optimizers_of(stage, prompt.optim()),
        optim=prompt.optim(),
        accelerator=session.accelerator,
        log=prompt_log(recipe, session),
        alarms=recipe.track.alarms,
    )
    fit(training, resume=session.resume)

    with torch.no_grad():
        return stage.prompts.encode_all(session.towers)


def prompt_stage(
    recipe: ClipReIDRecipe,
    session: Session,
    num_identities: int,
    *,
    num_cameras: int,
    num_modalities: int,
) -> ClipReIDPromptStage:
    """The prompts to learn, and their loss."""
    prompt = recipe.prompt
    prompts = IdentityPromptLearner(
        session.towers,
        num_identities,
        templates_of(prompt, recipe.data),
        num_tokens=prompt.num_tokens,
        num_shared_tokens=prompt.shared_tokens,
        num_cameras=num_cameras,
        num_camera_tokens=max(prompt.camera_tokens, 1),
        num_modalities=num_modalities,
        num_modality_tokens=max(prompt.modality_tokens, 1),
        seed=recipe.seed,
    )

    stage = ClipReIDPromptStage(
        session.towers,
        prompts,
        temperature=prompt.temperature,
        normalize=prompt.normalize,
        distributed=session.distributed,
    )
    return stage.to(session.accelerator.device)


def image_features(stage: ClipReIDPromptStage, session: Session, dataset: ReidDataset) -> Tensor:
    """Embeddings (N, D) of all images, without augmentation, on the CPU."""
    loader = session.encoding.loader(dataset.records)
    return torch.cat([stage.image_embeddings(item.image).cpu() for item in loader])


def prompt_log(recipe: ClipReIDRecipe, session: Session) -> Log:
    """The log of the prompts, in a folder of its own; lines for people go to that of the run."""
    folder = session.out / "prompt"
    folder.mkdir(parents=True, exist_ok=True)
    return Log(
        folder,
        session.accelerator,
        console=recipe.track.console == "epochs",
        prefix="prompt/",
        phase="prompts",
        text=session.out / TEXT_LOG,
    )


def texts_of_captions(recipe: ClipReIDRecipe, session: Session, dataset: ReidDataset) -> Tensor:
    """The mean text of each identity's captions (C, D); zeros if no term looks at texts."""
    if not (recipe.loss.image_to_text or recipe.loss.supcon):
        return torch.zeros(len(dataset.identities), session.towers.embed_dim)

    captions: dict[int | str, list[str]] = {identity: [] for identity in dataset.identities}
    for record in dataset.records:
        if not record.caption:
            raise ValueError(
                "prompt.epochs: without learned prompts every image needs a caption; "
                f"{record.path} has none."
            )
        captions[record.identity].append(record.caption)

    return caption_embeddings(
        session.towers, list(captions.values()), too_long=session.encoding.too_long
    )
