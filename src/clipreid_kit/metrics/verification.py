"""Verification metrics: whether two images show one identity, as ROC over all pairs, by blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_number, fail
from clipreid_kit.metrics._engine.id_columns import Ids, encode_ids
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace, check_sets
from clipreid_kit.metrics.results._output_formats import align, json_text

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_OWNER = "evaluate_verification"

_BLOCK = 1 << 22  # similarities that are compared at once: 16 MB


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class VerificationResult:
    """Receiver operating characteristic (ROC) of pairs.

    A pair is accepted as one identity if its similarity reaches a threshold. *Genuine* pairs are
    two images of one identity, *impostor* pairs are images of two identities.

    Attributes:
        similarity: Cosine of every genuine pair, descending.
        false_accepts: For each genuine pair, the number of impostor pairs at least as similar.
        num_impostors: Number of all impostor pairs.
        num_tied: Number of combinations of a genuine and an impostor pair that are exactly as
            similar.

    Example:
        >>> result = VerificationResult(
        ...     np.array([0.9, 0.6, 0.4]), np.array([0, 1, 3]), num_impostors=10, num_tied=0
        ... )
        >>> round(result.tpr(0.1), 3), result.threshold(0.1), round(result.auc, 3)
        (0.667, 0.6, 0.867)
    """

    similarity: FloatArray
    false_accepts: IntArray
    num_impostors: int
    num_tied: int

    @property
    def num_genuine(self) -> int:
        """Number of all genuine pairs."""
        return len(self.similarity)

    def tpr(self, fpr: float) -> float:
        """Return the true positive rate at a false positive rate.

        This is the largest share of genuine pairs that can be accepted while at most ``fpr`` * n of
        n impostor pairs are. The false non-match rate (FNMR) at a false match rate (FMR) is 1 minus
        it.

        Args:
            fpr: From 0 to 1. Below 1 / n no impostor pair may be accepted.

        Raises:
            ValueError: If ``fpr`` is not in [0, 1].
        """
        return self._num_accepted("VerificationResult.tpr", fpr) / self.num_genuine

    def threshold(self, fpr: float) -> float:
        """Return the lowest similarity that is accepted at a false positive rate.

        Infinity if no pair can be accepted.
        """
        num_accepted = self._num_accepted("VerificationResult.threshold", fpr)
        return float(self.similarity[num_accepted - 1]) if num_accepted else np.inf

    def roc(self) -> tuple[FloatArray, FloatArray]:
        """Return false and true positive rates at the similarity of every genuine pair.

        These are all corners of the curve.
        """
        true_accepts = np.searchsorted(-self.similarity, -self.similarity, side="right")
        return self.false_accepts / self.num_impostors, true_accepts / self.num_genuine

    @property
    def auc(self) -> float:
        """Probability that a genuine pair is more similar than an impostor; ties count half."""
        num_combinations = self.num_impostors * self.num_genuine
        num_below = num_combinations - int(self.false_accepts.sum())
        return (num_below + self.num_tied / 2) / num_combinations

    def to_dict(self, fprs: Sequence[float] = (0.0001, 0.001, 0.01, 0.1)) -> dict[str, float | int]:
        """Return plain numbers for a JSON file; rates as fractions."""
        values: dict[str, float | int] = {f"tpr_at_fpr_{fpr:g}": self.tpr(fpr) for fpr in fprs}
        values["auc"] = self.auc
        values["num_genuine"] = self.num_genuine
        values["num_impostors"] = self.num_impostors
        return values

    def to_json(self, fprs: Sequence[float] = (0.0001, 0.001, 0.01, 0.1)) -> str:
        """Return JSON text of :meth:`to_dict`."""
        return json_text(self.to_dict(fprs))

    def table(self, fprs: Sequence[float] = (0.0001, 0.001, 0.01, 0.1)) -> str:
        """Return a table: rates in percent, and the lowest similarity that is accepted."""
        rows = [["FPR", "TPR", "threshold"]]
        for fpr in fprs:
            rate, threshold = self.tpr(fpr), self.threshold(fpr)
            rows.append([f"{100 * fpr:g}", f"{100 * rate:.2f}", f"{threshold:.4f}"])
        return "\n".join([*align(rows), self._note()])

    def __str__(self) -> str:
        """Return one line for people, in percent."""
        rates = [f"TPR@FPR {100 * fpr:g} {100 * self.tpr(fpr):.2f}" for fpr in (0.001, 0.01)]
        return f"{'  '.join(rates)}  ({self._note()})"

    __repr__ = __str__

    def _note(self) -> str:
        pairs = f"{self.num_genuine} genuine and {self.num_impostors} impostor pairs"
        return f"AUC {100 * self.auc:.2f}, {pairs}"

    def _num_accepted(self, owner: str, fpr: float) -> int:
        check_number(owner, "fpr", fpr)
        if not 0 <= fpr <= 1:
            raise fail(owner, "fpr in [0, 1]", fpr)
        # 0.29 * 100 is a float below 29: half a unit in the last place is added
        num_allowed = np.floor(fpr * self.num_impostors * (1 + 2.0**-52))
        return int(np.searchsorted(self.false_accepts, num_allowed, side="right"))


@torch.no_grad()
def evaluate_verification(
    query_embeddings: Float[Tensor, "q d"],
    gallery_embeddings: Float[Tensor, "g d"] | None = None,
    *,
    query_ids: Ids,
    gallery_ids: Ids | None = None,
) -> VerificationResult:
    """Evaluate verification over all pairs of query and gallery: TPR at an FPR, ROC and AUC.

    Ranking asks for the order within each query; verification asks whether one threshold suits all
    queries. Neither the matrix of all pairs nor a histogram of it is held: the genuine pairs are
    gathered first, and then every impostor pair is counted against them, so rates are exact at any
    FPR.

    Args:
        query_embeddings: (Q, D), any scale; compared by cosine.
        gallery_embeddings: (G, D). ``None`` for all pairs within the queries, each once, and none
            of a row with itself.
        query_ids: Identity of each query: integers or strings.
        gallery_ids: Identity of each gallery row, of the same kind; ``None`` without a gallery.

    Returns:
        A :class:`VerificationResult`. Similarities are float32 (a matrix product), so pairs that
        differ by less than its rounding may count as tied or swapped. Memory: 16 bytes for each
        genuine pair, and blocks of 16 MB.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or
            infinity (the error names the rows), or there is no genuine pair or no impostor pair.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> result = evaluate_verification(rows, query_ids=[0, 0, 1, 1])
        >>> result.num_genuine, result.num_impostors, result.tpr(0.0), result.auc
        (2, 4, 1.0, 1.0)
    """
    if (gallery_embeddings is None) != (gallery_ids is None):
        given = "gallery_ids" if gallery_embeddings is None else "gallery_embeddings"
        missing = "gallery_embeddings" if gallery_embeddings is None else "gallery_ids"
        raise ValueError(
            f"{_OWNER}: {given} given without {missing}; omit both for the pairs within the "
            "queries."
        )

    pairs = _pairs_of_sets(query_embeddings, gallery_embeddings, query_ids, gallery_ids)
    genuine = torch.cat([block[is_genuine] for block, is_genuine, _ in pairs])
    genuine = torch.sort(genuine).values

    num_impostors = pairs.num_pairs - genuine.numel()
    if genuine.numel() == 0 or num_impostors == 0:
        raise fail(
            _OWNER,
            "at least one genuine and one impostor pair",
            f"{genuine.numel()} and {num_impostors}",
            "Check how the ids of both sides were made.",
        )

    num_above, num_reaching = _count_impostors(pairs, genuine)
    false_accepts = int(num_reaching.sum()) - torch.cumsum(num_reaching, 0)[:-1]
    num_tied = int((torch.cumsum(num_above, 0) - torch.cumsum(num_reaching, 0)).sum())
    return VerificationResult(
        pairs.space.cosines(genuine.flip(0)).cpu().numpy(),
        false_accepts.flip(0).cpu().numpy(),
        num_impostors,
        num_tied,
    )


def _pairs_of_sets(
    query_embeddings: Tensor,
    gallery_embeddings: Tensor | None,
    query_ids: Ids,
    gallery_ids: Ids | None,
) -> "_PairBlocks":
    """Check both sets, or the queries alone, and return their pairs."""
    names = ["query_embeddings"]
    embeddings = [query_embeddings]
    if gallery_embeddings is not None:
        names.append("gallery_embeddings")
        embeddings.append(gallery_embeddings)
    sets = check_sets(_OWNER, names, embeddings)

    space = SimilaritySpace(sets, "cosine")
    ids = (query_ids, query_ids if gallery_ids is None else gallery_ids)
    codes = encode_ids(_OWNER, ids, (len(sets[0]), len(sets[-1])))
    return _PairBlocks(space, codes, within_queries=gallery_embeddings is None)


class _PairBlocks:
    """Blocks of nearness of some queries to the gallery, computed anew for each iteration.

    Args:
        space: Queries and gallery; one set if ``within_queries``.
        codes: Identity of every query and of every gallery row, as numbers.
        within_queries: Whether the queries are the gallery, and each pair counts once.
    """

    def __init__(
        self, space: SimilaritySpace, codes: tuple[IntArray, IntArray], *, within_queries: bool
    ) -> None:
        device = space.rows.device
        self.space = space
        self.query_codes, self.gallery_codes = (torch.from_numpy(x).to(device) for x in codes)
        self.columns = torch.arange(len(self.gallery_codes), device=device)
        self.within_queries = within_queries

    @property
    def num_pairs(self) -> int:
        """Number of pairs, genuine and impostors."""
        num_queries = len(self.query_codes)
        if self.within_queries:
            return num_queries * (num_queries - 1) // 2
        return num_queries * len(self.gallery_codes)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield nearness, and whether each pair is genuine, and an impostor."""
        num_queries = len(self.query_codes)
        num_gallery = len(self.gallery_codes)
        gallery = slice(len(self.space) - num_gallery, len(self.space))
        queries_at_once = max(1, _BLOCK // num_gallery)

        for start in range(0, num_queries, queries_at_once):
            queries = slice(start, min(start + queries_at_once, num_queries))
            is_genuine = self.query_codes[queries, None] == self.gallery_codes[None]
            is_impostor = ~is_genuine

            # Within one set, (i, j) and (j, i) are the same pair, and (i, i) is none.
            if self.within_queries:
                is_later = self.columns[None] > self.columns[queries, None]
                is_genuine = is_genuine & is_later
                is_impostor = is_impostor & is_later

            yield self.space.nearness(queries, gallery), is_genuine, is_impostor


def _count_impostors(pairs: _PairBlocks, genuine: Tensor) -> tuple[Tensor, Tensor]:
    """Count the impostor pairs against the genuine pairs.

    Args:
        pairs: All pairs.
        genuine: Nearness of the genuine pairs, ascending, n >= 1.

    Returns:
        For each k from 0 to n, the number of impostor pairs that are above exactly k genuine pairs,
        and the number of those that are at least as similar as exactly k genuine pairs.
    """
    num_genuine = genuine.numel()
    num_above = torch.zeros(num_genuine + 1, dtype=torch.int64, device=genuine.device)
    num_reaching = torch.zeros_like(num_above)

    for block, _, is_impostor in pairs:
        values = block.masked_fill_(~is_impostor, -torch.inf).flatten()
        position = torch.searchsorted(genuine, values)
        num_above += torch.bincount(position, minlength=num_genuine + 1)

        # An impostor that is tied with genuine pairs reaches all of these.
        is_tied = values == genuine[position.clamp_(max=num_genuine - 1)]
        position[is_tied] = torch.searchsorted(genuine, values[is_tied], right=True)
        position[values > genuine[-1]] = num_genuine
        num_reaching += torch.bincount(position, minlength=num_genuine + 1)
    return num_above, num_reaching
