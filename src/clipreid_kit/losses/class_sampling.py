"""Sampling of identities, so that a head of 100,000 of them costs what a few thousand do (Partial FC)."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_embeddings, check_integer, check_labels, fail


class ClassSample(NamedTuple):
    """Identities that take part in a step.

    Attributes:
        classes: The identities (S,), ascending, without repetition.
        labels: Where in ``classes`` each row's identity stands (N,): the labels of this step.
    """

    classes: Tensor
    labels: Tensor


def sample_classes(
    labels: Integer[Tensor, " n"],
    num_identities: int,
    num_sampled: int,
    *,
    generator: torch.Generator,
) -> ClassSample:
    """Draw identities for one step: all of the batch, and others at random until there are ``num_sampled``.

    Use it with any head that takes a weight: take the rows with :func:`class_rows`, and let the sample's labels stand
    for the labels. The others are drawn uniformly and without replacement. No value is inspected, so there is no wait
    for the device.

    Args:
        labels: Identity of each row, in [0, num_identities).
        num_identities: Number of identities of the head.
        num_sampled: How many take part: at least the rows of the batch (they might all be of different identities)
            and at most ``num_identities``. A tenth of the identities is usual.
        generator: A CPU generator; it moves on by one draw for each identity.

    Returns:
        The identities and the labels among them, on the device of ``labels``. Without labels all are drawn.

    Raises:
        ValueError: If ``labels`` is no vector of integers, or ``num_sampled`` is out of its range.

    Example:
        >>> sample = sample_classes(torch.tensor([7, 7, 2]), 10, 5, generator=torch.Generator().manual_seed(0))
        >>> len(sample.classes), sample.classes[sample.labels]
        (5, tensor([7, 7, 2]))

    References:
        An et al., Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs by Partial
        FC, CVPR 2022, section 3.2 (positives plus random negatives).
    """
    check_labels("sample_classes", "labels", labels, labels.shape[0] if labels.ndim else 0)
    _check_count("sample_classes", num_identities, num_sampled)
    if labels.shape[0] > num_sampled:
        raise fail(
            "sample_classes",
            f"num_sampled of at least the rows of the batch, {labels.shape[0]}",
            num_sampled,
            "Every row's identity takes part: raise num_sampled.",
        )
    # drawn in float64: equal numbers, which topk might order differently elsewhere, do not come up
    score = torch.rand(num_identities, generator=generator, dtype=torch.float64).to(labels.device)
    score = score.scatter(0, labels.long(), 2.0)
    classes = score.topk(num_sampled, sorted=False).indices.sort().values
    return ClassSample(classes, torch.searchsorted(classes, labels.long()))


def class_rows(
    weight: Float[Tensor, "m d"],
    classes: Integer[Tensor, " s"],
    *,
    num_centers: int = 1,
    sparse_grad: bool = False,
) -> Float[Tensor, "r d"]:
    """Take the rows of some identities out of a head's weight, with gradient.

    Args:
        weight: Rows of all identities (C * num_centers, D).
        classes: Identities to take, such as ``classes`` of a :class:`ClassSample`.
        num_centers: Rows of an identity; they follow each other.
        sparse_grad: Give the weight a sparse gradient, of the rows taken. It saves the memory and the time of a
            gradient of all rows, and needs an optimiser that takes one: ``SparseAdam``, ``Adagrad`` or ``SGD``.

    Returns:
        Rows (S * num_centers, D), in the order of ``classes``.

    Raises:
        ValueError: If the weight's rows cannot be shared out among identities.

    Example:
        >>> class_rows(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([1]), num_centers=2)
        tensor([[2.],
                [3.]])
    """
    check_embeddings("class_rows", "weight", weight)
    check_integer("class_rows", "num_centers", num_centers, 1)
    if weight.shape[0] % num_centers != 0:
        raise fail(
            "class_rows",
            f"weight with {num_centers} row(s) for each identity",
            f"{weight.shape[0]} rows",
        )
    index = classes[:, None] * num_centers + torch.arange(num_centers, device=classes.device)
    return F.embedding(index.flatten(), weight, sparse=sparse_grad)


class ClassSampler(nn.Module):
    """:func:`sample_classes` with its options and the number of steps held; no parameters.

    What is drawn depends on the seed, the step and the labels only: neither on the global random state nor on the
    device. Ranks that call it with the same (gathered) labels draw the same. The step is in the ``state_dict``, so a
    resumed run goes on where it was.

    Args:
        num_identities: Number of identities of the head.
        num_sampled: How many take part in a step, those of the batch included.
        seed: Together with the step it decides every draw.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> sampler = ClassSampler(num_identities=10, num_sampled=5)
        >>> sampler(torch.tensor([7, 7, 2])).classes.shape, sampler.step
        (torch.Size([5]), 1)
    """

    def __init__(self, num_identities: int, num_sampled: int, *, seed: int = 0) -> None:
        super().__init__()
        _check_count("ClassSampler", num_identities, num_sampled)
        check_integer("ClassSampler", "seed", seed, 0)
        self.num_identities = num_identities
        self.num_sampled = num_sampled
        self.seed = seed
        self.step = 0

    def forward(self, labels: Integer[Tensor, " n"]) -> ClassSample:
        """Draw for the next step: see :func:`sample_classes`."""
        # mixed to 32 bits: of a larger seed torch's CPU generator ignores the rest
        mixed = int(np.random.SeedSequence([self.seed, self.step]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(mixed)
        sample = sample_classes(labels, self.num_identities, self.num_sampled, generator=generator)
        self.step += 1
        return sample

    def get_extra_state(self) -> Tensor:
        """The step, for ``state_dict``; a tensor, so that any format of checkpoints takes it."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a stored step."""
        self.step = int(state)

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"num_identities={self.num_identities}, num_sampled={self.num_sampled}, seed={self.seed}"


def _check_count(owner: str, num_identities: int, num_sampled: int) -> None:
    check_integer(owner, "num_identities", num_identities, 1)
    check_integer(owner, "num_sampled", num_sampled, 1)
    if num_sampled > num_identities:
        raise fail(owner, f"num_sampled <= {num_identities}, the number of identities", num_sampled)
