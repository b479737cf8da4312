from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers._frame_choice import consecutive_frames, segment_frames
from clipreid_kit.samplers._random import seeded_generator

counts = st.lists(st.integers(1, 40), min_size=1, max_size=20).map(np.array)


@given(counts, st.integers(1, 12), st.integers(0, 5))
def test_one_frame_of_each_segment(count, num_frames, seed):
    places = segment_frames(count, num_frames, seeded_generator(seed))

    for n, row in zip(count.tolist(), places.tolist(), strict=True):
        for i, place in enumerate(row):
            begin, end = i * n // num_frames, (i + 1) * n // num_frames
            assert begin <= place < max(end, begin + 1)
        if n < num_frames:  # each as often as any other, give or take one
            times = Counter(row)
            assert len(times) == n
            assert max(times.values()) - min(times.values()) <= 1


@given(counts, st.integers(1, 12), st.integers(1, 5), st.integers(0, 5))
def test_consecutive_frames_follow_at_the_stride_that_fits(count, num_frames, stride, seed):
    places = consecutive_frames(count, num_frames, stride, seeded_generator(seed))

    for n, row in zip(count.tolist(), places.tolist(), strict=True):
        assert row[0] >= 0
        assert row[-1] < n
        if n < num_frames:
            assert row == [i * n // num_frames for i in range(num_frames)]
        elif num_frames > 1:
            distance = min(stride, (n - 1) // (num_frames - 1))
            assert np.diff(row).tolist() == [distance] * (num_frames - 1)


def test_every_frame_is_drawn():
    count = np.full(2000, 7)
    rng = seeded_generator(1)
    assert set(segment_frames(count, 3, rng).ravel().tolist()) == set(range(7))

    starts = Counter(consecutive_frames(count, 3, 2, rng)[:, 0].tolist())
    assert set(starts) == {0, 1, 2}
    assert min(starts.values()) > 500
