"""Train both towers to find persons by sentences, also where some captions are wrong."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clipreid_kit import MaskedLanguageHead, TokenSelection, clean_probability, divide_pairs
from clipreid_kit.clip import ClipTowers, TextToPerson
from clipreid_kit.data import ReidDataset
from clipreid_kit.distributed import local_losses
from examples.settings.stages import TextToPersonRecipe
from examples.settings.text_to_person import Tokens
from examples.trainer.assemble import fit_method, pk_batches, training_images
from examples.trainer.batches import CaptionTokens, DividedBatches
from examples.trainer.losses import (
    chance_losses,
    identity_branch,
    pair_losses,
    set_trained_parts,
)
from examples.trainer.session import Session


def build(recipe: TextToPersonRecipe, session: Session, num_identities: int) -> TextToPerson:
    """The method, with new weights beside its towers."""
    # Model and losses: pair terms, whose values are weighted where noisy pairs are divided.
    loss, towers = recipe.loss, session.towers
    set_trained_parts(towers, recipe.model, text_blocks=recipe.model.text_blocks)

    weights = loss.weights()
    losses = pair_losses(
        loss,
        distributed=session.distributed,
        reduction="none" if recipe.pairs.division == "consensus" else "mean",
    )
    losses |= session.plugin.losses_of(recipe, towers, num_identities, weights)
    return TextToPerson(
        towers,
        num_identities,
        weights=weights,
        losses={name: module for name, module in losses.items() if name in weights},
        identity=identity_branch(recipe.head, loss),
        selections=_selections(recipe.tokens, towers),
        masked_language=_masked_language(recipe, towers),
        image_blocks=None,
        text_blocks=None,
        distributed=session.distributed,
    ).to(session.accelerator.device)


def train(recipe: TextToPersonRecipe, session: Session) -> nn.Module:
    """Train both towers on images and captions."""
    # Data: PK batches of augmented images with their captions.
    dataset = training_images(recipe, session)
    batches = pk_batches(recipe, session, dataset)
    method = build(recipe, session, dataset.num_identities)
    weighted = DividedBatches(batches, _consensus(recipe, session, dataset, method))

    # Loop, validated on held-out identities; the best weights are evaluated.
    chance = chance_losses(recipe.loss, recipe.batch, dataset.num_identities, ranks=session.ranks)
    return fit_method(recipe, session, method, weighted, dataset, chance=chance)


def _selections(tokens: Tokens, towers: ClipTowers) -> tuple[TokenSelection, TokenSelection] | None:
    """Second embeddings of patches and of words."""
    if tokens.selection_dim == 0:
        return None

    patches, words = (
        TokenSelection(towers.embed_dim, tokens.selection_dim, ratio=tokens.selection_ratio)
        for _ in range(2)
    )
    return patches, words


def _masked_language(recipe: TextToPersonRecipe, towers: ClipTowers) -> MaskedLanguageHead | None:
    """The head that guesses masked words."""
    if not recipe.loss.masked_language:
        return None

    return MaskedLanguageHead(
        towers.embed_dim,
        towers.vocabulary_size,
        num_blocks=recipe.tokens.mask_blocks,
        num_heads=recipe.tokens.mask_heads,
    )


def _consensus(
    recipe: TextToPersonRecipe, session: Session, dataset: ReidDataset, method: TextToPerson
) -> Callable[[int], Tensor | None]:
    """RDE's weights of all training pairs in an epoch, if they are to be divided."""

    def divide(epoch: int) -> Tensor | None:
        if recipe.pairs.division == "none" or epoch <= recipe.pairs.warmup_epochs:
            return None

        losses = _pair_losses(recipe, session, dataset, method, epoch)
        clean = [clean_probability(of_space, seed=recipe.seed) > 0.5 for of_space in losses]
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        return divide_pairs(clean[0], clean[-1]).drawn_weights(generator)

    return divide


def _pair_losses(
    recipe: TextToPersonRecipe,
    session: Session,
    dataset: ReidDataset,
    method: TextToPerson,
    epoch: int,
) -> Tensor:
    """Loss of every training pair in each embedding (E, N), in batches of random order."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    order = torch.randperm(len(dataset.records), generator=generator)
    captions = CaptionTokens(session.towers, dataset.captions, recipe.data, recipe.seed)
    loader = session.encoding.loader([dataset.records[row] for row in order.tolist()])

    losses = []
    method.eval()
    with local_losses(method):  # every process computes all of them
        for item, rows in zip(loader, torch.split(order, recipe.evaluate.batch_size), strict=True):
            images = item.image.to(session.accelerator.device)
            tokens = captions(rows, epoch)
            losses.append(method.pair_losses(images, dataset.labels[rows], tokens).cpu())
    method.train()

    in_order = torch.empty(len(losses[0]), len(order))
    in_order[:, order] = torch.cat(losses, dim=1)
    return in_order
