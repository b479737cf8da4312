import io
import random

import pytest
from PIL import Image

from clipreid_kit._read_files import UnusableFileError
from clipreid_kit.data import load_image
from clipreid_kit.data.files import arrow_cells
from clipreid_kit.data.files.arrow_cells import ArrowCells, open_arrow

pa = pytest.importorskip("pyarrow")


def encoded(shade):
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write_arrow(file, shades, *, new=pa.ipc.new_stream, options=None, **columns):
    """A table as data sets of Hugging Face are saved, in batches of two rows."""
    images = [{"bytes": encoded(shade), "path": None} for shade in shades]
    table = pa.table({"image": images, "label": list(shades), **columns})
    with new(str(file), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    return file


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file])
def test_cells_of_both_formats(tmp_path, new):
    write_arrow(tmp_path / "a.arrow", (10, 20, 30), new=new)
    for row in (2, 0, 1):
        image = load_image(f"{tmp_path}/a.arrow::image/{row}")
        assert image.getpixel((0, 0))[0] == 10 * (row + 1)

    cells = ArrowCells(str(tmp_path / "a.arrow"))
    assert cells.cell("label", 1) == 20
    with pytest.raises(KeyError):
        cells.cell("label", 3)
    with pytest.raises(KeyError):
        cells.cell("picture", 0)


def test_images_stay_in_the_file(tmp_path):
    before = pa.total_allocated_bytes()
    table = open_arrow(str(write_arrow(tmp_path / "a.arrow", range(50))))
    assert table.num_rows == 50
    assert pa.total_allocated_bytes() - before < 2048  # a PNG has 70 bytes


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    file = write_arrow(tmp_path / "a.arrow", range(50), options=options, text=["a" * 999] * 50)
    assert open_arrow(str(file)).num_rows == 50

    monkeypatch.setattr(arrow_cells, "MAX_BYTES", 10_000)
    with pytest.raises(UnusableFileError, match="it unpacks to more than the limit of 10000 bytes"):
        open_arrow(str(file))


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    file = write_arrow(tmp_path / "a.arrow", (10, 20, 30))
    content = file.read_bytes()
    for length in range(0, len(content), 8):
        file.write_bytes(content[:length])
        with pytest.raises(UnusableFileError, match=r"it is empty|its end is missing"):
            open_arrow(str(file))


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file])
def test_damaged_bytes_are_an_error_or_other_values(tmp_path, new):
    file = write_arrow(tmp_path / "a.arrow", (10, 20, 30), new=new, name=["rex", "bo", None])
    content = file.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        file.write_bytes(damaged)
        try:
            open_arrow(str(file)).to_pylist()
        except (UnusableFileError, pa.ArrowException, ValueError):
            refused += 1
    assert 20 < refused < 150
