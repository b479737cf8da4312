import pytest
import trees

from clipreid_kit.data import check_files, read_captioned_folder


@pytest.fixture
def folder(tmp_path):
    base = tmp_path / "data"
    trees.fill(
        base,
        "train/a.JPG",
        "train/b.png",
        "train/in/c.webp",
        "val/a_very-long_name.bmp",
        "test/short_name.jpeg",
    )
    trees.write(base, "train/a.txt", " from the text \n")
    trees.write(base, "train/a.json", '{"caption": "not this", "place": "hall"}')
    trees.write(base, "train/b.txt", " \n")
    trees.write(
        base,
        "train/b.json",
        '{"caption": "", "description": "the second key", "year": 3, "none": null}',
    )
    trees.write(base, "train/in/c.json", '{"caption": "the first key", "description": "not this"}')
    return base


def rows(records):
    return [(record.identity, record.caption, record.split) for record in records]


def test_captions_are_looked_for_in_order(folder):
    records = read_captioned_folder(folder, uncaptioned="skip")

    assert rows(records) == [
        (0, "from the text", None),
        (1, "the second key", None),
        (2, "the first key", None),
        (3, "a very long name", None),
    ]
    check_files(records)


def test_further_keys_are_extra(folder):
    records = read_captioned_folder(folder, uncaptioned="skip")
    assert [record.extra for record in records] == [{"place": "hall"}, {"year": "3"}, {}, {}]


def test_a_name_is_a_caption_from_eleven_characters(folder):
    trees.fill(folder, "val/ten_letter.jpg", "val/eleven_lett.jpg")
    captions = [record.caption for record in read_captioned_folder(folder, uncaptioned="skip")]

    assert "eleven lett" in captions
    assert "ten letter" not in captions


def test_splits_are_folders_in_the_given_order(folder):
    records = read_captioned_folder(folder, splits=("val", "train"))

    assert [(record.identity, record.split) for record in records] == [
        (0, "val"),
        (1, "train"),
        (2, "train"),
        (3, "train"),
    ]


def test_an_archive_gives_the_same(folder):
    archive = trees.pack(folder, folder.parent / "data.zip")
    packed = read_captioned_folder(archive, uncaptioned="skip")

    assert rows(packed) == rows(read_captioned_folder(folder, uncaptioned="skip"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, r"1 of 5 images have no caption: test/short_name\.jpeg\. .*skip"),
        ({"splits": ("test",), "uncaptioned": "skip"}, "1 of 1 images have no caption"),
        (
            {"splits": ("dev",)},
            "there are no images in 'dev' of .*; its folders are test, train, val",
        ),
        ({"splits": ()}, "expected splits as a sequence of folder names"),
    ],
)
def test_missing_captions_and_images_are_named(folder, options, problem):
    with pytest.raises(ValueError, match=f"read_captioned_folder: {problem}"):
        read_captioned_folder(folder, **options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "problem"),
    [({"uncaptioned": "no"}, "one of raise, skip"), ({"splits": "train"}, r"splits=\('train',\)")],
)
def test_wrong_options_are_explained(folder, options, problem):
    with pytest.raises(ValueError, match=problem):
        read_captioned_folder(folder, **options)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", r".*a\.json is not valid JSON"),
        ("[]", r".*a\.json has to hold an object, not list"),
    ],
)
def test_a_bad_json_beside_an_image_is_named(folder, text, problem):
    trees.write(folder, "train/a.json", text)
    with pytest.raises(ValueError, match=f"read_captioned_folder: {problem}"):
        read_captioned_folder(folder)


def test_a_text_in_another_encoding_is_named(tmp_path):
    (tmp_path / "latin.jpg").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")

    with pytest.raises(ValueError, match=r"latin\.txt: it is not UTF-8 text"):
        read_captioned_folder(tmp_path)


def test_a_folder_without_images_is_an_error(tmp_path):
    trees.fill(tmp_path, "a.txt")
    with pytest.raises(ValueError, match=r"none of the 1 files in .* is an image\. Images end in"):
        read_captioned_folder(tmp_path)
