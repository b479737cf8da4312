import json
import zipfile

import pytest

from clipreid_kit.data import (
    ImageRecord,
    PromptTable,
    SplitManifest,
    write_annotations,
    write_csv,
    write_split,
    write_table,
)

MANIFEST = SplitManifest("photos", "by hand", None, {"train": ("a.jpg",)}, "")


def image_named(folder, name):
    path = folder / name
    path.write_bytes(b"pixels")
    return path


def write_any(writer, records, path):
    if writer == "csv":
        write_csv(records, path)
    elif writer == "annotations":
        write_annotations(records, path)
    else:
        write_table(records, path)


@pytest.mark.parametrize(
    ("writer", "name"),
    [
        ("csv", "a.csv"),
        ("table", "a.csv"),
        ("table", "a.json"),
        ("table", "a.jsonl"),
        ("table", "a.parquet"),
        ("annotations", "a.json"),
    ],
)
def test_a_table_does_not_replace_an_image_that_it_names(tmp_path, writer, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    image = image_named(tmp_path, name)
    record = ImageRecord(str(image), 1, caption="a coat")

    with pytest.raises(ValueError, match=r"^write_\w+: .* is the file of an image of the records"):
        write_any(writer, [record], image)
    assert image.read_bytes() == b"pixels"


def test_a_link_to_an_image_is_not_written_through(tmp_path):
    image = image_named(tmp_path, "a.jpg")
    (tmp_path / "table.csv").symlink_to(image)

    with pytest.raises(ValueError, match=r"write_csv: .*table\.csv has the name of an image"):
        write_csv([ImageRecord(str(image), 1)], tmp_path / "table.csv")
    assert image.read_bytes() == b"pixels"


def test_the_archive_of_the_images_is_not_replaced(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.jpg", "pixels")

    with pytest.raises(ValueError, match="has the name of an image or archive"):
        write_csv([ImageRecord(f"{archive}::a.jpg", 1)], archive)
    assert zipfile.is_zipfile(archive)


@pytest.mark.parametrize("name", ["a.jpg", "a.PNG"])
def test_a_manifest_and_prompts_do_not_take_the_name_of_an_image(tmp_path, name):
    image = image_named(tmp_path, name)
    prompts = PromptTable({"1": "a coat"})

    with pytest.raises(ValueError, match=r"^write_split: .* has the name of an image"):
        write_split(MANIFEST, image)
    with pytest.raises(ValueError, match="has the name of an image"):
        prompts.write(image)
    assert image.read_bytes() == b"pixels"


def test_a_table_beside_its_images_is_replaced(tmp_path):
    image = image_named(tmp_path, "a.jpg")
    table = tmp_path / "a.json"
    table.write_text("old")

    write_table([ImageRecord(str(image), 1)], table)
    assert json.loads(table.read_text())[0]["identity"] == 1
