import pytest
from PIL import Image, features

from clipreid_kit.data import load_image, read_folder
from clipreid_kit.data.files import image_suffixes
from clipreid_kit.data.files.image_suffixes import IMAGE_SUFFIXES, decodable_suffixes


@pytest.fixture(autouse=True)
def _forget():
    decodable_suffixes.cache_clear()
    yield
    decodable_suffixes.cache_clear()


def save(path, file_format):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (16, 16), (200, 10, 10)).save(path, file_format)


@pytest.mark.parametrize(
    ("suffix", "file_format"), [(".avif", "AVIF"), (".HEIC", "HEIF"), (".heif", "HEIF")]
)
def test_images_with_a_decoder_are_read(tmp_path, suffix, file_format):
    if file_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if file_format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    save(tmp_path / "rex" / f"1{suffix}", file_format)

    (record,) = read_folder(tmp_path)
    red, green, _ = load_image(record.path).getpixel((8, 8))
    assert (red > 150, green < 60) == (True, True)


def test_images_without_a_decoder_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(image_suffixes, "find_spec", lambda _: None)
    monkeypatch.setattr(image_suffixes, "_decodes_avif", lambda: False)
    for name in ("1.png", "2.heic", "3.avif"):
        path = tmp_path / "rex" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")

    assert decodable_suffixes() == IMAGE_SUFFIXES
    with pytest.warns(UserWarning, match=r"left out 2 images .*Install pillow-heif"):
        assert len(read_folder(tmp_path)) == 1
