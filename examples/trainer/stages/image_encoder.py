"""Train the image tower, also against the captions of a frozen text tower."""

from torch import nn

from clipreid_kit.clip import ClipBaseline, IdentityBranch
from examples.settings.stages import ImageEncoderRecipe
from examples.trainer.assemble import fit_method, method_losses, pk_batches, training_images
from examples.trainer.losses import chance_losses, identity_branch, set_trained_parts
from examples.trainer.session import Session


def build(recipe: ImageEncoderRecipe, session: Session, num_identities: int) -> nn.Module:
    """The method, with new weights beside its towers."""
    # Model and losses: an identity branch, and terms on images and captions.
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
    ).to(session.accelerator.device)


def train(recipe: ImageEncoderRecipe, session: Session) -> nn.Module:
    """Train the image tower; the frozen text tower encodes captions if a term looks at them."""
    # Data: PK batches of augmented images, with their captions if a term looks at them.
    dataset = training_images(recipe, session)
    batches = pk_batches(recipe, session, dataset)
    method = build(recipe, session, dataset.num_identities)

    # Loop, validated on held-out identities; the best weights are evaluated.
    chance = chance_losses(
        recipe.loss,
        recipe.batch,
        dataset.num_identities,
        ranks=session.ranks,
        views=recipe.augment.views,
        even=not recipe.loss.focal_gamma,
    )
    return fit_method(recipe, session, method, batches, dataset, chance=chance)
