import zipfile

import pytest

from clipreid_kit.data import ImageRecord, read_folder


def _fill(root, *names):
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def test_identities_are_folder_names_and_order_is_fixed(tmp_path):
    _fill(
        tmp_path,
        "tom/b.PNG",
        "tom/a.jpg",
        "rex/2024/x.jpeg",
        "rex/10.webp",
        "0001/a.tif",
        "0001/b.bmp",
    )
    assert read_folder(tmp_path) == [
        ImageRecord(f"{tmp_path}/0001/a.tif", "0001"),
        ImageRecord(f"{tmp_path}/0001/b.bmp", "0001"),
        ImageRecord(f"{tmp_path}/rex/10.webp", "rex"),
        ImageRecord(f"{tmp_path}/rex/2024/x.jpeg", "rex"),
        ImageRecord(f"{tmp_path}/tom/a.jpg", "tom"),
        ImageRecord(f"{tmp_path}/tom/b.PNG", "tom"),
    ]


def test_numbers_stay_strings(tmp_path):
    assert [record.identity for record in read_folder(_fill(tmp_path, "1/a.jpg", "12/a.jpg"))] == [
        "1",
        "12",
    ]


def test_a_relative_root_stays_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(_fill(tmp_path, "set/rex/a.jpg"))
    assert [record.path for record in read_folder("set")] == ["set/rex/a.jpg"]


def test_other_files_and_hidden_names_are_ignored(tmp_path):
    _fill(
        tmp_path,
        "README.txt",
        ".DS_Store",
        ".cache/x/a.jpg",
        "rex/a.jpg",
        "rex/a.txt",
        "rex/._a.jpg",
    )
    assert [record.path for record in read_folder(tmp_path)] == [f"{tmp_path}/rex/a.jpg"]


def test_split_names_the_records(tmp_path):
    assert [r.split for r in read_folder(_fill(tmp_path, "rex/a.jpg"), split="train")] == ["train"]


def test_splits_are_folders_in_the_given_order(tmp_path):
    _fill(tmp_path, "train/rex/a.jpg", "query/tom/a.jpg", "gallery/tom/b.jpg", "notes/x.txt")
    records = read_folder(tmp_path, splits=("query", "gallery", "train"))
    assert [(r.split, r.identity) for r in records] == [
        ("query", "tom"),
        ("gallery", "tom"),
        ("train", "rex"),
    ]


@pytest.mark.parametrize(
    ("names", "cameras"), [(("_c1", "_c2"), [1, 2]), (("_c01", "_c2"), ["01", "2"])]
)
def test_cameras_come_from_file_names(tmp_path, names, cameras):
    _fill(tmp_path, *(f"rex/{number}{name}.jpg" for number, name in enumerate(names)))
    assert [r.camera for r in read_folder(tmp_path, camera_pattern=r"_c(?P<camera>\d+)")] == cameras


@pytest.mark.parametrize(
    ("names", "options", "problem"),
    [
        (
            ("rex/a.jpg",),
            {"splits": ("train",)},
            "a folder for .*train, got nothing there; folders beside it: rex",
        ),
        (
            ("train/rex/a.jpg", "query/b.txt"),
            {"splits": ("query",)},
            "identity folders in .*query, got none",
        ),
        (("a.txt",), {}, "identity folders in .*, got none. Expected layout"),
        (("rex/a.jpg", "b.jpg", "c.png"), {}, r"got 2 beside them: b\.jpg, c\.png\. Move"),
        (
            ("rex/a.jpg", "tom/a.heic"),
            {},
            r"images in .*tom, got none \(files there end in: \.heic\)",
        ),
        (("rex/a.jpg",), {"splits": ()}, "splits as a sequence"),
        (("rex/a.jpg",), {"splits": "train"}, r"One folder: splits=\('train',\)"),
        (("rex/a.jpg",), {"split": "a", "splits": ("b",)}, "split or splits, got both"),
        (("rex/a.jpg",), {"camera_pattern": "(c"}, "camera_pattern as a regular expression"),
        (("rex/a.jpg",), {"camera_pattern": "c([0-9])"}, "a group named camera"),
        (
            ("rex/a.jpg",),
            {"camera_pattern": "c(?P<camera>[0-9])"},
            r"to match camera_pattern .*, got .*rex/a\.jpg",
        ),
        (
            ("rex/c.jpg",),
            {"camera_pattern": "c(?P<camera>[0-9])?"},
            r"to match camera_pattern .*, got .*rex/c\.jpg",
        ),
    ],
)
def test_a_wrong_layout_says_what_was_found(tmp_path, names, options, problem):
    with pytest.raises(ValueError, match=f"read_folder: expected .*{problem}"):
        read_folder(_fill(tmp_path, *names), **options)


def test_an_empty_identity_folder_is_an_error(tmp_path):
    _fill(tmp_path, "rex/a.jpg")
    (tmp_path / "tom").mkdir()
    with pytest.raises(
        ValueError, match=r"images in .*tom, got none \(it is empty\)\. .*Remove or fill"
    ):
        read_folder(tmp_path)


def test_a_missing_root_and_a_file_as_root(tmp_path):
    with pytest.raises(
        ValueError, match=r"read_folder: expected a folder for root: .*none, got nothing there"
    ):
        read_folder(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="got a file"):
        read_folder(tmp_path / "file")


def _packed(file, *names):
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return file


@pytest.mark.parametrize("above", ["", "dogs/", "backup/2024/dogs/"])
def test_an_archive_is_read_like_the_folder(tmp_path, above):
    names = ("rex/2_c2.jpg", "rex/1/a_c1.png", "tom/1_c1.JPG", "tom/notes.txt")
    hidden = ("rex/._2_c2.jpg", ".cache/a_c1.jpg", "__MACOSX/rex/._2_c2.jpg")
    file = _packed(tmp_path / "dogs.zip", *(above + name for name in names), *hidden)
    records = read_folder(file, split="train", camera_pattern=r"_c(?P<camera>\d)")
    assert records == [
        ImageRecord(f"{file}::{above}rex/1/a_c1.png", "rex", camera=1, split="train"),
        ImageRecord(f"{file}::{above}rex/2_c2.jpg", "rex", camera=2, split="train"),
        ImageRecord(f"{file}::{above}tom/1_c1.JPG", "tom", camera=1, split="train"),
    ]
    plain = read_folder(_fill(tmp_path / "plain", *names), camera_pattern=r"_c(?P<camera>\d)")
    assert [(r.identity, r.camera) for r in plain] == [(r.identity, r.camera) for r in records]


def test_split_folders_in_an_archive(tmp_path):
    names = ("train/rex/a.jpg", "query/tom/a.jpg", "gallery/tom/b.jpg", "gallery/ada/b.jpg")
    file = _packed(tmp_path / "set.zip", *(f"set/{name}" for name in names))
    records = read_folder(file, splits=("query", "gallery"))
    assert [(r.split, r.identity) for r in records] == [
        ("query", "tom"),
        ("gallery", "ada"),
        ("gallery", "tom"),
    ]
    assert records[0].path == f"{file}::set/query/tom/a.jpg"


def test_one_identity_in_an_archive_keeps_its_name(tmp_path):
    assert [
        r.identity for r in read_folder(_packed(tmp_path / "a.zip", "rex/1.jpg", "rex/2.jpg"))
    ] == ["rex"] * 2


@pytest.mark.parametrize("above", ["", "photos/"])
def test_a_pattern_begins_below_the_folder_that_an_archive_wraps_all_in(tmp_path, above):
    file = _packed(tmp_path / "a.zip", f"{above}7_c1.jpg", f"{above}8_c2.jpg")
    assert [
        (r.identity, r.camera) for r in read_folder(file, pattern="{identity}_c{camera}.jpg")
    ] == [
        ("7", 1),
        ("8", 2),
    ]
    with pytest.raises(
        ValueError, match=r"to match '\{identity\}-\{camera\}\.jpg', got 2 of 2 that do not"
    ):
        read_folder(file, pattern="{identity}-{camera}.jpg")


@pytest.mark.parametrize(
    ("names", "options", "problem"),
    [
        (
            ("rex/a.jpg", "b.jpg"),
            {},
            r"inside identity folders of .*a\.zip::, got 1 beside them: b\.jpg\. .*pattern=",
        ),
        (("a.jpg", "b.jpg"), {}, r"got 2 beside them: a\.jpg, b\.jpg"),
        (("a.txt",), {}, "inside identity folders of .*, got none"),
        (
            ("rex/a.jpg",),
            {"splits": ("train", "query")},
            "the folders train, query in .*, got rex/ there, without train",
        ),
        (("train/a.jpg",), {"splits": ("train",)}, "got 1 beside them: train/a.jpg"),
    ],
)
def test_a_wrong_layout_in_an_archive_says_what_was_found(tmp_path, names, options, problem):
    with pytest.raises(ValueError, match=f"read_folder: expected .*{problem}"):
        read_folder(_packed(tmp_path / "a.zip", *names), **options)


def test_a_flat_folder_and_a_table_are_told_how_they_are_read(tmp_path):
    with pytest.raises(ValueError, match=r"got 1 beside them: 7_1\.jpg\. .*pattern=.*read_csv"):
        read_folder(_fill(tmp_path / "flat", "7_1.jpg"))
    (tmp_path / "images.csv").touch()
    with pytest.raises(ValueError, match=r"got a file\. A table is read with read_table\."):
        read_folder(tmp_path / "images.csv")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"pattern": "{identity}/*"}])
def test_pictures_of_another_kind_are_not_missed_silently(tmp_path, packed, options):
    names = ("rex/1.jpg", "rex/2.HEIC", "rex/3.gif", "tom/1.png", "tom/notes.txt")
    root = _packed(tmp_path / "a.zip", *names) if packed else _fill(tmp_path / "a", *names)
    problem = (
        r"read_folder: left out 2 images that do not end in .*: .*2\.HEIC, .*3\.gif\. Convert them"
    )
    with pytest.warns(UserWarning, match=problem) as caught:
        records = read_folder(root, **options)
    assert len(records) == 2
    assert len(caught) == 1


@pytest.mark.unhooked  # the hook puts itself between caller and reader
@pytest.mark.parametrize("options", [{}, {"pattern": "{identity}/*"}])
def test_the_warning_of_pictures_left_out_points_at_the_caller(tmp_path, options):
    with pytest.warns(UserWarning, match="left out 1 images") as caught:
        read_folder(_fill(tmp_path, "rex/1.jpg", "rex/2.gif"), **options)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="left out 1 images") as caught:
        read_folder(_packed(tmp_path / "a.zip", "rex/1.jpg", "rex/2.gif"), **options)
    assert caught[0].filename == __file__
