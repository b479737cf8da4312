"""What the filters offer for each kind of column."""

import numpy as np

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex
from clipreid_kit.retrieval.page.column_choices import MAX_CHOICES, column_choices


def test_choices_ranges_and_texts(tmp_path):
    count = MAX_CHOICES + 1
    records = [
        ImageRecord(
            f"{n}.jpg",
            f"id {n}",
            camera=(10, 9, "a")[n % 3],
            caption="text",
            extra={"frame": str(n), "weather": "rain"} if n % 2 else {"frame": str(n)},
        )
        for n in range(count)
    ]
    rows = np.ones((count, 4), dtype=np.float32)
    index = GalleryIndex.build(rows, records, store=tmp_path / "i")
    found = {column.pop("name"): column for column in column_choices(index)}

    assert list(found) == ["identity", "camera", "frame", "weather"]
    assert found["identity"] == {"kind": "text"}
    assert [choice["value"] for choice in found["camera"]["choices"]] == [9, 10, "a"]
    assert found["frame"] == {"kind": "range", "low": 0, "high": MAX_CHOICES}
    assert found["weather"]["choices"] == [{"value": "rain", "count": count // 2}]


def test_an_index_without_records(tmp_path):
    index = GalleryIndex.build(np.eye(3, dtype=np.float32), store=tmp_path / "i")
    assert column_choices(index) == []
