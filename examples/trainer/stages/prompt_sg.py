"""PromptSG: train the image tower guided by a sentence with a pseudo word of each image."""

from torch import nn

from clipreid_kit import MultiModalInteraction, TextualInversionMLP
from clipreid_kit.clip import PromptComposer, PromptSG
from examples.settings.stages import PromptSGRecipe
from examples.trainer.assemble import fit_method, method_losses, pk_batches, training_images
from examples.trainer.losses import (
    chance_losses,
    identity_branch,
    ramped_weights,
    set_trained_parts,
)
from examples.trainer.prompts import templates_of
from examples.trainer.session import Session


def build(recipe: PromptSGRecipe, session: Session, num_identities: int) -> nn.Module:
    """The method, with new weights beside its towers."""
    # Model: a pseudo word of each image, a sentence around it, and attention to the patches.
    loss, prompt, towers = recipe.loss, recipe.prompt, session.towers
    set_trained_parts(towers, recipe.model, text_blocks="none")

    inversion = None
    if prompt.mode == "composed":
        inversion = TextualInversionMLP(
            towers.embed_dim,
            towers.text_width,
            variant=prompt.inversion,
            hidden_dim=prompt.inversion_dim,
            distributed=prompt.sync_inversion and session.distributed,
        )
    composer = PromptComposer(towers, templates_of(prompt, recipe.data))
    interaction = MultiModalInteraction(
        towers.embed_dim,
        prompt.interaction_blocks,
        visual_dim=towers.width,
        dropout=prompt.interaction_dropout,
    )

    # Losses: an identity branch, triplets, and SupCon of images and sentences.
    weights = ramped_weights(loss)
    return PromptSG(
        towers,
        num_identities,
        weights=weights,
        losses=method_losses(recipe, session, weights, num_identities),
        identity=identity_branch(recipe.head, loss),
        composer=composer,
        inversion=inversion,
        interaction=interaction,
        prompt=prompt.mode,
        triplet_levels=prompt.triplet_levels,
        unit_representation=prompt.unit_representation,
        balance=loss.balance,
        image_blocks=None,
        descriptor=recipe.evaluate.descriptor,
        distributed=session.distributed,
    ).to(session.accelerator.device)


def train(recipe: PromptSGRecipe, session: Session) -> nn.Module:
    """Train image tower, inversion network and interaction; the text tower is frozen."""
    # Data: PK batches of augmented images.
    dataset = training_images(recipe, session)
    batches = pk_batches(recipe, session, dataset)
    method = build(recipe, session, dataset.num_identities)

    # Loop, validated on held-out identities; the best weights are evaluated.
    chance = chance_losses(recipe.loss, recipe.batch, dataset.num_identities, ranks=session.ranks)
    if recipe.loss.balance != "none":
        chance = {}  # the factors move
    return fit_method(recipe, session, method, batches, dataset, chance=chance)
