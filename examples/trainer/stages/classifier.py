"""Train the image tower with an identity classifier and losses among images."""

from torch import nn

from clipreid_kit.clip import ClipBaseline, IdentityBranch
from examples.settings.stages import ClassifierRecipe
from examples.trainer.assemble import fit_method, method_losses, pk_batches, training_images
from examples.trainer.batches import PKBatches
from examples.trainer.losses import chance_losses, identity_branch, set_trained_parts
from examples.trainer.session import Session
from examples.trainer.tracklets import TrackletBatches, pooling_of


def build(recipe: ClassifierRecipe, session: Session, num_identities: int) -> nn.Module:
    """The method, with new weights beside its towers."""
    # Model and losses: an identity branch, and terms among images.
    loss, towers = recipe.loss, session.towers
    set_trained_parts(towers, recipe.model, text_blocks="none")
    branch = identity_branch(recipe.head, loss, dropout=recipe.head.dropout)
    weights = loss.weights()
    return ClipBaseline(
        towers,
        num_identities,
        weights=weights,
        losses=method_losses(recipe, session, weights, num_identities),
        identity=branch if "id" in weights else IdentityBranch,
        image_blocks=None,
        text_blocks=None,
        descriptor=recipe.evaluate.descriptor,
        distributed=session.distributed,
        pooling=pooling_of(recipe.tracklets, towers.embed_dim),
    ).to(session.accelerator.device)


def train(recipe: ClassifierRecipe, session: Session) -> nn.Module:
    """Train the image tower; the text tower is frozen, and never runs."""
    # Data: PK batches of augmented images, or of tracklets of several frames.
    dataset = training_images(recipe, session)
    batches: PKBatches | TrackletBatches = (
        TrackletBatches(recipe, session, dataset)
        if recipe.tracklets.num_frames
        else pk_batches(recipe, session, dataset)
    )
    method = build(recipe, session, dataset.num_identities)

    # Loop, validated on held-out identities; the best weights are evaluated.
    chance = chance_losses(
        recipe.loss,
        recipe.batch,
        dataset.num_identities,
        ranks=session.ranks,
        views=recipe.augment.views,
    )
    return fit_method(recipe, session, method, batches, dataset, chance=chance)
