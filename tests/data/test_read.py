import inspect

import pytest
from PIL import Image

from clipreid_kit import data
from clipreid_kit.data import dataset_names, read_dataset, read_folder, write_table


def test_every_reader_of_a_data_set_has_a_name():
    others = {"csv", "dataset", "descriptions", "image_paths", "image_splits", "split", "texts"}  # of other things
    readers = {name.removeprefix("read_") for name in data.__all__ if name.startswith("read_")}
    assert set(dataset_names()) == readers - others
    for name in dataset_names():
        assert next(iter(inspect.signature(getattr(data, f"read_{name}")).parameters)) in ("path", "root")


def test_is_the_reader_of_that_name(tmp_path):
    for name in ("train/rex/1_c1.png", "train/tom/2_c2.png", "query/max/3_c1.png"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file)
    options = {"splits": ("train", "query"), "camera_pattern": r"_c(?P<camera>\d)"}
    records = read_dataset("folder", tmp_path, **options)
    assert records == read_folder(tmp_path, **options)
    assert len(records) == 3
    write_table(records, tmp_path / "records.csv")
    assert [r.identity for r in read_dataset("table", tmp_path / "records.csv")] == [r.identity for r in records]


def test_what_is_not_known_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"read_dataset: expected one of annotations, .* Did you mean market1501\?"):
        read_dataset("market1510", tmp_path)
    with pytest.raises(ValueError, match=r"read_dataset\('inshop'\): expected options of counts, got 'splits'"):
        read_dataset("inshop", tmp_path, splits=["train"])
    with pytest.raises(
        ValueError, match=r"read_dataset\('cuhk03'\): expected the option boxes, got none. See read_cuh"
    ):
        read_dataset("cuhk03", tmp_path)
