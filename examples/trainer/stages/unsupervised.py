"""Train the image tower without identities: embed, cluster, train on the clusters, and again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from clipreid_kit import CameraPrototypeLoss, PKSampler, PrototypeMemoryLoss
from clipreid_kit.clip import ClipBaseline
from clipreid_kit.data import CategoryIndex, ReidDataset, records_of
from clipreid_kit.retrieval import PseudoLabels, pseudo_labels
from examples.settings.stages import UnsupervisedRecipe
from examples.trainer.assemble import fit_method, method_losses
from examples.trainer.batches import PseudoLabelBatches
from examples.trainer.images import training_set
from examples.trainer.losses import set_trained_parts
from examples.trainer.session import Session


def build(
    recipe: UnsupervisedRecipe, session: Session, num_identities: int, num_cameras: int = 1
) -> nn.Module:
    """The method, with new weights beside its towers; its memories are filled in each epoch."""
    # Model and losses: memories of the clusters, and terms among images.
    loss, towers = recipe.loss, session.towers
    set_trained_parts(towers, recipe.model, text_blocks="none")

    weights = loss.weights()
    losses = method_losses(recipe, session, weights, num_identities)
    options: dict[str, Any] = {
        "temperature": loss.temperature,
        "momentum": loss.momentum,
        "update": loss.memory_update,
        "distributed": session.distributed,
        "persistent": False,
    }
    if "prototype" in weights:
        losses["prototype"] = PrototypeMemoryLoss(towers.embed_dim, 1, **options)
    if "camera_prototype" in weights:
        losses["camera_prototype"] = CameraPrototypeLoss(
            towers.embed_dim,
            1,
            num_cameras,
            num_negatives=loss.camera_negatives,
            inter_weight=loss.inter_camera,
            **options,
        )
    return ClipBaseline(
        towers,
        num_identities,
        weights=weights,
        losses=losses,
        image_blocks=None,
        text_blocks=None,
        distributed=session.distributed,
    ).to(session.accelerator.device)


def train(recipe: UnsupervisedRecipe, session: Session) -> nn.Module:
    """Train the image tower on clusters; the text tower is frozen, and never runs."""
    # Data: images whose identities are hidden. Each has its own row as its identity.
    records = records_of(session.records, "train")
    hidden = [replace(record, identity=row) for row, record in enumerate(records)]
    spec = session.encoding.spec
    dataset = training_set(hidden, spec, recipe.augment, recipe.data, recipe.seed)

    # Cameras, where the loss or the towers look at them.
    categories = list(session.encoding.categories)
    if recipe.loss.camera_prototype and not recipe.model.camera_embedding:
        categories.append(CategoryIndex(hidden, "camera"))
    num_cameras = max([len(index) for index in categories if index.field == "camera"], default=1)
    method = build(recipe, session, len(hidden), num_cameras)

    # Loop over batches of the clusters of each epoch; the weights of the last one are evaluated.
    # Known identities judge the clusters, in the log alone.
    known = [record.identity for record in records]
    batches = _batches(recipe, session, method, dataset, categories, known)
    return fit_method(recipe, session, method, batches, dataset, chance={})


def _batches(
    recipe: UnsupervisedRecipe,
    session: Session,
    method: nn.Module,
    dataset: ReidDataset,
    categories: Sequence[CategoryIndex],
    known: Sequence[int | str],
) -> PseudoLabelBatches:
    """PK batches of one process, from clusters that all processes agree on."""
    cameras = [index.of(dataset.records) for index in categories if index.field == "camera"]

    def find(epoch: int) -> tuple[Tensor, dict[str, Any]]:
        found = [_cluster(recipe, session, method, dataset, epoch) if session.rank == 0 else None]
        broadcast_object_list(found)
        embeddings, clusters = cast("tuple[Tensor, PseudoLabels]", found[0])
        _fill_memories(method, embeddings, clusters, cameras[0] if cameras else None, session)
        return clusters.labels, _facts(clusters, known)

    def sampler(labels: Tensor, of_images: Tensor | None) -> PKSampler:
        # Early epochs may find fewer clusters than a batch has room for.
        num_clusters = int(labels.max()) + 1
        return PKSampler(
            labels,
            min(recipe.batch.num_identities, num_clusters // session.ranks),
            recipe.batch.num_instances,
            cameras=of_images if recipe.batch.spread_cameras else None,
            seed=recipe.seed,
            coverage=recipe.batch.coverage,
            rank=session.rank,
            world_size=session.ranks,
        )

    return PseudoLabelBatches(
        dataset,
        find,
        categories,
        recipe.data,
        sampler=sampler,
        batch_size=recipe.batch.num_identities * recipe.batch.num_instances,
        steps=recipe.clusters.steps,
        ranks=session.ranks,
    )


def _cluster(
    recipe: UnsupervisedRecipe,
    session: Session,
    method: nn.Module,
    dataset: ReidDataset,
    epoch: int,
) -> tuple[Tensor, PseudoLabels]:
    """Embeddings of all training images by the present weights, and their clusters."""
    embeddings = session.encoding.encoder(method).encode_images(dataset.records).cpu()

    options = recipe.clusters
    try:
        clusters = pseudo_labels(
            embeddings,
            method=options.method,
            max_distance=options.max_distance,
            min_samples=options.min_samples,
            min_size=options.min_size,
            k1=options.k1,
            k2=options.k2,
        )
    except ValueError as error:
        raise ValueError(f"clusters: epoch {epoch}: {error}") from error

    if clusters.num_clusters < 2 * session.ranks:
        raise ValueError(
            f"clusters: epoch {epoch}: {len(embeddings)} images form {clusters.num_clusters} "
            f"cluster and {clusters.num_outliers} outliers, so that there is nothing to compare. "
            "Lower clusters.max_distance, or start from weights that tell images apart "
            "(init_from, model.pretrained)."
        )
    return embeddings, clusters


def _fill_memories(
    method: nn.Module,
    embeddings: Tensor,
    clusters: PseudoLabels,
    cameras: Tensor | None,
    session: Session,
) -> None:
    """Fill the memories with the means of the clusters; each process passes its share of rows."""
    losses = cast("ClipBaseline", method).losses
    rows = torch.nonzero(clusters.labels >= 0).flatten()[session.rank :: session.ranks]
    device = session.accelerator.device
    columns = embeddings[rows].to(device), clusters.labels[rows].to(device)

    if "prototype" in losses:
        memory: Any = losses["prototype"]
        memory.initialize(*columns, num_identities=clusters.num_clusters)
    if "camera_prototype" in losses and cameras is not None:
        memory = losses["camera_prototype"]
        of_rows = cameras[rows].to(device)
        memory.initialize(*columns, of_rows, num_identities=clusters.num_clusters)


def _facts(clusters: PseudoLabels, known: Sequence[int | str]) -> dict[str, Any]:
    """Number and quality of the clusters, for the log."""
    facts: dict[str, Any] = {
        "num_clusters": clusters.num_clusters,
        "outliers": clusters.num_outliers / len(clusters.labels),
    }
    if len(set(known)) > 1:  # images without known identities have nothing to compare with
        scores = clusters.evaluate(known).to_dict()
        names = ("num_known", "ari", "ami", "pair_precision", "pair_recall")
        facts |= {name: scores[name] for name in names}
    return facts
