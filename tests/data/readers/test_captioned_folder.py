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


def _rows(records):
    return [(r.identity, r.caption, r.split) for r in records]


def test_captions_are_looked_for_in_order(folder):
    records = read_captioned_folder(folder, uncaptioned="skip")
    captions = ["from the text", "the second key", "the first key", "a very long name"]
    assert _rows(records) == [(n, text, None) for n, text in enumerate(captions)]
    assert [r.extra for r in records] == [{"place": "hall"}, {"year": "3"}, {}, {}]
    check_files(records)


def test_a_name_counts_from_eleven_characters(folder):
    trees.fill(folder, "val/ten_letter.jpg", "val/eleven_lett.jpg")
    captions = [r.caption for r in read_captioned_folder(folder, uncaptioned="skip")]
    assert "eleven lett" in captions
    assert "ten letter" not in captions


def test_splits_are_folders_in_the_given_order(folder):
    records = read_captioned_folder(folder, splits=("val", "train"))
    assert [(r.identity, r.split) for r in records] == [
        (0, "val"),
        (1, "train"),
        (2, "train"),
        (3, "train"),
    ]
    archive = trees.pack(folder, folder.parent / "data.zip")
    assert _rows(read_captioned_folder(archive, uncaptioned="skip")) == _rows(
        read_captioned_folder(folder, uncaptioned="skip")
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, r"a caption for every image, got none for 1 of 5: test/short_name\.jpeg\. .*skip"),
        (
            {"splits": ("test",), "uncaptioned": "skip"},
            "a caption for every image, got none for 1 of 1",
        ),
        ({"splits": ("dev",)}, "images in 'dev' of .*, got none; folders there: test, train, val"),
        ({"splits": ()}, "splits as a sequence of folder names"),
    ],
)
def test_what_is_missing_is_named(folder, options, problem):
    with pytest.raises(ValueError, match=f"read_captioned_folder: expected {problem}"):
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
    ("text", "problem"), [("{", r"a\.json as JSON"), ("[]", r"an object in .*a\.json, got list")]
)
def test_a_bad_file_beside_an_image_is_named(folder, text, problem):
    trees.write(folder, "train/a.json", text)
    with pytest.raises(ValueError, match=f"read_captioned_folder: expected .*{problem}"):
        read_captioned_folder(folder)


def test_no_images(tmp_path):
    trees.fill(tmp_path, "a.txt")
    with pytest.raises(ValueError, match=r"images in .*, got none among 1 files\. Images end in"):
        read_captioned_folder(tmp_path)
    (tmp_path / "latin.jpg").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"latin\.txt as UTF-8 text"):
        read_captioned_folder(tmp_path)
