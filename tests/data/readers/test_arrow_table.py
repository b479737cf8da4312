import json

import pytest
from data.files.test_arrow_cells import encoded, write_arrow

from clipreid_kit.data import (
    ImageRecord,
    check_files,
    image_fingerprint,
    load_image,
    read_csv,
    read_table,
    write_csv,
)

pa = pytest.importorskip("pyarrow")

IDENTITY = {"identity": "label"}


@pytest.fixture
def datasets():
    """The package of Hugging Face, without its progress bars."""
    package = pytest.importorskip("datasets")
    package.disable_progress_bars()
    return package


def pets(datasets, shades=(10, 20, 30, 40)):
    """A data set in memory, with an image column."""
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    cells = [{"bytes": encoded(shade), "path": None} for shade in shades]
    return datasets.Dataset.from_dict({"image": cells, "label": list(shades)}, features=features)


def shade_of(record):
    return load_image(record.path).getpixel((0, 0))[0]


def test_a_file_is_a_table_whose_images_stay_in_it(tmp_path):
    write_arrow(tmp_path / "pets.arrow", (10, 20), camera=[1, 2], weather=["sun", None])
    first, second = read_table(tmp_path / "pets.arrow", columns=IDENTITY)

    assert first == ImageRecord(
        f"{tmp_path}/pets.arrow::image/0", 10, camera=1, extra={"weather": "sun"}
    )
    assert shade_of(second) == 20


def test_an_image_column_is_the_path_if_it_is_the_only_one(tmp_path):
    write_arrow(tmp_path / "pets.arrow", (10,), thumbnail=[encoded(20)])
    with pytest.raises(ValueError, match="has no column 'path'; its columns are 'image'"):
        read_table(tmp_path / "pets.arrow", columns=IDENTITY)

    (record,) = read_table(tmp_path / "pets.arrow", columns={"path": "thumbnail", **IDENTITY})
    assert shade_of(record) == 20
    assert record.extra["image"].endswith("pets.arrow::image/0")


def test_a_column_called_path_is_the_path(tmp_path):
    write_arrow(tmp_path / "pets.arrow", (10,), path=["a.png"])
    (record,) = read_table(tmp_path / "pets.arrow", columns=IDENTITY)
    assert record.path == f"{tmp_path}/a.png"


def test_a_data_set_in_memory_is_saved_and_read(tmp_path, datasets):
    chosen = pets(datasets).select([2, 0, 3])
    chosen.save_to_disk(tmp_path / "pets", num_shards=2)
    records = read_table(tmp_path / "pets", columns=IDENTITY)

    assert [record.identity for record in records] == [30, 10, 40]
    assert [shade_of(record) for record in records] == [30, 10, 40]
    assert {record.split for record in records} == {None}
    check_files(records)

    # A table beside the folder names the same images.
    write_csv(records, tmp_path / "pets.csv", relative_to=tmp_path)
    assert read_csv(tmp_path / "pets.csv") == records


def test_parts_of_a_data_set_are_splits(tmp_path, datasets):
    parts = {
        "train": pets(datasets),
        "validation": pets(datasets, (50,)),
        "test": pets(datasets, (60,)),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "pets")

    records = read_table(tmp_path / "pets", columns=IDENTITY)
    assert [record.split for record in records] == ["train"] * 4 + ["val", "test"]
    assert [shade_of(record) for record in records] == [10, 20, 30, 40, 50, 60]

    # Wherever other paths begin, images are in their files.
    elsewhere = read_table(tmp_path / "pets", columns=IDENTITY, root="elsewhere")
    assert elsewhere == records


def test_a_column_of_splits_is_kept(tmp_path, datasets):
    parts = {"all": pets(datasets, (10, 20)).add_column("split", ["train", "test"])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "pets")
    records = read_table(tmp_path / "pets", columns=IDENTITY)
    assert [record.split for record in records] == ["train", "test"]


def test_image_files_of_a_data_set_are_saved_with_it(tmp_path, datasets):
    (tmp_path / "a.png").write_bytes(encoded(70))
    columns = {"image": [str(tmp_path / "a.png")], "label": [7]}
    of_files = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    of_files.save_to_disk(tmp_path / "pets")
    (tmp_path / "a.png").unlink()

    (record,) = read_table(tmp_path / "pets", columns=IDENTITY)
    assert shade_of(record) == 70


def saved(folder, *names, shades=(10, 20)):
    """A saved data set, written without the package."""
    folder.mkdir()
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    for name, shade in zip(names, shades, strict=False):
        write_arrow(folder / name, (shade,))
    return folder


def test_the_fingerprint_is_of_the_images(tmp_path):
    first = read_table(saved(tmp_path / "a", "0.arrow", "1.arrow"), columns=IDENTITY)
    copy = read_table(saved(tmp_path / "b", "0.arrow", "1.arrow"), columns=IDENTITY)
    other = saved(tmp_path / "c", "0.arrow", "1.arrow", shades=(10, 21))
    assert image_fingerprint(first) == image_fingerprint(copy)
    assert image_fingerprint(first) != image_fingerprint(first[::-1])
    assert image_fingerprint(first) != image_fingerprint(read_table(other, columns=IDENTITY))


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ("{", "cannot read .*state.json"),
        ("[]", "does not list names as '_data_files'"),
        ('{"_data_files": [{"filename": "../a.arrow"}]}', "does not list names"),
        ('{"_data_files": [{"filename": "none.arrow"}]}', "cannot read .*none.arrow as Arrow: Fil"),
        ('{"_data_files": [{"filename": "state.json"}]}', "it is no Arrow file, or its end"),
    ],
)
def test_a_damaged_folder_is_explained(tmp_path, state, problem):
    folder = saved(tmp_path / "pets")
    (folder / "state.json").write_text(state)
    with pytest.raises(ValueError, match=f"read_table: .*{problem}"):
        read_table(folder, columns=IDENTITY)


def test_a_data_set_without_rows_has_no_records(tmp_path):
    assert read_table(saved(tmp_path / "pets"), columns=IDENTITY) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"read_table: there is no file at .*none\.arrow"):
        read_table(tmp_path / "none.arrow")


def test_options_of_separated_cells_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"delimiter is of separated cells, and .* is a folder"):
        read_table(saved(tmp_path / "pets"), delimiter=";")
