"""The protocol of SYSU-MM01: infrared queries, and galleries drawn from visible cameras."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.id_columns import Ids, encode_array, id_array
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._drawn_shots import draw_shots, evaluate_shots, read_sides
from clipreid_kit.metrics.protocols._evaluate_sides import check_cameras, check_protocol_options
from clipreid_kit.metrics.protocols._query_groups import QueryGroup
from clipreid_kit.metrics.protocols._random_draws import check_draws
from clipreid_kit.metrics.results.split_results import SplitResults

IntArray = npt.NDArray[np.int64]
Permutations = Mapping[tuple[int | str, int], IntArray]

_OWNER = "SysuMM01Protocol"
_INFRARED = (3, 6)
_VISIBLE = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
_SAME_ROOM = (3, 2)  # queries of the first skip gallery images of the second


@dataclass(frozen=True, slots=True)
class SysuMM01Protocol:
    """Infrared queries against visible images: SYSU-MM01, all-search and indoor-search.

    The rule: every image of the infrared cameras 3 and 6 is a query. The gallery holds images of
    the visible cameras 1, 2, 4 and 5, or of the indoor cameras 1 and 2: for each identity and
    camera one drawn image (single-shot) or ten (multi-shot; all where there are fewer). Cameras 2
    and 3 are in one room, so queries of camera 3 skip *all* images of camera 2, also those of other
    identities. The result holds mean and spread over ten draws.

    Rank-k counts identities, as in the authors' evaluation: several images of one wrong identity
    above the match count once. AP and INP count images.

    Args:
        search: Gallery of ``"all"`` visible cameras, or of the ``"indoor"`` ones.
        num_shots: Drawn images of each identity and camera: 1 or 10 in the papers.
        num_splits: Number of galleries that are drawn.
        seed: Seed of a separate generator. The draws depend on the seed and on the order of the
            rows.
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.

    Example:
        >>> import torch
        >>> gallery = torch.tensor([[1.0, 0.1], [1.0, 0.3], [0.5, 1.0], [0.0, 1.0]])
        >>> results = SysuMM01Protocol(num_splits=2).evaluate(
        ...     torch.tensor([[1.0, 0.0]]), gallery, query_ids=[7], gallery_ids=[7, 3, 7, 3],
        ...     query_cameras=[3], gallery_cameras=[2, 1, 1, 4])
        >>> # the nearest image is by camera 2, in the room of camera 3; 3 comes before 7
        >>> results.rank(1), results.rank(2), results.results[0].num_gallery
        (0.0, 1.0, 3)

    References:
        Wu et al., RGB-Infrared Cross-Modality Person Re-Identification, ICCV 2017, section 3, and
        the evaluation code of its authors.
    """

    search: Literal["all", "indoor"] = "all"
    num_shots: int = 1
    num_splits: int = 10
    seed: int = 0
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50

    def __post_init__(self) -> None:
        check_choice(_OWNER, "search", self.search, ("all", "indoor"))
        check_integer(_OWNER, "num_shots", self.num_shots, 1)
        check_draws(_OWNER, self.num_splits, self.seed)
        check_protocol_options(_OWNER, self.distance, self.ties, self.max_rank, None)

    def draws(
        self, gallery_ids: Ids, gallery_cameras: Ids, *, permutations: Permutations | None = None
    ) -> Iterator[IntArray]:
        """Draw the galleries, to store them in a file or use them elsewhere.

        Args:
            gallery_ids: Identity of each gallery row.
            gallery_cameras: Camera of each gallery row, from 1 to 6.
            permutations: The fixed draws of the set, as :func:`read_sysu_permutations` reads them:
                for each (identity, camera) a matrix (trials, images) of the numbers of its rows,
                from 0, in the order of the rows. ``None`` draws by the seed.

        Yields:
            Ascending rows of the gallery.

        Raises:
            ValueError: If a camera is none of 1 to 6, or the permutations lack an identity, a trial
                or an image.
        """
        ids = id_array(_OWNER, "gallery_ids", gallery_ids, len(gallery_ids))
        cameras = _camera_numbers("gallery_cameras", gallery_cameras, len(ids))
        rows = np.flatnonzero(np.isin(cameras, _VISIBLE[self.search]))
        if permutations is None:
            codes = encode_array(ids)[rows]
            draws = draw_shots(codes, cameras[rows], self.num_shots, self.num_splits, self.seed)
            for drawn in draws:
                yield rows[drawn]
            return

        for trial in range(self.num_splits):
            yield _fixed_draw(ids, cameras, rows, permutations, trial, self.num_shots)

    def evaluate(
        self,
        query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
        gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
        *,
        query_ids: Ids,
        gallery_ids: Ids,
        query_cameras: Ids,
        gallery_cameras: Ids,
        permutations: Permutations | None = None,
    ) -> SplitResults:
        """Evaluate embeddings of all infrared queries and of all visible images.

        Args:
            query_embeddings: (Q, D), any scale.
            gallery_embeddings: (G, D): all visible images, of which galleries are drawn.
            query_ids: Identity of each query.
            gallery_ids: Identity of each gallery row.
            query_cameras: 3 or 6 for each query, as numbers or strings.
            gallery_cameras: 1, 2, 4 or 5 for each gallery row.
            permutations: See :meth:`draws`.

        Raises:
            ValueError: If a camera is of the wrong side, or no query has a match, and as
                :func:`evaluate_reid` and :meth:`draws`.
        """
        check_cameras(_OWNER, query_cameras, gallery_cameras, "They decide what a query skips.")
        sides = read_sides(_OWNER, (query_embeddings, gallery_embeddings), (query_ids, gallery_ids))
        of_queries = _camera_numbers("query_cameras", query_cameras, len(sides.queries))
        of_gallery = _camera_numbers("gallery_cameras", gallery_cameras, len(sides.gallery))
        _check_side("query_cameras", of_queries, _INFRARED)
        _check_side("gallery_cameras", of_gallery, _VISIBLE["all"])

        galleries = self.draws(gallery_ids, gallery_cameras, permutations=permutations)
        draws = [_groups(of_queries, of_gallery, rows) for rows in galleries]
        results = evaluate_shots(_OWNER, sides, draws, self)
        return SplitResults(tuple(results), self._name(fixed=permutations is not None))

    def _name(self, *, fixed: bool) -> str:
        shots = "single-shot" if self.num_shots == 1 else f"{self.num_shots}-shot"
        source = "fixed draws" if fixed else f"draws (seed {self.seed})"
        return f"SYSU-MM01 {self.search}-search {shots}, {self.num_splits} {source}"


def _groups(of_queries: IntArray, of_gallery: IntArray, rows: IntArray) -> list[QueryGroup]:
    """The queries of each camera, and what they rank of a drawn gallery."""
    groups = []
    for camera in np.unique(of_queries).tolist():
        ranked = rows
        if camera == _SAME_ROOM[0]:
            ranked = rows[of_gallery[rows] != _SAME_ROOM[1]]
        groups.append(QueryGroup(np.flatnonzero(of_queries == camera), ranked))
    return groups


def _camera_numbers(name: str, cameras: Ids, length: int) -> IntArray:
    """Cameras as numbers from 1 to 6."""
    array = id_array(_OWNER, name, cameras, length).astype(str)
    for camera in np.unique(array).tolist():
        if camera not in ("1", "2", "3", "4", "5", "6"):
            raise fail(_OWNER, f"{name} from 1 to 6, as SYSU-MM01 numbers them", repr(camera))
    return array.astype(np.int64)


def _check_side(name: str, cameras: IntArray, allowed: tuple[int, ...]) -> None:
    """Require cameras of one modality."""
    others = sorted(set(cameras.tolist()) - set(allowed))
    if others:
        kind = "infrared" if allowed == _INFRARED else "visible"
        raise ValueError(
            f"{_OWNER}: {name} has camera {others[0]}; the {kind} cameras are "
            f"{', '.join(map(str, allowed))}. Pass infrared images as queries, and visible ones as "
            "the gallery."
        )


def _fixed_draw(
    ids: npt.NDArray[np.generic],
    cameras: IntArray,
    rows: IntArray,
    permutations: Permutations,
    trial: int,
    num_shots: int,
) -> IntArray:
    """The gallery of one trial by the permutations of the set."""
    rows_of: dict[tuple[int | str, int], list[int]] = {}
    for row in rows.tolist():
        key = (ids[row].item(), int(cameras[row]))
        rows_of.setdefault(key, []).append(row)

    drawn: list[int] = []
    for (identity, camera), images in rows_of.items():
        permutation = permutations.get((identity, camera))
        if permutation is None or trial >= len(permutation):
            raise ValueError(
                f"{_OWNER}: permutations has no trial {trial + 1} of identity {identity} and "
                f"camera {camera}. Leave it out to draw by the seed."
            )

        numbers = permutation[trial, :num_shots].tolist()
        if max(numbers, default=0) >= len(images):
            raise ValueError(
                f"{_OWNER}: permutations names image {max(numbers) + 1} of identity {identity} and "
                f"camera {camera}, but there are only {len(images)}. Pass all images of the set."
            )
        drawn += [images[number] for number in numbers]

    return np.sort(np.array(drawn, dtype=np.int64))
