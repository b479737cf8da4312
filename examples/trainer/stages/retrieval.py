"""Train both towers for retrieval between images and texts, on pairs or on mined batches."""

from torch import Tensor, nn

from clipreid_kit.clip import ClipBaseline
from clipreid_kit.data import (
    ReidDataset,
    mine_hard_negatives,
    mine_triplets,
    with_anchor_column,
)
from clipreid_kit.distances import l2_normalize
from clipreid_kit.retrieval import Encoder
from examples.settings.batch import HardNegativeMining, TripletMining
from examples.settings.stages import RetrievalRecipe
from examples.trainer.assemble import (
    caption_tokens,
    fit_method,
    method_losses,
    pk_batches,
    training_images,
)
from examples.trainer.batches import MinedBatches, PKBatches
from examples.trainer.losses import chance_losses, set_trained_parts
from examples.trainer.session import Session


def build(recipe: RetrievalRecipe, session: Session, num_identities: int) -> nn.Module:
    """The method, with new weights beside its towers."""
    # Model and losses. A mined batch holds several images of an identity, which InfoNCE would take
    # for negatives.
    loss, towers = recipe.loss, session.towers
    text_blocks = recipe.model.text_blocks if recipe.trains_on_captions() else "none"
    set_trained_parts(towers, recipe.model, text_blocks=text_blocks)

    weights = loss.weights()
    if recipe.mining.data != "standard" and "info_nce" in weights:
        weights["supcon_text"] = weights.get("supcon_text", 0.0) + weights.pop("info_nce")

    return ClipBaseline(
        towers,
        num_identities,
        weights=weights,
        losses=method_losses(recipe, session, weights, num_identities),
        image_blocks=None,
        text_blocks=None,
        distributed=session.distributed,
    ).to(session.accelerator.device)


def train(recipe: RetrievalRecipe, session: Session) -> nn.Module:
    """Train both towers; without a term on captions the text tower is frozen."""
    # Data: PK batches of images and captions, or batches with mined negatives or triplets.
    dataset = training_images(recipe, session)
    batches = _batches(recipe, session, dataset)
    method = build(recipe, session, dataset.num_identities)

    # Loop, validated on held-out identities; the best weights are evaluated.
    chance = chance_losses(
        recipe.loss,
        recipe.batch,
        dataset.num_identities,
        ranks=session.ranks,
        even=isinstance(batches, PKBatches) and not recipe.loss.focal_gamma,
    )
    return fit_method(recipe, session, method, batches, dataset, chance=chance)


def _batches(
    recipe: RetrievalRecipe, session: Session, dataset: ReidDataset
) -> PKBatches | MinedBatches:
    """Batches of one process."""
    mining = recipe.mining
    if mining.data == "standard":
        return pk_batches(recipe, session, dataset)

    encoder = session.encoding.encoder(session.towers)

    def mine(epoch: int) -> Tensor:
        if isinstance(mining, HardNegativeMining):
            return _hard_negatives(mining, encoder, dataset, epoch, recipe.seed)
        return _triplets(mining, encoder, dataset, epoch)

    return MinedBatches(
        dataset,
        mine,
        session.encoding.categories,
        caption_tokens(recipe, session, dataset),
        recipe.data,
        batch_size=recipe.batch.num_identities * recipe.batch.num_instances,
        refresh_epochs=mining.refresh_epochs,
        seed=recipe.seed,
        rank=session.rank,
        ranks=session.ranks,
    )


def _hard_negatives(
    mining: HardNegativeMining, encoder: Encoder, dataset: ReidDataset, epoch: int, seed: int
) -> Tensor:
    """Rows of each image and its negatives."""
    is_random = mining.negatives == "random"
    features = None if is_random else _features(encoder, dataset)[0]

    negatives = mine_hard_negatives(
        features,
        dataset.labels,
        mining.num_negatives,
        captions=dataset.captions,
        images=dataset.image_numbers,
        strategy="random" if is_random else "semantic",
        seed=seed,
        epoch=epoch,
    )
    return with_anchor_column(negatives)


def _triplets(mining: TripletMining, encoder: Encoder, dataset: ReidDataset, epoch: int) -> Tensor:
    """Rows of anchors, positives and negatives."""
    features, texts = _features(encoder, dataset)
    by_identity = mining.positives == "identity"

    triplets = mine_triplets(
        features,
        labels=dataset.labels if by_identity else None,
        caption_features=None if by_identity else texts,
        captions=dataset.captions,
        images=dataset.image_numbers,
        strategy=mining.triplets,
        margin=mining.margin,
    )

    if not len(triplets):
        raise ValueError(
            f"epoch {epoch}: there are no {mining.triplets} triplets to train on: all are "
            "satisfied, or no image has a positive. Raise mining.margin, or change "
            "mining.positives or mining.data."
        )
    return triplets


def _features(encoder: Encoder, dataset: ReidDataset) -> tuple[Tensor, Tensor]:
    """Features of images with their captions, and those of the captions alone."""
    texts = encoder.encode_texts([caption or "" for caption in dataset.captions])
    return l2_normalize(encoder.encode_images(dataset.records)) + l2_normalize(texts), texts
