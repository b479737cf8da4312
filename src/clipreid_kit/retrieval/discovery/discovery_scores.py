"""Compare found identities with known ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DiscoveryScores:
    """Agreement of found identities with known ones; an unmatched image is its own identity.

    Attributes:
        ari: Adjusted Rand index: agreement about pairs, 0 for chance and 1 for equality.
        ami: Adjusted mutual information, 0 for chance and 1 for equality.
        pair_precision: Share of the pairs of one found identity that show the same one; NaN if
            there is no such pair.
        pair_recall: Share of the pairs of one known identity that were found; NaN if there is no
            such pair.
        num_known: Number of known identities.
        num_found: Number of found identities, with those of a single image.
    """

    ari: float
    ami: float
    pair_precision: float
    pair_recall: float
    num_known: int
    num_found: int

    def to_dict(self) -> dict[str, float | int]:
        """Return the values for a JSON file; rates as fractions."""
        return asdict(self)

    def table(self) -> str:
        """Return the values as a table for a terminal; rates in percent."""
        return "\n".join(
            [
                f"known identities   {self.num_known}",
                f"ARI                {self.ari:.4f}",
                f"AMI                {self.ami:.4f}",
                f"pair precision     {100 * self.pair_precision:.2f} %",
                f"pair recall        {100 * self.pair_recall:.2f} %",
            ]
        )


def score_identities(
    owner: str, found: IntArray, identities: Sequence[int | str]
) -> DiscoveryScores:
    """Compare found identities with known ones.

    Args:
        owner: The public function, for errors.
        found: (N,), number of the found identity of every image; -1 for an unmatched one.
        identities: N known identities.

    Raises:
        ValueError: If the numbers of images differ, all images have the same known identity, or
            scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
    except ImportError:
        raise ValueError(
            f"{owner}: scikit-learn is needed. Run pip install clipreid_kit[calibrate]."
        ) from None

    number_of: dict[int | str, int] = {}
    known = np.array([number_of.setdefault(one, len(number_of)) for one in identities])
    if len(known) != len(found):
        raise ValueError(
            f"{owner}: there are {len(known)} identities for {len(found)} images; pass one "
            "for each."
        )
    if len(number_of) == 1:
        raise ValueError(
            f"{owner}: all images have the identity {identities[0]!r}, so there is nothing to "
            "compare with. Pass known identities."
        )

    own = own_identities(found)
    both = known * (own.max(initial=0) + 1) + own
    num_shared = _count_pairs(both)
    num_found, num_known = _count_pairs(own), _count_pairs(known)
    return DiscoveryScores(
        ari=float(adjusted_rand_score(known, own)),
        ami=float(adjusted_mutual_info_score(known, own)),
        pair_precision=num_shared / num_found if num_found else np.nan,
        pair_recall=num_shared / num_known if num_known else np.nan,
        num_known=len(number_of),
        num_found=len(np.unique(own)),
    )


def own_identities(found: IntArray) -> IntArray:
    """Give unmatched images numbers of their own, after those of the found identities."""
    own = found.copy()
    is_unmatched = found < 0
    own[is_unmatched] = found.max(initial=-1) + 1 + np.arange(int(is_unmatched.sum()))
    return own


def _count_pairs(labels: IntArray) -> int:
    """Count the pairs of images with the same label."""
    _, sizes = np.unique(labels, return_counts=True)
    return int((sizes * (sizes - 1) // 2).sum())
