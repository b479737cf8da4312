"""Noisy correspondence: find the pairs of images and texts that do not belong together."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clipreid_kit._checks import check_dense, check_fraction, check_seed, describe, fail

_LEAST_PAIRS = 4


class PairDivision(NamedTuple):
    """Output of :func:`divide_pairs`: each pair is in exactly one of three sets.

    Attributes:
        clean: Pairs that both embeddings take for clean (N,).
        noisy: Pairs that both take for noisy (N,).
        uncertain: Pairs on which they disagree (N,).
    """

    clean: Tensor
    noisy: Tensor
    uncertain: Tensor

    def weights(self, *, uncertain: float = 0.5) -> Tensor:
        """Weight of each pair (N,), float32: 1 for clean, 0 for noisy, a number for uncertain.

        Args:
            uncertain: Weight of the uncertain pairs, in [0, 1].

        Raises:
            ValueError: If it is out of its range.

        Example:
            >>> one = torch.tensor([True, True, False])
            >>> divide_pairs(one, torch.tensor([True, False, False])).weights()
            tensor([1.0000, 0.5000, 0.0000])
        """
        if uncertain != 1:
            check_fraction("PairDivision.weights", "uncertain", uncertain)
        return self.clean.float() + uncertain * self.uncertain.float()

    def drawn_weights(self, generator: torch.Generator) -> Tensor:
        """Weight of each pair (N,), float32, where that of an uncertain pair is drawn from {0, 1}.

        That is RDE's rule: each epoch trains on another half of the uncertain pairs.

        Args:
            generator: A generator on the device of the pairs, for example seeded by the epoch.

        Example:
            >>> both = torch.tensor([True, False])
            >>> divide_pairs(both, both).drawn_weights(torch.Generator())
            tensor([1., 0.])
        """
        shape, device = self.clean.shape, self.clean.device
        drawn = torch.randint(0, 2, shape, generator=generator, device=device).bool()
        return (self.clean | (self.uncertain & drawn)).float()


def clean_probability(losses: Float[Tensor, " n"], *, seed: int = 0) -> Float[Tensor, " n"]:
    r"""Probability that each pair is clean, by a mixture of two Gaussians over the pairs' losses.

    Use it where some captions describe another image. Networks learn right pairs first, so after an
    epoch or two the losses of all training pairs fall into two groups. Compute the losses with
    ``reduction="none"``, without augmentation, batch by batch, and concatenate them.

    .. math::
        P(\text{clean} \mid \ell_i) =
        \frac{\pi_1\, \mathcal{N}(\ell_i \mid \mu_1, \sigma_1^2)}
        {\sum_k \pi_k\, \mathcal{N}(\ell_i \mid \mu_k, \sigma_k^2)}, \qquad \mu_1 \le \mu_2

    Args:
        losses: Loss of each pair of the training set, at least 4, all finite.
        seed: Seed of the mixture's initial means.

    Returns:
        Probabilities (N,) in [0, 1], in the dtype and on the device of the losses, without
        gradient. 1 for all pairs if their losses are equal.

    Raises:
        ValueError: If the losses are no row of finite numbers, there are fewer than 4, or
            scikit-learn is missing.

    Example:
        >>> losses = torch.tensor([0.1, 0.12, 0.09, 0.11, 2.0, 2.1])
        >>> clean_probability(losses).round()
        tensor([1., 1., 1., 1., 0., 0.])

    Relations:
        :func:`divide_pairs` joins the decisions of two embeddings.

    Note:
        The losses are scaled to [0, 1] first, and variances are at least 5e-4, so that a few equal
        losses are no component of their own. The mixture is scikit-learn's ``GaussianMixture``;
        install ``clipreid_kit[calibrate]``.

    References:
        Qin et al., Noisy-Correspondence Learning for Text-to-Image Person Re-identification (RDE),
        CVPR 2024, section 3.3. Li et al., DivideMix, ICLR 2020, section 3.1.
    """
    check_dense("clean_probability", "losses", losses)
    check_seed("clean_probability", seed)
    if losses.ndim != 1 or losses.shape[0] < _LEAST_PAIRS or not losses.is_floating_point():
        expected = f"losses of at least {_LEAST_PAIRS} pairs (N,)"
        remedy = 'Concatenate those of all batches, from reduction="none".'
        raise fail("clean_probability", expected, describe(losses), remedy)

    values = losses.detach().double().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            f"clean_probability: {(~np.isfinite(values)).sum()} of {len(values)} losses are not "
            "finite. Find those pairs first: a mixture over them has no meaning."
        )

    lowest, span = values.min(), np.ptp(values)
    if span == 0:
        return torch.ones_like(losses.detach())

    scaled = ((values - lowest) / span)[:, None]
    mixture = _mixture(seed).fit(scaled)
    probability = mixture.predict_proba(scaled)[:, mixture.means_.argmin()]
    return torch.as_tensor(probability, dtype=losses.dtype, device=losses.device)


def _mixture(seed: int) -> Any:  # noqa: ANN401 (a GaussianMixture; the package has no types)
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ValueError(
            "clean_probability: it needs scikit-learn. Run `pip install clipreid_kit[calibrate]`."
        ) from error

    return GaussianMixture(2, tol=1e-3, reg_covar=5e-4, max_iter=100, random_state=seed % 2**32)


def divide_pairs(first: Bool[Tensor, " n"], second: Bool[Tensor, " n"]) -> PairDivision:
    """Consensus division (RDE): pairs that are clean, noisy, or disagreed on by two embeddings.

    Use it with two embeddings of one model that fail differently, such as the global embedding and
    that of :class:`TokenSelection`, or with two models. Train on the clean pairs, leave out the
    noisy ones, and draw from the others.

    Args:
        first: Which pairs the first embedding takes for clean:
            ``clean_probability(losses) > 0.5``.
        second: The same of the second embedding.

    Returns:
        Three masks (N,), of which exactly one is true for each pair.

    Raises:
        ValueError: If the two are no boolean rows of one length.

    Example:
        >>> first = torch.tensor([True, True, False])
        >>> divide_pairs(first, torch.tensor([True, False, False])).uncertain
        tensor([False,  True, False])
        >>> weights = divide_pairs(first, first).weights()
        >>> losses = torch.tensor([0.1, 0.3, 9.0])  # of the pairs, by any loss
        >>> (weights * losses).mean()
        tensor(0.1333)

    References:
        Qin et al., RDE, CVPR 2024, section 3.3.
    """
    for name, mask in (("first", first), ("second", second)):
        if mask.dtype != torch.bool or mask.ndim != 1:
            remedy = "Compare the probabilities with a threshold: clean_probability(losses) > 0.5."
            raise fail("divide_pairs", f"{name} as a boolean row (N,)", describe(mask), remedy)

    if first.shape != second.shape:
        got = f"{first.shape[0]} and {second.shape[0]}"
        raise fail("divide_pairs", "both masks of the same pairs", got)

    return PairDivision(first & second, ~first & ~second, first ^ second)
