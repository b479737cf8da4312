"""Sample identities, so that a head of 100,000 of them costs as much as a few thousand."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_embeddings,
    check_integer,
    check_label_range,
    check_labels,
    fail,
)
from clipreid_kit.losses._engine.argument_checks import check_changes_state_once


class ClassSample(NamedTuple):
    """Identities that take part in a step.

    Attributes:
        classes: The identities (S,), ascending, without repetition.
        labels: Position in ``classes`` of each row's identity (N,), the labels of this step.
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
    """Draw the identities of a step: all of the batch, and random ones up to ``num_sampled``.

    Use it with any head that accepts a weight: take the rows with :func:`class_rows`, and the
    sample's labels as labels. The random identities are drawn uniformly and without replacement. No
    value is read, so nothing waits for the device.

    Args:
        labels: Identity of each row, in [0, num_identities).
        num_identities: Number of identities of the head.
        num_sampled: Number of identities that take part: at least the number of rows of the batch
            (which might all have different identities) and at most ``num_identities``. A tenth of
            the identities is usual.
        generator: A CPU generator; it advances by one draw for each identity of the head.

    Returns:
        The identities and the labels among them, on the device of ``labels``. Without labels all
        identities are random.

    Raises:
        ValueError: If ``labels`` is not a vector of integers, or ``num_sampled`` is out of its
            range.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sample = sample_classes(torch.tensor([7, 7, 2]), 10, 5, generator=generator)
        >>> len(sample.classes), sample.classes[sample.labels]
        (5, tensor([7, 7, 2]))

    References:
        An et al., Killing Two Birds with One Stone: Efficient and Robust Training of Face
        Recognition CNNs by Partial FC, CVPR 2022, section 3.2 (positives plus random negatives).
    """
    num_rows = labels.shape[0] if labels.ndim else 0
    check_labels("sample_classes", "labels", labels, num_rows)
    check_sampling("sample_classes", num_identities, num_sampled)
    check_label_range("sample_classes", labels, num_identities)
    if num_rows > num_sampled:
        raise ValueError(
            f"sample_classes: num_sampled={num_sampled} is below the {num_rows} rows of the batch, "
            "whose identities all take part. Raise num_sampled."
        )

    # In float64 no two draws are equal; topk might order equal ones differently elsewhere.
    score = torch.rand(num_identities, generator=generator, dtype=torch.float64, device="cpu")
    score = score.to(labels.device).scatter(0, labels.long(), 2.0)
    classes = score.topk(num_sampled, sorted=False).indices.sort().values

    return ClassSample(classes, torch.searchsorted(classes, labels.long()))


def class_rows(
    weight: Float[Tensor, "m d"],
    classes: Integer[Tensor, " s"],
    *,
    num_centers: int = 1,
    sparse_grad: bool = False,
) -> Float[Tensor, "r d"]:
    """Select the rows of some identities from a head's weight, with gradient.

    Args:
        weight: Rows of all identities (C * num_centers, D).
        classes: Identities to select, such as ``classes`` of a :class:`ClassSample`.
        num_centers: Rows of an identity; they follow each other.
        sparse_grad: Give the weight a sparse gradient of the selected rows. It saves the memory and
            the time of a gradient of all rows, and needs an optimiser that accepts one:
            ``SparseAdam``, ``Adagrad`` or ``SGD``.

    Returns:
        Rows (S * num_centers, D), in the order of ``classes``.

    Raises:
        ValueError: If the number of rows is not a multiple of ``num_centers``.

    Example:
        >>> weight = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> class_rows(weight, torch.tensor([1]), num_centers=2)
        tensor([[2.],
                [3.]])
    """
    check_embeddings("class_rows", "weight", weight)
    check_integer("class_rows", "num_centers", num_centers, 1)
    if weight.shape[0] % num_centers != 0:
        expected = f"weight with {num_centers} row(s) for each identity"
        raise fail("class_rows", expected, f"{weight.shape[0]} rows")

    center = torch.arange(num_centers, device=classes.device)
    rows = classes[:, None] * num_centers + center

    return F.embedding(rows.flatten(), weight, sparse=sparse_grad)


class ClassSampler(nn.Module):
    """Module of :func:`sample_classes`; it holds the options and counts the steps.

    What is drawn depends only on the seed, the step and the labels, and neither on the global
    random state nor on the device. Ranks that call it with the same (gathered) labels draw the
    same. The step is part of the ``state_dict``, so a resumed run continues where it was.

    Args:
        num_identities: Number of identities of the head.
        num_sampled: Number of identities that take part in a step, those of the batch included.
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
        check_sampling("ClassSampler", num_identities, num_sampled)
        check_integer("ClassSampler", "seed", seed, 0)

        self.num_identities = num_identities
        self.num_sampled = num_sampled
        self.seed = seed
        self.step = 0

    def forward(self, labels: Integer[Tensor, " n"]) -> ClassSample:
        """Draw for the next step by :func:`sample_classes`."""
        check_changes_state_once("ClassSampler")

        # Mixed to 32 bits: torch's CPU generator ignores the other bits of a larger seed.
        mixed = np.random.SeedSequence([self.seed, self.step]).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))

        sample = sample_classes(labels, self.num_identities, self.num_sampled, generator=generator)
        self.step += 1
        return sample

    def get_extra_state(self) -> Tensor:
        """Return the step for ``state_dict``, as a tensor: every checkpoint format accepts that."""
        return torch.tensor(self.step, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a stored step."""
        self.step = int(state)

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"num_identities={self.num_identities}, num_sampled={self.num_sampled}, "
            f"seed={self.seed}"
        )


def check_sampling(owner: str, num_identities: int, num_sampled: int) -> None:
    """Require between 1 and ``num_identities`` sampled identities."""
    check_integer(owner, "num_identities", num_identities, 1)
    check_integer(owner, "num_sampled", num_sampled, 1)
    if num_sampled > num_identities:
        raise fail(owner, f"num_sampled <= {num_identities}, the number of identities", num_sampled)
