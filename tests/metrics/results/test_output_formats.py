import json

import numpy as np

from clipreid_kit.metrics.results._output_formats import (
    align,
    json_text,
    measure_table,
    write_columns,
)
from clipreid_kit.metrics.results.bootstrap import ConfidenceInterval


def test_table_with_and_without_intervals():
    rates = {"Rank-1": 1.0, "mAP": 0.12345}
    assert (
        measure_table(rates, [], 0.95, "note")
        == "        percent\nRank-1   100.00\nmAP       12.35\nnote"
    )

    intervals = [ConfidenceInterval(1, 1, 1), ConfidenceInterval(0.1, 0.05, 0.2)]
    lines = measure_table(rates, intervals, 0.9, "note").splitlines()

    assert lines[0].endswith("90 % interval")
    assert lines[2].endswith("5.00 to 20.00")
    assert len({len(line) for line in lines[:3]}) == 1


def test_columns_are_align():
    assert align([["a", "b"], ["long", "1.5"]]) == ["a       b", "long  1.5"]


def test_json_has_no_nan_and_keeps_every_bit():
    values = {
        "a": np.nan,
        "b": [1.0, np.inf],
        "c": {"d": np.array([0.1, np.nan])},
        "e": 1 / 3,
        "f": "ä",
    }
    text = json_text(values)

    assert json.loads(text) == {
        "a": None,
        "b": [1.0, None],
        "c": {"d": [0.1, None]},
        "e": 1 / 3,
        "f": "ä",
    }
    assert "ä" in text


def test_csv(tmp_path):
    path = tmp_path / "table.csv"
    write_columns(
        path,
        {"id": np.array(['a,"b"', "c"]), "x": np.array([1 / 3, np.nan]), "n": np.array([1, 2])},
    )

    assert path.read_text() == 'id,x,n\n"a,""b""",0.3333333333333333,1\nc,,2\n'
