import datetime as dt

import numpy as np
import pytest

from clipreid_kit.clip.checkpoints.json_check import check_json


@pytest.mark.parametrize(
    "value", [{}, {"a": [1, 2.5, None, True, "x", {"b": (1, 2)}]}, {1: "a"}, np.float64(3)]
)
def test_json_passes(value):
    check_json("owner", "extra", value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"when": dt.datetime(2026, 1, 1)}, '`extra["when"]` is a datetime.'),  # noqa: DTZ001
        ({"ids": [1, {2}]}, '`extra["ids"][1]` is a set.'),
        ({"a": {"b": np.int64(3)}}, '`extra["a"]["b"]` is an int64.'),
        ({"loss": float("nan")}, '`extra["loss"]` is nan.'),
        ({"bound": float("inf")}, '`extra["bound"]` is inf.'),
        ({(1, 2): 3}, "`extra` has a key of type tuple."),
    ],
)
def test_the_first_obstacle_is_named(value, reason):
    with pytest.raises(ValueError, match="must be JSON-serialisable") as error:
        check_json("save_towers", "extra", value)
    assert str(error.value) == f"save_towers: `extra` must be JSON-serialisable; {reason}"
    assert error.value.__suppress_context__


def test_a_circle_is_named():
    value = {"parts": []}
    value["parts"].append(value)
    with pytest.raises(ValueError, match=r'`extra\["parts"\]\[0\]` contains itself'):
        check_json("save_towers", "extra", value)
