"""Open-set identification: find a known identity, and do not find an unknown one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.metrics._engine.identity_matches import Ids, read_ids
from clipreid_kit.metrics._engine.similarity_space import Space, checked_sets
from clipreid_kit.metrics.results.tables import aligned, json_text

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_BLOCK = 1 << 22  # similarities that are looked at together: 16 MB


@dataclass(frozen=True, slots=True, eq=False)
class OpenSetResult:
    """True and false positive identification rates (TPIR, FPIR).

    A query is *mated* if its identity is in the gallery. At a threshold t, FPIR is the share of non-mated queries for
    which any gallery row is more similar than t; TPIR at rank r is the share of mated queries whose most similar row
    of their own identity is more similar than t and among the first r of the gallery.

    Attributes:
        mated_similarity: For each mated query, its similarity to the most similar row of its identity.
        mated_rank: The rank of that row, from 1; a wrong row exactly as similar stands above it.
        non_mated_similarity: For each non-mated query, its largest similarity, descending.

    Example:
        >>> result = OpenSetResult(np.array([0.9, 0.7, 0.5]), np.array([1, 2, 1]), np.array([0.8, 0.6]))
        >>> round(result.tpir(0.0), 3), round(result.tpir(0.5), 3), round(result.tpir(0.5, rank=2), 3)
        (0.333, 0.333, 0.667)
    """

    mated_similarity: FloatArray
    mated_rank: IntArray
    non_mated_similarity: FloatArray

    @property
    def num_mated(self) -> int:
        """Queries whose identity is in the gallery."""
        return len(self.mated_similarity)

    @property
    def num_non_mated(self) -> int:
        """Queries whose identity is not in the gallery."""
        return len(self.non_mated_similarity)

    def threshold(self, fpir: float) -> float:
        """Similarity above which a query is taken for known: the lowest at which FPIR does not exceed ``fpir``.

        It is chosen on the non-mated queries alone: one of their largest similarities, or minus infinity.

        Raises:
            ValueError: If ``fpir`` is not in [0, 1].
        """
        if not 0 <= fpir <= 1:
            raise fail("OpenSetResult.threshold", "fpir in [0, 1]", fpir)
        # a share such as 0.29 of 100 is a float below 29: half a unit in the last place is given back
        allowed = int(np.floor(fpir * self.num_non_mated * (1 + 2.0**-52)))
        return (
            float(self.non_mated_similarity[allowed]) if allowed < self.num_non_mated else -np.inf
        )

    def tpir(self, fpir: float, rank: int = 1) -> float:
        """True positive identification rate where at most ``fpir`` of the non-mated queries are taken for known.

        Args:
            fpir: From 0 to 1. Below 1 / (non-mated queries) none of them may be.
            rank: First ranks in which the right identity has to be.

        Raises:
            ValueError: If ``fpir`` is not in [0, 1] or ``rank`` is below 1.
        """
        check_integer("OpenSetResult.tpir", "rank", rank, 1)
        accepted = (self.mated_similarity > self.threshold(fpir)) & (self.mated_rank <= rank)
        return int(accepted.sum()) / self.num_mated

    def to_dict(
        self, fpirs: Sequence[float] = (0.01, 0.1), rank: int = 1
    ) -> dict[str, float | int]:
        """Plain numbers for a JSON file; rates as fractions."""
        return {
            **{f"tpir_at_fpir_{fpir:g}": self.tpir(fpir, rank) for fpir in fpirs},
            "rank": rank,
            "num_mated": self.num_mated,
            "num_non_mated": self.num_non_mated,
        }

    def to_json(self, fpirs: Sequence[float] = (0.01, 0.1), rank: int = 1) -> str:
        """JSON text of :meth:`to_dict`."""
        return json_text(self.to_dict(fpirs, rank))

    def table(self, fpirs: Sequence[float] = (0.01, 0.1), rank: int = 1) -> str:
        """A table for people: rates in percent, and the similarity above which a query is taken for known."""
        rows = [["FPIR", "TPIR", "threshold"]]
        rows += [
            [f"{100 * x:g}", f"{100 * self.tpir(x, rank):.2f}", f"{self.threshold(x):.4f}"]
            for x in fpirs
        ]
        return "\n".join([*aligned(rows), self._note(rank)])

    def __str__(self) -> str:
        """One line for people, in percent."""
        rates = "  ".join(
            f"TPIR@FPIR {100 * fpir:g} {100 * self.tpir(fpir):.2f}" for fpir in (0.01, 0.1)
        )
        return f"{rates}  ({self._note(1)})"

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

    Rank-k and mAP leave out queries whose identity the gallery lacks. In use most passers-by are of that kind, and
    what counts is to recognise the known ones without mistaking the others for them.

    Args:
        query_embeddings: (Q, D), any scale; compared by cosine.
        gallery_embeddings: (G, D): the enrolled identities, one or more rows each.
        query_ids: Identity of each query: integers or strings; both kinds of queries have to be there.
        gallery_ids: Identity of each gallery row, of the same kind.

    Returns:
        An :class:`OpenSetResult`. Similarities are float32 (a matrix product), in blocks of 16 MB.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or infinity (rows
            named), or all queries or none are mated.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> queries = torch.tensor([[1.0, 0.1], [0.5, 0.6], [-1.0, 0.2]])
        >>> result = evaluate_open_set(queries, gallery, query_ids=[1, 2, 9], gallery_ids=[1, 2])
        >>> result.num_mated, result.num_non_mated, result.tpir(0.0)
        (2, 1, 1.0)

    References:
        Grother and Ngan, Face Recognition Vendor Test: Performance of Face Identification Algorithms, NIST IR 8009,
        2014. ISO/IEC 19795-1.
    """
    owner = "evaluate_open_set"
    sets = checked_sets(
        owner, ("query_embeddings", "gallery_embeddings"), (query_embeddings, gallery_embeddings)
    )
    space = Space(sets, "cosine")
    num_queries, num_gallery = len(sets[0]), len(sets[1])
    codes = read_ids(owner, (query_ids, gallery_ids), (num_queries, num_gallery))
    mated = np.isin(codes[0], codes[1])
    if mated.all() or not mated.any():
        raise fail(
            owner,
            "queries with and without their identity in the gallery",
            f"{int(mated.sum())} of {num_queries} with it",
            "For a closed set use evaluate_reid.",
        )
    queries, gallery = (torch.from_numpy(side).to(space.rows.device) for side in codes)
    nearest, ranks = [], []
    step = max(1, _BLOCK // num_gallery)
    for start in range(0, num_queries, step):
        part = slice(start, min(start + step, num_queries))
        block = space.nearness(part, slice(num_queries, len(space)))
        own = queries[part, None] == gallery[None]
        best = torch.where(own, block, -torch.inf).amax(dim=1)
        nearest.append(torch.where(best > -torch.inf, best, block.amax(dim=1)))
        ranks.append(((block >= best[:, None]) & ~own).sum(dim=1) + 1)
    similarity, rank = torch.cat(nearest).double().cpu().numpy(), torch.cat(ranks).cpu().numpy()
    return OpenSetResult(similarity[mated], rank[mated], -np.sort(-similarity[~mated]))
