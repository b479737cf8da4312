import zipfile
from pathlib import Path

import pytest
import trees

from clipreid_kit.data.files.file_tree import is_image, locate, open_tree


@pytest.fixture
def folder(tmp_path):
    return trees.fill(
        tmp_path / "set",
        "b/2.jpg",
        "b/1.jpg",
        "b-a/x.jpg",
        "a.txt",
        ".git/x.jpg",
        "b/.hidden.jpg",
        "b0/y.jpg",
    )


def test_names_are_sorted_and_hidden_folders_are_left_out(folder):
    assert open_tree("x", folder, "anything").names == (
        "a.txt",
        "b-a/x.jpg",
        "b/.hidden.jpg",
        "b/1.jpg",
        "b/2.jpg",
        "b0/y.jpg",
    )


def test_the_files_below_a_folder(folder):
    tree = open_tree("x", folder, "anything")

    assert tree.below("b") == ("b/.hidden.jpg", "b/1.jpg", "b/2.jpg")
    assert tree.images("b") == ["b/1.jpg", "b/2.jpg"]
    assert tree.below("c") == tree.below("a.txt") == ()


def test_paths_begin_with_the_folder_or_the_archive(folder, tmp_path):
    packed = trees.pack(folder, tmp_path / "set.zip")

    assert open_tree("x", folder, "").path("b/1.jpg") == f"{folder}/b/1.jpg"
    assert open_tree("x", packed, "").path("set/b/1.jpg") == f"{packed}::set/b/1.jpg"


def test_files_that_macos_adds_to_an_archive_are_left_out(folder, tmp_path):
    with zipfile.ZipFile(trees.pack(folder, tmp_path / "set.zip"), "a") as archive:
        archive.writestr("__MACOSX/set/b/1.jpg", "")

    names = open_tree("x", tmp_path / "set.zip", "anything").names
    assert "set/b/1.jpg" in names
    assert not any("MACOSX" in name for name in names)


def test_links_are_followed_but_not_in_circles(tmp_path):
    trees.fill(tmp_path / "store", "x/1.jpg")
    base = trees.fill(tmp_path / "set", "in/2.jpg")
    (base / "linked").symlink_to(tmp_path / "store", target_is_directory=True)
    (base / "in" / "up").symlink_to(base, target_is_directory=True)

    assert open_tree("x", base, "it").names == ("in/2.jpg", "linked/x/1.jpg")


@pytest.fixture(params=["folder", "archive"])
def text_tree(request, tmp_path):
    base = tmp_path / "set"
    trees.write(base, "a.txt", "\ufeffcaf\u00e9")
    (base / "b.txt").write_bytes(b"\xff")
    if request.param == "folder":
        return open_tree("x", base, "")

    tree, _ = locate("x", trees.pack(base, tmp_path / "s.zip"), [("a.txt",)], "it")
    return tree


def test_text_and_bytes_are_read(text_tree):
    assert text_tree.text("x", "a.txt") == "caf\u00e9"
    assert text_tree.read("x", "b.txt") == b"\xff"


def test_text_in_another_encoding_is_an_error(text_tree):
    with pytest.raises(ValueError, match=r"x: cannot read .*b\.txt: it is not UTF-8 text"):
        text_tree.text("x", "b.txt")


def test_a_missing_file_is_an_error(text_tree):
    with pytest.raises(
        ValueError, match=r"x: cannot read .*c\.txt: (there is|the archive has) no such"
    ):
        text_tree.read("x", "c.txt")


def test_the_nearest_folder_that_has_everything_is_found(tmp_path):
    trees.fill(
        tmp_path, "one/a/1.jpg", "two/in/a/2.jpg", "two/in/b.txt", "x/y/z/a/1.jpg", "x/y/z/b.txt"
    )
    tree, found = locate("x", tmp_path, [("a",), ("c.txt", "b.txt")], "a and b")

    assert found == ["a", "b.txt"]
    assert tree.names == ("a/2.jpg", "b.txt")
    assert tree.path("a/2.jpg") == f"{tmp_path}/two/in/a/2.jpg"


def test_folders_more_than_two_levels_down_are_not_searched(tmp_path):
    deep = trees.fill(tmp_path / "x", "y/z/w/a/1.jpg", "y/z/w/b.txt")

    message = r"x: expected a and b in .*x, found y/; missing: a, c\.txt or b\.txt\. Pass"
    with pytest.raises(ValueError, match=message):
        locate("x", deep, [("a",), ("c.txt", "b.txt")], "a and b")


def test_the_error_is_about_the_folder_that_has_most(tmp_path):
    trees.fill(tmp_path, "set/a/1.jpg", "set/b.txt", *(f"more{n}/1.jpg" for n in range(7)))

    message = r"found more0/, .*, more5/, \.\.\.; missing: c\.txt\. Pass"
    with pytest.raises(ValueError, match=message):
        locate("x", tmp_path, [("a",), ("b.txt",), ("c.txt",)], "it")


def test_the_name_of_an_archive_has_to_end_in_zip(tmp_path):
    archive = trees.pack(trees.fill(tmp_path / "set", "a.jpg"), tmp_path / "set.jar")

    message = r"x: the name of a zip archive has to end in \.zip: rename .*set\.jar"
    with pytest.raises(ValueError, match=message):
        open_tree("x", archive, "it")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.JPG", True), ("in/.a.jpg", False), ("a.txt", False), (".x/a.png", True)],
)
def test_is_image(name, expected):
    assert is_image(name) is expected


def test_members_outside_the_archive_are_named_and_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        for name in ("rex/1.jpg", "../bo/d1.jpg", "/abs.jpg", "C:/bo/2.jpg", "c:\\bo\\3.jpg"):
            pack.writestr(name, "")
    with pytest.warns(
        UserWarning, match=r"members whose names lead out of it are not read: \.\./bo"
    ):
        tree = open_tree("x", tmp_path / "a.zip", "it")
    assert tree.names == ("rex/1.jpg",)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_of_several_members_of_one_name_is_read_and_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        pack.writestr("rex/1.txt", "old")
        pack.writestr("rex/1.txt", "new")
    with pytest.warns(UserWarning, match=r"the last of several members of one name is read: rex/1"):
        tree = open_tree("x", tmp_path / "a.zip", "it")
    assert tree.names == ("rex/1.txt",)
    assert tree.text("x", "rex/1.txt") == "new"


def test_links_to_nothing_are_named(tmp_path):
    trees.fill(tmp_path, "rex/1.jpg")
    (tmp_path / "rex" / "2.jpg").symlink_to("nothing.jpg")
    (tmp_path / "tom").symlink_to("/an/unmounted/disk")

    with pytest.warns(UserWarning, match=r"links that lead nowhere are left out: tom\.") as found:
        tree = open_tree("reader", tmp_path, "images")
    assert len(found) == 1
    assert tree.images("rex") == ["rex/1.jpg", "rex/2.jpg"]  # an image is missed where it is read


@pytest.mark.parametrize("above", ["", "dogs/", "./"])
def test_hidden_folders_of_an_archive_are_left_out_as_on_disk(tmp_path, above):
    names = [f"{above}rex/1.jpg", f"{above}rex/.thumbs/1.jpg"]
    assert open_tree("reader", pack(tmp_path / "a.zip", *names), "images").names == (names[0],)


def test_an_archive_of_a_hidden_folder_is_read(tmp_path):
    file = pack(tmp_path / "a.zip", ".dogs/rex/1.jpg")
    assert open_tree("reader", file, "images").names == (".dogs/rex/1.jpg",)


def test_a_folder_that_may_not_be_looked_at_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ValueError, match=r"^reader: cannot read .*PermissionError"):
        open_tree("reader", tmp_path, "images")


def pack(file, *names):
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return file
