import math
from collections import Counter

import pytest
import split_records
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import split_images


@given(
    sizes=split_records.sizes,
    seed=st.integers(0, 99),
    fraction=st.sampled_from([0.2, 0.25, 0.5]),
)
def test_images_are_taken_in_proportion_and_every_identity_stays(sizes, seed, fraction):
    sizes = [*sizes, 2]
    manifest = split_images(split_records.records_of_sizes(sizes), fraction=fraction, seed=seed)
    taken = Counter(split_records.identity_of(key) for key in manifest.splits["val"])

    num_with_pairs = sum(size for size in sizes if size > 1)
    assert taken.total() == math.ceil(num_with_pairs * fraction)

    for identity, size in enumerate(sizes):
        assert taken[identity] < size
        assert abs(taken[identity] - fraction * size) <= 1.0


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"fraction": 0.0}, r"fraction in \(0, 1\), got 0\.0"),
        ({"fraction": "0.2"}, r"fraction as a number, got '0\.2'"),
        ({"seed": 2**32}, r"seed below 2\*\*32"),
        ({"seed": -1}, "seed as a whole number >= 0"),
    ],
)
def test_options_out_of_range_are_refused(options, problem):
    with pytest.raises(ValueError, match=f"split_images: expected {problem}"):
        split_images(split_records.records_of_sizes([3]), **options)


def test_single_images_cannot_be_split():
    text = "every identity has a single image, so none can be split into train and val"

    with pytest.raises(ValueError, match=f"split_images: {text}"):
        split_images(split_records.records_of_sizes([1, 1]))
