import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit import TrackletProtocol

tracklets_of = st.lists(
    st.tuples(st.integers(-1, 3), st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=8
)


def frames_of(tracklets, seed):
    """Embeddings, tracklets, ids and cameras of the frames of tracklets (id, camera, length)."""
    generator = torch.Generator().manual_seed(seed)
    rows = [
        (number, identity, camera)
        for number, (identity, camera, length) in enumerate(tracklets)
        for _ in range(length)
    ]
    order = torch.randperm(len(rows), generator=generator).tolist()
    embeddings = torch.randn(len(rows), 3, generator=generator, dtype=torch.float64)
    columns = [list(column) for column in zip(*[rows[i] for i in order], strict=True)]
    return embeddings, *columns


def pooled(embeddings, tracklets, ids, cameras):
    """A row (mean, id, camera) of each tracklet, in the order in which they occur."""
    found = []
    for tracklet in dict.fromkeys(tracklets):
        own = [row for row, other in enumerate(tracklets) if other == tracklet]
        mean = sum(embeddings[row] for row in own) / len(own)
        found.append((mean, ids[own[0]], cameras[own[0]]))
    return found


def brute_force(query, gallery, *, by_camera):
    """Average precision and first rank of each query; None without a match."""
    found = []
    for mean, identity, camera in query:
        kept = []
        for other, other_identity, other_camera in gallery:
            if by_camera and other_identity == -1:
                continue
            if by_camera and (other_identity, other_camera) == (identity, camera):
                continue
            similarity = torch.cosine_similarity(mean, other, dim=0).item()
            kept.append((-similarity, other_identity == identity))

        kept.sort()
        hits = [rank for rank, (_, is_match) in enumerate(kept, start=1) if is_match]
        if not hits:
            found.append(None)
            continue
        precision = sum((n + 1) / rank for n, rank in enumerate(hits)) / len(hits)
        found.append((precision, hits[0]))
    return found


@given(tracklets_of, tracklets_of, st.booleans())
def test_against_brute_force(query, gallery, by_camera):
    q, g = frames_of(query, 1), frames_of(gallery, 2)
    expected = brute_force(pooled(*q), pooled(*g), by_camera=by_camera)
    valid = [row for row in expected if row is not None]
    if not valid:
        return

    cameras = {"query_cameras": q[3], "gallery_cameras": g[3]} if by_camera else {}
    result = TrackletProtocol().evaluate(
        q[0],
        g[0],
        query_tracklets=q[1],
        gallery_tracklets=g[1],
        query_ids=q[2],
        gallery_ids=g[2],
        **cameras,
    )
    assert result.num_queries == len(query)
    assert result.num_valid_queries == len(valid)
    assert result.mean_ap == pytest.approx(sum(ap for ap, _ in valid) / len(valid))
    assert result.rank(1) == pytest.approx(sum(rank == 1 for _, rank in valid) / len(valid))


def columns(**changes):
    return {
        "query_tracklets": [0, 0],
        "gallery_tracklets": ["a", "b"],
        "query_ids": [1, 1],
        "gallery_ids": [1, 2],
        "query_cameras": [1, 1],
        "gallery_cameras": [2, 2],
    } | changes


def test_a_pooling_takes_the_place_of_the_mean():
    query, gallery = torch.eye(2), torch.tensor([[1.0, 0.1], [0.1, 1.0]])
    last = TrackletProtocol(pool=lambda frames, _: frames[:, -1])
    assert last.evaluate(query, gallery, **columns()).rank(1) == 0
    first = TrackletProtocol(pool=lambda frames, _: frames[:, 0])
    assert first.evaluate(query, gallery, **columns()).rank(1) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_ids": [1, 2]}, "tracklet 0 has two query_ids, 1 and 2 in row 1"),
        ({"gallery_tracklets": [5, 5]}, "tracklet 5 has two gallery_ids, 1 and 2 in row 1"),
        ({"query_cameras": [1, 2]}, "tracklet 0 has two query_cameras, 1 and 2 in row 1"),
        ({"query_cameras": None}, "cameras are given for one side alone"),
    ],
)
def test_tracklets_that_are_none(changes, message):
    with pytest.raises(ValueError, match=f"^TrackletProtocol: {message}"):
        TrackletProtocol().evaluate(torch.eye(2), torch.eye(2), **columns(**changes))
