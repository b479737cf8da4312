import numpy as np
import pytest

from clipreid_kit.metrics._engine.id_columns import encode_ids, id_array


def test_large_integers_of_two_types_are_not_compared_as_floats():
    ids = np.array([2**62, 2**62 + 1], dtype=np.uint64)
    first, second = encode_ids("owner", (ids.astype(np.int64), ids), (2, 2))
    assert first.tolist() == second.tolist() == [0, 1]


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.0], "ids as integers or strings, got float64"),
        (["a", 1], "ids mixes integers and strings"),
        ([[1, 2]], r"ids as 2 ids, one for each row, got shape \(1, 2\)"),
    ],
)
def test_bad_ids(values, message):
    with pytest.raises(ValueError, match=message):
        id_array("owner", "ids", values, 2)

    assert id_array("owner", "ids", np.array(["a", "b"], dtype=object), 2).dtype.kind == "U"


def test_errors_use_the_callers_names_of_the_sides():
    with pytest.raises(
        ValueError, match="shop_ids are strings and street_ids are integers, so they never match"
    ):
        encode_ids("owner", (["7"], [7]), (1, 1), ("shop", "street"))


def test_ids_are_numbered_alike_on_both_sides():
    first, second = encode_ids("owner", (["b", "a"], ["a", "c", "b"]), (2, 3))
    assert first.tolist() == [1, 0]
    assert second.tolist() == [0, 2, 1]
