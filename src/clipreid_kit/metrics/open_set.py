"""Open-set identification metrics: true and false positive identification rates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_integer, check_number, fail
from clipreid_kit.metrics._engine.id_columns import Ids, encode_ids
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace, check_sets
from clipreid_kit.metrics.results._output_formats import align, json_text

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_BLOCK = 1 << 22  # similarities that are compared at once: 16 MB


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OpenSetResult:
    """True and false positive identification rates (TPIR, FPIR).

    A query is *mated* if its identity is in the gallery. At a threshold t, FPIR is the share of
    non-mated queries for which any gallery row is more similar than t; TPIR at rank r is the share
    of mated queries whose most similar row of their own identity is more similar than t and among
    the first r of the gallery.

    Attributes:
        mated_similarity: For each mated query, its similarity to the most similar row of its
            identity.
        mated_rank: The rank of that row, from 1; a wrong row exactly as similar is ranked above it.
        non_mated_similarity: For each non-mated query, its largest similarity, descending.

    Example:
        >>> result = OpenSetResult(
        ...     np.array([0.9, 0.7, 0.5]), np.array([1, 2, 1]), np.array([0.8, 0.6])
        ... )
        >>> rates = result.tpir(0.0), result.tpir(0.5), result.tpir(0.5, rank=2)
        >>> tuple(round(rate, 3) for rate in rates)
        (0.333, 0.333, 0.667)
    """

    mated_similarity: FloatArray
    mated_rank: IntArray
    non_mated_similarity: FloatArray

    @property
    def num_mated(self) -> int:
        """Number of queries whose identity is in the gallery."""
        return len(self.mated_similarity)

    @property
    def num_non_mated(self) -> int:
        """Number of queries whose identity is not in the gallery."""
        return len(self.non_mated_similarity)

    def threshold(self, fpir: float) -> float:
        """Return the similarity above which a query counts as known.

        It is the lowest threshold at which FPIR does not exceed ``fpir``, chosen on the non-mated
        queries alone: one of their largest similarities, or minus infinity.

        Raises:
            ValueError: If ``fpir`` is not in [0, 1].
        """
        owner = "OpenSetResult.threshold"
        check_number(owner, "fpir", fpir)
        if not 0 <= fpir <= 1:
            raise fail(owner, "fpir in [0, 1]", fpir)

        # 0.29 * 100 is a float below 29: half a unit in the last place is added
        num_allowed = int(np.floor(fpir * self.num_non_mated * (1 + 2.0**-52)))
        if num_allowed >= self.num_non_mated:
            return -np.inf
        return float(self.non_mated_similarity[num_allowed])

    def tpir(self, fpir: float, rank: int = 1) -> float:
        """Return the true positive identification rate at a false positive identification rate.

        Args:
            fpir: From 0 to 1. Below 1 / (non-mated queries) none of them may count as known.
            rank: Number of first ranks that the right identity has to be among.

        Raises:
            ValueError: If ``fpir`` is not in [0, 1] or ``rank`` is below 1.
        """
        check_integer("OpenSetResult.tpir", "rank", rank, 1)
        is_known = self.mated_similarity > self.threshold(fpir)
        is_found = is_known & (self.mated_rank <= rank)
        return int(is_found.sum()) / self.num_mated

    def to_dict(
        self, fpirs: Sequence[float] = (0.01, 0.1), rank: int = 1
    ) -> dict[str, float | int]:
        """Return plain numbers for a JSON file; rates as fractions."""
        values: dict[str, float | int] = {}
        for fpir in fpirs:
            values[f"tpir_at_fpir_{fpir:g}"] = self.tpir(fpir, rank)
        values["rank"] = rank
        values["num_mated"] = self.num_mated
        values["num_non_mated"] = self.num_non_mated
        return values

    def to_json(self, fpirs: Sequence[float] = (0.01, 0.1), rank: int = 1) -> str:
        """Return JSON text of :meth:`to_dict`."""
        return json_text(self.to_dict(fpirs, rank))

    def table(self, fpirs: Sequence[float] = (0.01, 0.1), rank: int = 1) -> str:
        """Return a table: rates in percent, and thresholds of the similarity."""
        rows = [["FPIR", "TPIR", "threshold"]]
        for fpir in fpirs:
            rate, threshold = self.tpir(fpir, rank), self.threshold(fpir)
            rows.append([f"{100 * fpir:g}", f"{100 * rate:.2f}", f"{threshold:.4f}"])
        return "\n".join([*align(rows), self._note(rank)])

    def __str__(self) -> str:
        """Return one line for people, in percent."""
        rates = [f"TPIR@FPIR {100 * fpir:g} {100 * self.tpir(fpir):.2f}" for fpir in (0.01, 0.1)]
        return f"{'  '.join(rates)}  ({self._note(1)})"

    __repr__ = __str__

    def _note(self, rank: int) -> str:
        return f"rank {rank}, {self.num_mated} mated and {self.num_non_mated} non-mated queries"


@torch.no_grad()
def evaluate_open_set(
    query_embeddings: Float[Tensor, "q d"],
    gallery_embeddings: Float[Tensor, "g d"],
    *,
    query_ids: Ids,
    gallery_ids: Ids,
) -> OpenSetResult:
    """Evaluate open-set identification: TPIR at an FPIR, with queries that are not in the gallery.

    Rank-k and mAP leave out queries whose identity the gallery lacks. In deployment most passers-by
    are of that kind, and the task is to recognise known identities without mistaking others for
    them.

    Args:
        query_embeddings: (Q, D), any scale; compared by cosine.
        gallery_embeddings: (G, D): the enrolled identities, one or more rows each.
        query_ids: Identity of each query: integers or strings; some have to be in the gallery, and
            some must not be.
        gallery_ids: Identity of each gallery row, of the same kind.

    Returns:
        An :class:`OpenSetResult`. Similarities are float32 (a matrix product), in blocks of 16 MB.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or
            infinity (the error names the rows), or all queries or none are mated.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> queries = torch.tensor([[1.0, 0.1], [0.5, 0.6], [-1.0, 0.2]])
        >>> result = evaluate_open_set(queries, gallery, query_ids=[1, 2, 9], gallery_ids=[1, 2])
        >>> result.num_mated, result.num_non_mated, result.tpir(0.0)
        (2, 1, 1.0)

    References:
        Grother and Ngan, Face Recognition Vendor Test: Performance of Face Identification
        Algorithms, NIST IR 8009, 2014. ISO/IEC 19795-1.
    """
    owner = "evaluate_open_set"
    names = ("query_embeddings", "gallery_embeddings")
    sets = check_sets(owner, names, (query_embeddings, gallery_embeddings))
    num_queries, num_gallery = len(sets[0]), len(sets[1])
    space = SimilaritySpace(sets, "cosine")
    codes = encode_ids(owner, (query_ids, gallery_ids), (num_queries, num_gallery))

    is_mated = np.isin(codes[0], codes[1])
    if is_mated.all() or not is_mated.any():
        share = "all" if is_mated.all() else "none"
        raise ValueError(
            f"{owner}: {share} of the {num_queries} queries have their identity in the gallery, "
            "but both kinds are needed. For a closed set use evaluate_reid."
        )

    query_codes, gallery_codes = (torch.from_numpy(side).to(space.rows.device) for side in codes)
    gallery = slice(num_queries, len(space))
    queries_at_once = max(1, _BLOCK // num_gallery)

    nearest, ranks = [], []
    for start in range(0, num_queries, queries_at_once):
        queries = slice(start, min(start + queries_at_once, num_queries))
        nearness = space.nearness(queries, gallery)
        is_own = query_codes[queries, None] == gallery_codes[None]

        # The nearest row of the query's own identity; -inf for a query that is not enrolled.
        nearest_own = torch.where(is_own, nearness, -torch.inf).amax(dim=1)
        is_enrolled = nearest_own > -torch.inf
        nearest.append(torch.where(is_enrolled, nearest_own, nearness.amax(dim=1)))

        # Ties with rows of others count against the query.
        is_above = (nearness >= nearest_own[:, None]) & ~is_own
        ranks.append(is_above.sum(dim=1) + 1)

    similarity = space.cosines(torch.cat(nearest)).cpu().numpy()
    rank = torch.cat(ranks).cpu().numpy()
    non_mated = -np.sort(-similarity[~is_mated])
    return OpenSetResult(similarity[is_mated], rank[is_mated], non_mated)
