"""Verification: are two images of one identity? ROC over all pairs, by blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit.metrics._engine.identity_matches import Ids, read_ids
from clipreid_kit.metrics._engine.similarity_space import Space, checked_sets
from clipreid_kit.metrics.results.tables import aligned, json_text

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_OWNER = "evaluate_verification"
_BLOCK = 1 << 22  # similarities that are looked at together: 16 MB


@dataclass(frozen=True, slots=True, eq=False)
class VerificationResult:
    """Receiver operating characteristic of pairs: accepted as one identity if their similarity reaches a threshold.

    Attributes:
        similarity: Cosine of every genuine pair (two images of one identity), descending.
        false_accepts: For each, how many impostor pairs (two identities) are at least as similar.
        num_impostors: All impostor pairs.
        num_tied: Pairs of a genuine and an impostor pair that are exactly as similar.

    Example:
        >>> result = VerificationResult(np.array([0.9, 0.6, 0.4]), np.array([0, 1, 3]), num_impostors=10, num_tied=0)
        >>> round(result.tpr(0.1), 3), result.threshold(0.1), round(result.auc, 3)
        (0.667, 0.6, 0.867)
    """

    similarity: FloatArray
    false_accepts: IntArray
    num_impostors: int
    num_tied: int

    @property
    def num_genuine(self) -> int:
        """All genuine pairs."""
        return len(self.similarity)

    def tpr(self, fpr: float) -> float:
        """True positive rate at a false positive rate: the largest share of genuine pairs that can be accepted.

        Of n impostor pairs at most ``fpr`` * n may be accepted. FNMR at an FMR is 1 minus this.

        Args:
            fpr: From 0 to 1. Below 1 / n no impostor pair at all may be accepted.

        Raises:
            ValueError: If ``fpr`` is not in [0, 1].
        """
        return self._accepted("VerificationResult.tpr", fpr) / self.num_genuine

    def threshold(self, fpr: float) -> float:
        """Similarity from which on a pair is accepted at this false positive rate; infinity if none can be."""
        accepted = self._accepted("VerificationResult.threshold", fpr)
        return float(self.similarity[accepted - 1]) if accepted else np.inf

    def roc(self) -> tuple[FloatArray, FloatArray]:
        """False and true positive rates at the similarity of every genuine pair: all corners of the curve."""
        true_positives = np.searchsorted(-self.similarity, -self.similarity, side="right")
        return self.false_accepts / self.num_impostors, true_positives / self.num_genuine

    @property
    def auc(self) -> float:
        """Chance that a genuine pair is more similar than an impostor pair; a tie counts one half."""
        below = self.num_impostors * self.num_genuine - int(self.false_accepts.sum())
        return (below + self.num_tied / 2) / (self.num_impostors * self.num_genuine)

    def to_dict(self, fprs: Sequence[float] = (0.0001, 0.001, 0.01, 0.1)) -> dict[str, float | int]:
        """Plain numbers for a JSON file; rates as fractions."""
        return {
            **{f"tpr_at_fpr_{fpr:g}": self.tpr(fpr) for fpr in fprs},
            "auc": self.auc,
            "num_genuine": self.num_genuine,
            "num_impostors": self.num_impostors,
        }

    def to_json(self, fprs: Sequence[float] = (0.0001, 0.001, 0.01, 0.1)) -> str:
        """JSON text of :meth:`to_dict`."""
        return json_text(self.to_dict(fprs))

    def table(self, fprs: Sequence[float] = (0.0001, 0.001, 0.01, 0.1)) -> str:
        """A table for people: rates in percent, and the similarity from which on a pair is accepted."""
        rows = [["FPR", "TPR", "threshold"]]
        rows += [
            [f"{100 * x:g}", f"{100 * self.tpr(x):.2f}", f"{self.threshold(x):.4f}"] for x in fprs
        ]
        return "\n".join([*aligned(rows), self._note()])

    def __str__(self) -> str:
        """One line for people, in percent."""
        rates = "  ".join(
            f"TPR@FPR {100 * fpr:g} {100 * self.tpr(fpr):.2f}" for fpr in (0.001, 0.01)
        )
        return f"{rates}  ({self._note()})"

    def _note(self) -> str:
        return f"AUC {100 * self.auc:.2f}, {self.num_genuine} genuine and {self.num_impostors} impostor pairs"

    def _accepted(self, owner: str, fpr: float) -> int:
        if not 0 <= fpr <= 1:
            raise fail(owner, "fpr in [0, 1]", fpr)
        # a share such as 0.29 of 100 is a float below 29: half a unit in the last place is given back
        allowed = np.floor(fpr * self.num_impostors * (1 + 2.0**-52))
        return int(np.searchsorted(self.false_accepts, allowed, side="right"))


@torch.no_grad()
def evaluate_verification(
    query_embeddings: Float[Tensor, "q d"],
    gallery_embeddings: Float[Tensor, "g d"] | None = None,
    *,
    query_ids: Ids,
    gallery_ids: Ids | None = None,
) -> VerificationResult:
    """Evaluate verification over all pairs of a query and a gallery row: TPR at an FPR, ROC and AUC.

    Ranking asks for the order within each query; verification asks whether one threshold serves all. Neither the
    matrix of all pairs nor a histogram of it is held: the genuine pairs are gathered first, and then every impostor
    pair is counted against them, so rates are exact at any FPR.

    Args:
        query_embeddings: (Q, D), any scale; compared by cosine.
        gallery_embeddings: (G, D). ``None``: all pairs within the queries, each once, and none with itself.
        query_ids: Identity of each query: integers or strings.
        gallery_ids: Identity of each gallery row, of the same kind; ``None`` without a gallery.

    Returns:
        A :class:`VerificationResult`. Similarities are float32 (a matrix product), so pairs nearer together than its
        rounding may count as tied or swapped. Memory: 16 bytes for each genuine pair, and blocks of 16 MB.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or infinity (rows
            named), or there is no genuine pair or no impostor pair.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> result = evaluate_verification(rows, query_ids=[0, 0, 1, 1])
        >>> result.num_genuine, result.num_impostors, result.tpr(0.0), result.auc
        (2, 4, 1.0, 1.0)
    """
    names, given, alone = ["query_embeddings"], [query_embeddings], gallery_embeddings is None
    if gallery_embeddings is not None:
        names, given = [*names, "gallery_embeddings"], [*given, gallery_embeddings]
    if (gallery_ids is None) != alone:
        raise fail(
            _OWNER,
            "gallery_ids exactly where there is a gallery",
            "none" if not alone else "gallery_ids alone",
        )
    sets = checked_sets(_OWNER, names, given)
    space = Space(sets, "cosine")
    other_ids = query_ids if gallery_ids is None else gallery_ids
    codes = read_ids(_OWNER, (query_ids, other_ids), (len(sets[0]), len(sets[-1])))
    genuine = torch.sort(
        torch.cat([block[same] for block, same, _ in _blocks(space, codes, alone=alone)])
    ).values
    num_pairs = len(sets[0]) * (len(sets[0]) - 1) // 2 if alone else len(sets[0]) * len(sets[1])
    num_impostors = num_pairs - genuine.numel()
    if genuine.numel() == 0 or num_impostors == 0:
        raise fail(
            _OWNER,
            "at least one genuine and one impostor pair",
            f"{genuine.numel()} and {num_impostors}",
            "Compare how the ids of the two sides were made.",
        )
    # for each number of genuine pairs, the impostor pairs that are above so many (and at least as similar as so many)
    above, reaching = torch.zeros(
        (2, genuine.numel() + 1), dtype=torch.int64, device=genuine.device
    )
    for block, _, impostor in _blocks(space, codes, alone=alone):
        values = block.masked_fill_(~impostor, -torch.inf).flatten()
        below = torch.searchsorted(genuine, values)
        above += torch.bincount(below, minlength=len(above))
        tied = values == genuine[below.clamp_(max=genuine.numel() - 1)]
        below[tied] = torch.searchsorted(genuine, values[tied], right=True)
        below[values > genuine[-1]] = genuine.numel()
        reaching += torch.bincount(below, minlength=len(reaching))
    false_accepts = int(reaching.sum()) - torch.cumsum(reaching, 0)[:-1]
    num_tied = int((torch.cumsum(above, 0) - torch.cumsum(reaching, 0)).sum())
    return VerificationResult(
        genuine.flip(0).double().cpu().numpy(),
        false_accepts.flip(0).cpu().numpy(),
        num_impostors,
        num_tied,
    )


def _blocks(
    space: Space, codes: tuple[IntArray, IntArray], *, alone: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Cosines of some queries with all others, and which of the pairs are genuine and which impostors."""
    device = space.rows.device
    queries, gallery = (torch.from_numpy(side).to(device) for side in codes)
    first, columns = len(space) - len(gallery), torch.arange(len(gallery), device=device)
    step = max(1, _BLOCK // len(gallery))
    for start in range(0, len(queries), step):
        part = slice(start, min(start + step, len(queries)))
        same = queries[part, None] == gallery[None]
        other = ~same
        if alone:  # each pair once
            later = columns[None] > columns[part, None]
            same, other = same & later, other & later
        yield space.nearness(part, slice(first, len(space))), same, other
