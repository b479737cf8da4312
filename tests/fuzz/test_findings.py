"""Inputs that the fuzz found, and that are mended."""

import json
import struct
import zipfile

import pytest
from fuzz.doors import packed, parquet_seeds, result_seeds, zip_members

from clipreid_kit import ReidResult
from clipreid_kit.clip import read_card, read_weights
from clipreid_kit.data import read_captioned_folder, read_folder, read_table
from clipreid_kit.data.fashion import read_image_paths
from clipreid_kit.evaluate import main as evaluate

pytestmark = pytest.mark.unhooked


def zip_of_version(version):
    """An archive whose directory asks for a version of zip that nobody reads."""
    content = bytearray(packed(zip_members()))
    start = content.find(b"PK\x01\x02")
    content[start + 6 : start + 8] = struct.pack("<H", version)
    return bytes(content)


def test_an_archive_of_an_unknown_version(tmp_path, capsys):
    (tmp_path / "a.zip").write_bytes(zip_of_version(127))
    with pytest.raises(ValueError, match=r"a\.zip.*zip file version 12\.7"):
        read_folder(tmp_path / "a.zip")

    (tmp_path / "a.npz").write_bytes(zip_of_version(127))
    assert evaluate([str(tmp_path / "a.npz")]) == 1
    assert "zip file version 12.7" in capsys.readouterr().err


def test_a_damaged_caption_of_an_lzma_archive(tmp_path):
    content = bytearray(packed(zip_members(), zipfile.ZIP_LZMA))
    name = b"dogs/rex/rex_c1_0.txt"
    start = content.find(name) + len(name)
    content[start + 12 : start + 20] = b"\xff" * 8
    (tmp_path / "a.zip").write_bytes(content)

    with pytest.raises(ValueError, match=r"rex_c1_0\.txt"):
        read_captioned_folder(tmp_path / "a.zip")


def test_a_damaged_parquet_file_is_one_line(tmp_path):
    pytest.importorskip("pyarrow")
    content = bytearray(parquet_seeds()[0])
    content[-60:-20] = b"\xff" * 40
    (tmp_path / "a.parquet").write_bytes(content)

    with pytest.raises(ValueError, match=r"a\.parquet as Parquet") as caught:
        read_table(tmp_path / "a.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # of columns that are named otherwise
def test_damaged_metadata_of_parquet_do_not_end_the_process(tmp_path):
    pytest.importorskip("pyarrow")
    (content,) = parquet_seeds()
    (footer_length,) = struct.unpack("<I", content[-8:-4])
    num_errors = 0
    for position in range(len(content) - 8 - footer_length, len(content) - 8):
        damaged = bytearray(content)
        damaged[position] = (damaged[position] + 1) % 256
        (tmp_path / "a.parquet").write_bytes(damaged)
        try:
            read_table(tmp_path / "a.parquet")
        except ValueError:
            num_errors += 1

    assert num_errors > 50


def test_a_pickle_that_ends_within_a_number(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}r\x01")
        archive.writestr("archive/version", b"3")
    with pytest.raises(ValueError, match=r"load_weights: expected .*a\.pt as a safetensors file"):
        read_weights(tmp_path / "a.pt")


def test_a_separator_of_lines_in_a_key(tmp_path):
    rows = {"img/a.jpg": {"item_id": "1", "split\u2028": "val"}}
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="read_image_paths") as caught:
        read_image_paths(tmp_path / "a.json")
    assert len(str(caught.value).splitlines()) == 1


def test_a_deep_card(tmp_path):
    (tmp_path / "card.json").write_text('{"extra": ' + "[" * 5000)
    with pytest.raises(ValueError, match=r"read_card: The card .*card\.json is damaged"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{", "["),
        ("}", ""),
        ("0.5", '"half"'),
        ("0.5", "[0.5]"),
        ('"max_rank": 3', '"max_rank": null'),
        ('"max_rank": 3', '"max_rank": Infinity'),
        ("{", "[" * 5000),
    ],
)
def test_a_damaged_result(old, new):
    text = result_seeds()[0].decode()
    assert old in text
    with pytest.raises(ValueError, match=r"ReidResult\.from_json"):
        ReidResult.from_json(text.replace(old, new))
