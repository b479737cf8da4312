import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit import FrameAttention, pool_tracklets
from clipreid_kit.metrics import tracklet_pooling
from clipreid_kit.metrics.tracklet_pooling import one_of_each

names = st.lists(st.integers(0, 5), min_size=1, max_size=25)


def rows_of(count):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(count))


def by_brute_force(frames, tracklets, pool):
    """The pooled rows, and the first row of each tracklet, one tracklet after the other."""
    first = {}
    for row, tracklet in enumerate(tracklets):
        first.setdefault(tracklet, row)
    pooled = []
    for tracklet in first:
        own = [row for row, other in enumerate(tracklets) if other == tracklet]
        pooled.append(pool(frames[own]))
    return torch.stack(pooled), list(first.values())


@given(names)
def test_means_against_brute_force(tracklets):
    frames = rows_of(len(tracklets))
    pooled = pool_tracklets(frames, tracklets)
    expected, rows = by_brute_force(frames, tracklets, lambda own: own.double().mean(0).float())

    assert torch.equal(pooled.embeddings, expected)
    assert pooled.rows.tolist() == rows


@given(names, st.sampled_from([1, 4, 1000]))
def test_a_module_sees_each_tracklet_in_its_order(tracklets, frames_at_once):
    frames = rows_of(len(tracklets)).double()
    weights = torch.arange(1.0, 30.0).double()

    def pool(batch, valid):
        assert (batch[~valid] == 0).all()
        return (batch * weights[: batch.shape[1], None]).sum(dim=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracklet_pooling, "_FRAMES_AT_ONCE", frames_at_once)
        pooled = pool_tracklets(frames, tracklets, pool)

    expected, _ = by_brute_force(
        frames, tracklets, lambda own: (own * weights[: len(own), None]).sum(0)
    )
    torch.testing.assert_close(pooled.embeddings, expected)


def test_attention_leaves_out_padding():
    attention = FrameAttention(3)
    torch.nn.init.normal_(attention.score.weight)
    frames, tracklets = rows_of(7), ["a", "b", "b", "b", "a", "c", "b"]

    pooled = pool_tracklets(frames, tracklets, attention)
    expected, _ = by_brute_force(frames, tracklets, lambda own: attention(own[None])[0].detach())
    torch.testing.assert_close(pooled.embeddings, expected)


def test_arrays_names_and_no_rows():
    frames = rows_of(3).numpy()
    frames.flags.writeable = False
    assert pool_tracklets(frames, np.array(["a", "b", "a"])).rows.tolist() == [0, 1]

    empty = pool_tracklets(torch.zeros(0, 3), [])
    assert empty.embeddings.shape == (0, 3)
    assert empty.rows.tolist() == []


def test_half_precision_is_summed_in_double():
    frames = torch.full((5000, 1), 1.5, dtype=torch.float16)
    assert pool_tracklets(frames, [0] * 5000).embeddings.tolist() == [[1.5]]


@pytest.mark.unhooked
def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"^pool_tracklets: expected tracklets as 3 ids"):
        pool_tracklets(rows_of(3), [0, 1])
    with pytest.raises(ValueError, match=r"^pool_tracklets: expected embeddings as a floating"):
        pool_tracklets(torch.zeros(3), [0, 1, 2])
    with pytest.raises(ValueError, match=r"^pool_tracklets: expected 1 rows \(n, D\) of pool"):
        pool_tracklets(rows_of(3), [0, 0, 0], lambda frames, _: frames)


def test_columns_of_tracklets():
    assert one_of_each("x", "ids", [5, 7, 5], ["a", "b", "a"]).tolist() == [5, 7]
    with pytest.raises(ValueError, match=r"^x: tracklet 'a' has two ids, 5 and 8 in row 2\."):
        one_of_each("x", "ids", [5, 7, 8], ["a", "b", "a"])
