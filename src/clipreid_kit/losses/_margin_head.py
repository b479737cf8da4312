"""Shared parts of the heads with a margin: options, weight, and the identities of a step.

``ArcFaceHead`` and ``CosFaceHead``, and the losses around them, differ in their margin alone.
"""

import torch
from torch import Tensor, nn

from clipreid_kit._checks import check_fraction, check_integer, check_positive
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses.class_sampling import ClassSampler, check_sampling, class_rows


def check_head_options(
    owner: str, dim: int, num_identities: int, scale: float, num_centers: int
) -> None:
    """Require the options that every head has, besides its margin."""
    check_integer(owner, "dim", dim, 1)
    check_integer(owner, "num_identities", num_identities, 1)
    check_integer(owner, "num_centers", num_centers, 1)
    check_positive(owner, "scale", scale)


def check_loss_options(
    owner: str,
    num_identities: int,
    label_smoothing: float,
    num_sampled: int | None,
    sparse_grad: bool,
    seed: int,
) -> None:
    """Require the options that the loss around a head adds."""
    check_fraction(owner, "label_smoothing", label_smoothing)
    check_integer(owner, "seed", seed, 0)

    if num_sampled is not None:
        check_sampling(owner, num_identities, num_sampled)

    elif sparse_grad:
        raise ValueError(
            f"{owner}: sparse_grad needs num_sampled. "
            "Without sampling every row of the weight has a gradient."
        )


def new_head_weight(dim: int, num_identities: int, num_centers: int) -> nn.Parameter:
    """Xavier-initialised weight (num_identities * num_centers, dim)."""
    weight = nn.Parameter(torch.empty(num_identities * num_centers, dim))
    nn.init.xavier_uniform_(weight)
    return weight


def sampler_options(sampler: ClassSampler | None) -> tuple[object, ...]:
    """Options and state of a sampler that every rank needs alike."""
    return () if sampler is None else (sampler.extra_repr(), sampler.step)


def rows_of_step(
    embeddings: Tensor,
    labels: Tensor,
    weight: Tensor,
    *,
    sampler: ClassSampler | None,
    num_centers: int,
    sparse_grad: bool,
    distributed: bool,
    owner: str,
    options: tuple[object, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, labels and weight of the identities that take part in a step.

    Embeddings and labels are gathered from all ranks if ``distributed``; there the options have to
    agree. With a sampler the weight has the rows of the sampled identities, and the labels are
    theirs.
    """
    if distributed:
        embeddings, labels = gather_batch(owner, embeddings, labels, options=options)

    if sampler is not None:
        classes, labels = sampler(labels)
        weight = class_rows(weight, classes, num_centers=num_centers, sparse_grad=sparse_grad)

    return embeddings, labels, weight
