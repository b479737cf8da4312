import os
import zipfile

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
        ("[]", r".*a\.json holds a list, not an object"),
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


def test_the_first_of_several_captions_counts_and_the_others_are_kept(tmp_path):
    trees.fill(tmp_path, "a.jpg")
    trees.write(tmp_path, "a.json", '{"caption": ["a red door", "a door"], "place": "hall"}')
    (record,) = read_captioned_folder(tmp_path)
    assert record.caption == "a red door"
    assert record.extra == {"caption_2": "a door", "place": "hall"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"caption": {"en": "a door"}}', "a caption as a text or a list of texts"),
        ('{"caption": "a", "caption": "b"}', "'caption' more than once"),
        ("[" * 5000 + "]" * 5000, "nested more than 100 levels"),
        ('{"year": ' + "9" * 5000 + "}", "limit .* for integer string conversion"),
    ],
)
def test_json_that_is_ambiguous_or_boundless_is_refused(tmp_path, text, problem):
    trees.fill(tmp_path, "a.jpg")
    trees.write(tmp_path, "a.json", text)
    with pytest.raises(ValueError, match=f"read_captioned_folder: .*{problem}"):
        read_captioned_folder(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="no pipes in folders")
def test_a_pipe_is_no_caption(tmp_path):
    trees.fill(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"read_captioned_folder: cannot read .*named pipe"):
        read_captioned_folder(tmp_path)


def test_a_damaged_caption_in_an_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("a.txt", "a red door " * 50)
        pack.writestr("a.jpg", "")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[38] ^= 255
    (tmp_path / "a.zip").write_bytes(content)

    with pytest.raises(ValueError, match=r"read_captioned_folder: cannot read .*a\.zip::a\.txt: "):
        read_captioned_folder(tmp_path / "a.zip")


def test_folders_that_link_to_each_other_end(tmp_path):
    trees.fill(tmp_path, "a/a_long_way_home.jpg", "b/another_way_home.jpg")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    assert len(read_captioned_folder(tmp_path)) == 4
