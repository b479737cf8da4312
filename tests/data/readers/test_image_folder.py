import io
import os
import re
import zipfile

import pytest
import trees
from PIL import Image

from clipreid_kit.data import ImageRecord, load_image, read_folder

CAMERA = r"_c(?P<camera>\d+)"


def pack(file, *names):
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return file


def test_identities_are_folder_names_and_the_order_is_fixed(tmp_path):
    trees.fill(
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
    records = read_folder(trees.fill(tmp_path, "1/a.jpg", "12/a.jpg"))
    assert [record.identity for record in records] == ["1", "12"]


def test_a_relative_root_stays_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(trees.fill(tmp_path, "set/rex/a.jpg"))
    assert [record.path for record in read_folder("set")] == ["set/rex/a.jpg"]


def test_other_files_and_hidden_names_are_ignored(tmp_path):
    trees.fill(
        tmp_path,
        "README.txt",
        ".DS_Store",
        ".cache/x/a.jpg",
        "rex/a.jpg",
        "rex/a.txt",
        "rex/._a.jpg",
    )
    assert [record.path for record in read_folder(tmp_path)] == [f"{tmp_path}/rex/a.jpg"]


def test_split_is_that_of_every_record(tmp_path):
    records = read_folder(trees.fill(tmp_path, "rex/a.jpg"), split="train")
    assert [record.split for record in records] == ["train"]


def test_splits_are_folders_in_the_given_order(tmp_path):
    trees.fill(tmp_path, "train/rex/a.jpg", "query/tom/a.jpg", "gallery/tom/b.jpg", "notes/x.txt")
    records = read_folder(tmp_path, splits=("query", "gallery", "train"))

    assert [(record.split, record.identity) for record in records] == [
        ("query", "tom"),
        ("gallery", "tom"),
        ("train", "rex"),
    ]


@pytest.mark.parametrize(
    ("names", "cameras"),
    [(("1_c1", "2_c2"), [1, 2]), (("1_c01", "2_c2"), ["01", "2"])],
)
def test_cameras_come_from_file_names(tmp_path, names, cameras):
    trees.fill(tmp_path, *(f"rex/{name}.jpg" for name in names))
    records = read_folder(tmp_path, camera_pattern=CAMERA)

    assert [record.camera for record in records] == cameras


@pytest.mark.parametrize(
    ("names", "options", "problem"),
    [
        (
            ("rex/a.jpg",),
            {"splits": ("train",)},
            r"there is no .*train; the folders beside it are: rex\. Expected layout",
        ),
        (
            ("train/rex/a.jpg", "query/b.txt"),
            {"splits": ("query",)},
            "there are no identity folders in .*query",
        ),
        (("a.txt",), {}, r"there are no identity folders in .*\. Expected layout"),
        (
            ("rex/a.jpg", "b.jpg", "c.png"),
            {},
            r"2 images in .* are not inside an identity folder: b\.jpg, c\.png\. Move",
        ),
        (
            ("rex/a.jpg", "tom/a.jxl"),
            {},
            r"there are no images in .*tom \(its files end in \.jxl\)",
        ),
    ],
)
def test_another_layout_is_explained(tmp_path, names, options, problem):
    with pytest.raises(ValueError, match=f"read_folder: {problem}"):
        read_folder(trees.fill(tmp_path, *names), **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"splits": ()}, "expected splits as a sequence"),
        ({"splits": "train"}, r"expected .*One folder: splits=\('train',\)"),
        ({"split": "a", "splits": ("b",)}, "pass either split or splits"),
        ({"camera_pattern": "(c"}, r"camera_pattern '\(c' is not a regular expression: "),
        ({"camera_pattern": "c([0-9])"}, "has no group named camera"),
        (
            {"camera_pattern": "c(?P<camera>[0-9])"},
            r".*rex/c\.jpg does not match camera_pattern",
        ),
        (
            {"camera_pattern": "c(?P<camera>[0-9])?"},
            r".*rex/c\.jpg does not match camera_pattern",
        ),
    ],
)
def test_wrong_options_are_explained(tmp_path, options, problem):
    with pytest.raises(ValueError, match=f"read_folder: .*{problem}"):
        read_folder(trees.fill(tmp_path, "rex/c.jpg"), **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"splits": ("train",)}, "pattern cannot be combined with splits or camera_pattern. Write"),
        (
            {"camera_pattern": "(?P<camera>1)"},
            "pattern cannot be combined with splits or camera_pattern",
        ),
        ({"split": "train"}, r"pass either split, or {split} in the pattern"),
    ],
)
def test_options_that_contradict_a_pattern_are_an_error(tmp_path, options, problem):
    trees.fill(tmp_path, "train/rex_1.jpg")
    with pytest.raises(ValueError, match=f"read_folder: {problem}"):
        read_folder(tmp_path, pattern="{split}/{identity}_*.jpg", **options)


@pytest.mark.unhooked
def test_another_word_for_unmatched_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="unmatched to be one of raise, skip"):
        read_folder(tmp_path, pattern="{identity}.jpg", unmatched="ignore")


def test_an_empty_identity_folder_is_an_error(tmp_path):
    trees.fill(tmp_path, "rex/a.jpg")
    (tmp_path / "tom").mkdir()

    message = r"there are no images in .*tom \(it is empty\)\. .*Remove or fill"
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path)


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"read_folder: there is no .*none\. Expected layout"):
        read_folder(tmp_path / "none")


def test_a_file_as_root_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file, not a folder"):
        read_folder(tmp_path / "file")


def test_a_table_as_root_names_its_reader(tmp_path):
    (tmp_path / "images.csv").touch()
    with pytest.raises(ValueError, match=r"is a file, not a folder\. Read a table with read_table"):
        read_folder(tmp_path / "images.csv")


def test_a_flat_folder_names_the_other_ways(tmp_path):
    with pytest.raises(ValueError, match=r"folder: 7_1\.jpg\. .*pattern=.*read_csv"):
        read_folder(trees.fill(tmp_path / "flat", "7_1.jpg"))


@pytest.mark.parametrize("above", ["", "dogs/", "backup/2024/dogs/"])
def test_an_archive_is_read_like_the_folder(tmp_path, above):
    names = ("rex/2_c2.jpg", "rex/1/a_c1.png", "tom/1_c1.JPG", "tom/notes.txt")
    hidden = ("rex/._2_c2.jpg", ".cache/a_c1.jpg", "__MACOSX/rex/._2_c2.jpg")
    file = pack(tmp_path / "dogs.zip", *(above + name for name in names), *hidden)

    records = read_folder(file, split="train", camera_pattern=CAMERA)
    assert records == [
        ImageRecord(f"{file}::{above}rex/1/a_c1.png", "rex", camera=1, split="train"),
        ImageRecord(f"{file}::{above}rex/2_c2.jpg", "rex", camera=2, split="train"),
        ImageRecord(f"{file}::{above}tom/1_c1.JPG", "tom", camera=1, split="train"),
    ]

    plain = read_folder(trees.fill(tmp_path / "plain", *names), camera_pattern=CAMERA)
    assert [(record.identity, record.camera) for record in plain] == [
        (record.identity, record.camera) for record in records
    ]


def test_split_folders_in_an_archive(tmp_path):
    names = ("train/rex/a.jpg", "query/tom/a.jpg", "gallery/tom/b.jpg", "gallery/ada/b.jpg")
    file = pack(tmp_path / "set.zip", *(f"set/{name}" for name in names))
    records = read_folder(file, splits=("query", "gallery"))

    assert records[0].path == f"{file}::set/query/tom/a.jpg"
    assert [(record.split, record.identity) for record in records] == [
        ("query", "tom"),
        ("gallery", "ada"),
        ("gallery", "tom"),
    ]


def test_one_identity_in_an_archive_keeps_its_name(tmp_path):
    records = read_folder(pack(tmp_path / "a.zip", "rex/1.jpg", "rex/2.jpg"))
    assert [record.identity for record in records] == ["rex", "rex"]


@pytest.mark.parametrize(
    ("names", "options", "problem"),
    [
        (
            ("rex/a.jpg", "b.jpg"),
            {},
            r"1 images in .*a\.zip:: are not inside an identity folder: b\.jpg\. .*pattern=",
        ),
        (("a.jpg", "b.jpg"), {}, r"2 images in .*: a\.jpg, b\.jpg\."),
        (("a.txt",), {}, "there are no images in identity folders of .*"),
        (
            ("rex/a.jpg",),
            {"splits": ("train", "query")},
            "expected the folders train, query in .*, found rex/; missing: train",
        ),
        (
            ("train/a.jpg",),
            {"splits": ("train",)},
            r"1 images in .*train/ are not .*: train/a\.jpg",
        ),
    ],
)
def test_another_layout_in_an_archive_is_explained(tmp_path, names, options, problem):
    with pytest.raises(ValueError, match=f"read_folder: {problem}"):
        read_folder(pack(tmp_path / "a.zip", *names), **options)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"pattern": "{identity}/*"}])
def test_images_of_other_formats_are_a_warning(tmp_path, packed, options):
    names = ("rex/1.jpg", "rex/2.JXL", "rex/3.gif", "tom/1.png", "tom/notes.txt")
    root = pack(tmp_path / "a.zip", *names) if packed else trees.fill(tmp_path / "a", *names)

    message = (
        r"read_folder: left out 2 images that do not end in .*: .*2\.JXL, .*3\.gif\. Convert them"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        records = read_folder(root, **options)

    assert len(records) == 2
    assert len(caught) == 1


def test_images_of_other_formats_in_several_splits_are_one_warning(tmp_path):
    names = ("train/rex/1.jpg", "train/rex/2.gif", "query/tom/1.jpg", "query/tom/2.gif")
    roots = [pack(tmp_path / "a.zip", *names), trees.fill(tmp_path / "a", *names)]

    for root in roots:
        with pytest.warns(UserWarning, match="left out 2 images") as caught:
            read_folder(root, splits=("train", "query"))
        assert len(caught) == 1


@pytest.mark.call_stack
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"pattern": "{identity}/*"}])
def test_the_warning_points_at_the_caller(tmp_path, packed, options):
    names = ("rex/1.jpg", "rex/2.gif")
    root = pack(tmp_path / "a.zip", *names) if packed else trees.fill(tmp_path / "a", *names)

    with pytest.warns(UserWarning, match="left out 1 images") as caught:
        read_folder(root, **options)
    assert caught[0].filename == __file__


class TestLinks:
    """Both modes read the same images, and end."""

    @pytest.fixture
    def linked(self, tmp_path):
        trees.fill(tmp_path / "store", "a.jpg", "b.jpg")
        trees.fill(tmp_path / "ids", "rex/1.jpg", "tom/2.jpg")
        (tmp_path / "ids" / "rex" / "night").symlink_to(tmp_path / "store")
        (tmp_path / "ids" / "ada").symlink_to(tmp_path / "store")
        return tmp_path / "ids"

    def test_linked_folders_are_read_in_both_modes(self, linked):
        by_folder = read_folder(linked)
        by_pattern = read_folder(linked, pattern="{identity}/**.jpg")

        assert [record.path for record in by_folder] == [
            f"{linked}/{name}"
            for name in (
                "ada/a.jpg",
                "ada/b.jpg",
                "rex/1.jpg",
                "rex/night/a.jpg",
                "rex/night/b.jpg",
                "tom/2.jpg",
            )
        ]
        assert {(record.path, record.identity) for record in by_pattern} == {
            (record.path, record.identity) for record in by_folder
        }

    def test_folders_that_link_to_each_other_end(self, tmp_path):
        trees.fill(tmp_path, "a/1.jpg", "b/2.jpg")
        (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
        (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
        names = ["a/1.jpg", "a/to_b/2.jpg", "b/2.jpg", "b/to_a/1.jpg"]

        for options in ({}, {"pattern": "{identity}/**.jpg"}):
            records = read_folder(tmp_path, **options)
            assert [record.path for record in records] == [f"{tmp_path}/{name}" for name in names]

    def test_no_image_of_another_identity_is_read_through_a_link_upwards(self, tmp_path):
        trees.fill(tmp_path, "rex/1.jpg", "tom/2.jpg")
        (tmp_path / "rex" / "up").symlink_to(tmp_path)
        assert [record.identity for record in read_folder(tmp_path)] == ["rex", "tom"]

    def test_an_identity_that_is_a_link_upwards_is_refused(self, tmp_path):
        trees.fill(tmp_path, "rex/1.jpg")
        (tmp_path / "up").symlink_to(tmp_path)
        with pytest.raises(ValueError, match=r"up is a link to .*, which it lies in\. Remove"):
            read_folder(tmp_path)

    def test_a_tree_that_links_multiply_is_refused(self, tmp_path):
        trees.fill(tmp_path, "0/1.jpg")
        for level in range(1, 13):
            (tmp_path / str(level)).mkdir()
            for name in ("x", "y"):
                (tmp_path / str(level) / name).symlink_to(tmp_path / str(level - 1))
        with pytest.raises(ValueError, match=r"links lead to .* from more than 1000 places"):
            read_folder(tmp_path, pattern="{identity}/**.jpg")


@pytest.mark.parametrize("options", [{}, {"pattern": "{identity}/*.jpg"}])
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path, monkeypatch, options):
    trees.fill(tmp_path, "rex/1.jpg", "tom/2.jpg")
    scandir = os.scandir

    def forbidding(folder):
        if str(folder).endswith("tom"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", forbidding)
    with pytest.raises(ValueError, match=r"read_folder: cannot read .*/tom: PermissionError.*Give"):
        read_folder(tmp_path, **options)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"pattern": "{identity}/**.jpg"}])
def test_folders_that_systems_add_are_left_out(tmp_path, packed, options):
    base = trees.fill(
        tmp_path / "ids",
        "rex/a.jpg",
        "rex/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "@eaDir/rex/thumb.jpg",
        "__MACOSX/rex/._a.jpg",
        "@Recycle/old.jpg",
        "#snapshot/old.jpg",
        "RECYCLER/old.jpg",
        "tom/b.jpg",
    )
    root = trees.pack(base, tmp_path / "ids.zip") if packed else base
    prefix = f"{root}::ids/" if packed else f"{root}/"

    records = read_folder(root, **options)
    assert [record.path for record in records] == [f"{prefix}rex/a.jpg", f"{prefix}tom/b.jpg"]


@pytest.mark.parametrize("packed", [False, True])
def test_splits_that_are_read_as_identities_are_named(tmp_path, packed):
    base = trees.fill(tmp_path / "set", "train/a/1.jpg", "query/b/2.jpg", "gallery/b/3.jpg")
    root = trees.pack(base, tmp_path / "set.zip") if packed else base
    with pytest.warns(
        UserWarning, match=r"the folders gallery, query, train have the names of spl"
    ):
        read_folder(root)

    assert len(read_folder(root, splits=("train", "query", "gallery"))) == 3


def test_names_like_those_of_splits_are_named(tmp_path):
    trees.fill(tmp_path, "train_images/a/1.jpg", "query_images/b/2.jpg")
    with pytest.warns(UserWarning, match="query_images, train_images have the names of splits"):
        read_folder(tmp_path)


def test_one_identity_may_have_the_name_of_a_split(tmp_path):
    trees.fill(tmp_path, "test/1.jpg", "rex/2.jpg")
    assert [record.identity for record in read_folder(tmp_path)] == ["rex", "test"]


@pytest.mark.parametrize("packed", [False, True])
def test_one_split_beside_identities_is_named(tmp_path, packed):
    base = trees.fill(tmp_path / "set", "train/tom/1.jpg", "rex/2.jpg")
    root = trees.pack(base, tmp_path / "set.zip") if packed else base
    with pytest.warns(UserWarning, match="the folders train have the names of splits"):
        records = read_folder(root)
    assert [record.identity for record in records] == ["rex", "train"]


@pytest.mark.parametrize("options", [{}, {"pattern": "{identity}/*.jpg"}])
def test_identities_that_look_alike_are_named(tmp_path, options):
    trees.fill(
        tmp_path, "rex/1.jpg", "Rex/2.jpg", "caf\u00e9/3.jpg", "cafe\u0301/4.jpg", "tom/5.jpg"
    )
    with pytest.warns(
        UserWarning, match=r"2 identities are written in several ways.*'Rex' and 're"
    ):
        records = read_folder(tmp_path, **options)
    assert len({record.identity for record in records}) == 5


class TestAmbiguousTemplates:
    def fields(self, folder, pattern="{identity}_c{camera}*.jpg"):
        return [(record.identity, record.camera) for record in read_folder(folder, pattern=pattern)]

    def test_a_camera_is_a_number_where_every_name_has_one(self, tmp_path):
        trees.fill(tmp_path, "rex_cute_c2_01.jpg", "rex_calm_c1_02.jpg", "bo_c1_01.jpg")
        assert self.fields(tmp_path) == [("bo", 1), ("rex_calm", 1), ("rex_cute", 2)]

    def test_also_without_a_wildcard(self, tmp_path):
        trees.fill(tmp_path, "rex_cute_c2.jpg", "bo_c1.jpg")
        assert self.fields(tmp_path, "{identity}_c{camera}.jpg") == [("bo", 1), ("rex_cute", 2)]

    def test_a_number_in_some_names_only_is_an_error(self, tmp_path):
        trees.fill(tmp_path, "rex_cute_c2_01.jpg", "bo_ceast_01.jpg")
        with pytest.raises(
            ValueError, match=r"is ambiguous: .* may be 'rex' and 'ute' or 'rex_cute"
        ):
            self.fields(tmp_path)

    def test_cameras_with_letters_are_found(self, tmp_path):
        trees.fill(tmp_path, "rex_ceast_01.jpg", "bo_c2_01.jpg")
        assert self.fields(tmp_path) == [("bo", "2"), ("rex", "east")]


@pytest.mark.parametrize("option", ["pattern", "camera_pattern"])
def test_a_pattern_that_searches_without_end_is_stopped(tmp_path, monkeypatch, option):
    monkeypatch.setattr("clipreid_kit.data.readers._path_pattern._LONGEST_SEARCH", 0.05)
    trees.fill(tmp_path, f"rex/{'a' * 200}.jpg")
    text = r"(?P<identity>)(?P<camera>(?:a|aa|a\w)+)\d$"
    pattern = re.compile(text) if option == "pattern" else text
    with pytest.raises(ValueError, match=r"took more than 0\.05 s on .*Write it without repeats"):
        read_folder(tmp_path, **{option: pattern})


def test_a_split_that_is_given_twice_is_an_error(tmp_path):
    root = trees.fill(tmp_path / "dogs", "train/rex/1.jpg")
    with pytest.raises(ValueError, match="expected every split once"):
        read_folder(root, splits=("train", "train"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_that_is_nearly_a_split_is_named(tmp_path, packed):
    base = trees.fill(tmp_path / "set", "query/b/1.jpg", "Query/b/2.jpg", "gallery/b/3.jpg")
    root = trees.pack(base, tmp_path / "set.zip") if packed else base

    with pytest.warns(UserWarning, match=r"the folder 'Query' is not read; .* split 'query'"):
        records = read_folder(root, splits=("query", "gallery"))
    assert len(records) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tom.zip", {}),
        ("rex/more.tar.gz", {}),
        ("query/tom.zip", {"splits": ("query",)}),
    ],
)
def test_archives_among_the_images_are_named(tmp_path, name, options):
    split = "query/" if "splits" in options else ""
    trees.fill(tmp_path, f"{split}rex/1.jpg", name)

    with pytest.warns(UserWarning, match=rf"archives among the images are not read: .*{name}"):
        read_folder(tmp_path, **options)


def test_an_archive_that_was_unpacked_beside_itself_is_no_warning(tmp_path):
    trees.fill(tmp_path, "rex/1.jpg", "rex.zip")
    assert len(read_folder(tmp_path)) == 1


@pytest.mark.parametrize("options", [{}, {"pattern": "{identity}/*.jpg"}])
def test_an_archive_inside_an_archive_is_named(tmp_path, options):
    root = pack(tmp_path / "set.zip", "rex/1.jpg", "rex/2.jpg", "tom.ZIP")

    with pytest.warns(UserWarning, match=r"archives inside it are not read: tom\.ZIP"):
        records = read_folder(root, **options)
    assert [record.identity for record in records] == ["rex", "rex"]


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ((r"rex\1.jpg", r"tom\2.jpg"), {}),
        (
            (r"set\query\rex\1.jpg", r"set\gallery\tom\2.jpg"),
            {"splits": ("query", "gallery")},
        ),
        ((r"rex\1.jpg", r"tom\2.jpg"), {"pattern": "{identity}/*.jpg"}),
    ],
)
def test_an_archive_whose_folders_end_in_backslashes_is_read(tmp_path, names, options):
    root = tmp_path / "set.zip"
    image = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(image, "png")
    with zipfile.ZipFile(root, "w") as archive:
        for name in names:
            archive.writestr(name, image.getvalue())

    records = read_folder(root, **options)

    assert [record.identity for record in records] == ["rex", "tom"]
    assert records[0].path.endswith("rex/1.jpg")
    assert load_image(records[0].path).getpixel((0, 0)) == (255, 0, 0)


def test_names_in_utf8_that_are_not_marked_are_read(tmp_path):
    root = tmp_path / "set.zip"
    image = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(image, "png")
    with zipfile.ZipFile(root, "w") as archive:
        archive.writestr("caf\u00e9/1.png", image.getvalue())
        archive.writestr("rex/2.png", image.getvalue())

    content = bytearray(root.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.index(signature) + place
        content[start : start + 2] = b"\0\0"  # no flag of UTF-8
    root.write_bytes(content)
    assert "caf\u00e9/1.png" not in zipfile.ZipFile(root).namelist()

    records = read_folder(root)
    assert [record.identity for record in records] == ["caf\u00e9", "rex"]
    assert load_image(records[0].path).getpixel((0, 0)) == (255, 0, 0)


def test_backslashes_do_not_lead_out_of_an_archive(tmp_path):
    root = pack(tmp_path / "set.zip", r"rex\1.jpg", r"..\tom\2.jpg")
    with pytest.warns(UserWarning, match=r"lead out of it are not read: \.\./tom/2\.jpg"):
        assert len(read_folder(root)) == 1


@pytest.mark.parametrize("options", [{}, {"pattern": "{identity}/*.jpg"}])
def test_links_to_nothing_in_many_folders_are_one_warning(tmp_path, options):
    trees.fill(tmp_path, *(f"id{number}/1.jpg" for number in range(20)))
    for number in range(20):
        (tmp_path / f"id{number}" / "night").symlink_to("/an/unmounted/disk")

    with pytest.warns(UserWarning, match="links that lead nowhere are left out: id0") as found:
        assert len(read_folder(tmp_path, **options)) == 20
    assert len(found) == 1
