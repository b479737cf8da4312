import io

import pytest
from PIL import Image

from clipreid_kit.data import (
    ImageRecord,
    check_files,
    load_image,
    read_table,
    validate_records,
    write_table,
)

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def encoded(shade):
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write(folder, shades=(10, 20, 30, 40, 50), *, structs=True, **columns):
    """A table as data sets of Hugging Face are stored, in groups of two rows."""
    cells = [encoded(shade) for shade in shades]
    images = [{"bytes": cell, "path": f"{n}.png"} for n, cell in enumerate(cells)]
    table = {"image": images if structs else cells, "label": list(range(len(cells))), **columns}
    parquet.write_table(pa.table(table), folder / "train.parquet", row_group_size=2)
    return folder / "train.parquet"


COLUMNS = {"path": "image", "identity": "label"}


@pytest.mark.parametrize("structs", [True, False])
def test_cells_are_images(tmp_path, structs):
    records = read_table(write(tmp_path, structs=structs), columns=COLUMNS)
    assert records[3] == ImageRecord(f"{tmp_path}/train.parquet::image/3", 3)
    check_files(records)
    for order in (range(5), (4, 0, 3, 1, 2)):
        assert [load_image(records[n].path).getpixel((0, 0))[0] for n in order] == [
            10 * (n + 1) for n in order
        ]


def test_other_columns_are_as_usual(tmp_path):
    columns = {"camera": [1, 1, 2, 2, 3], "weather": ["sun", "rain", None, "fog", "sun"]}
    records = read_table(write(tmp_path, **columns), columns=COLUMNS, root="elsewhere")
    assert [record.camera for record in records] == [1, 1, 2, 2, 3]
    assert records[1].extra == {"weather": "rain"}
    assert load_image(records[1].path).size == (8, 6)


def test_equal_cells_are_equal_images_and_boxes_are_parts(tmp_path):
    box = ["0,0,4,4", "0,0,4,4", "1,0,4,4", None, "4,4,9,9"]
    records = read_table(write(tmp_path, (7, 7, 7, 8, 9), box=box), columns=COLUMNS)
    assert load_image(records[4].path).size == (4, 2)
    report = validate_records(records, on_error="report")
    assert report.counts["conflict"] == 1  # the first two: the third is another part


def test_records_of_cells_are_written_and_read(tmp_path):
    records = read_table(write(tmp_path), columns=COLUMNS)
    write_table(records, tmp_path / "images.csv", relative_to=tmp_path)
    assert read_table(tmp_path / "images.csv") == records


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("train.parquet::image/5", "the table has no such member"),
        ("train.parquet::picture/0", "the table has no such member"),
        ("train.parquet::image", "the table has no such member"),
        ("train.parquet::label/0", "the cell holds no bytes of an image"),
        ("none.parquet::image/0", "there is no archive"),
        ("damaged.parquet::image/0", "cannot read .*damaged"),
    ],
)
def test_what_is_no_cell_is_explained(tmp_path, path, problem):
    write(tmp_path)
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=f"load_image: .*{problem}"):
        load_image(f"{tmp_path}/{path}")
