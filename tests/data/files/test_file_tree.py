import zipfile

import pytest
import trees

from clipreid_kit.data.files.file_tree import is_image, locate, open_tree


def test_names_are_sorted_and_hidden_folders_left_out(tmp_path):
    base = trees.fill(
        tmp_path / "set",
        "b/2.jpg",
        "b/1.jpg",
        "b-a/x.jpg",
        "a.txt",
        ".git/x.jpg",
        "b/.hidden.jpg",
        "b0/y.jpg",
    )
    tree = open_tree("x", base, "anything")
    assert tree.names == ("a.txt", "b-a/x.jpg", "b/.hidden.jpg", "b/1.jpg", "b/2.jpg", "b0/y.jpg")
    assert tree.below("b") == ("b/.hidden.jpg", "b/1.jpg", "b/2.jpg")
    assert tree.images("b") == ["b/1.jpg", "b/2.jpg"]
    assert tree.below("c") == tree.below("a.txt") == ()
    assert tree.path("b/1.jpg") == f"{base}/b/1.jpg"
    with zipfile.ZipFile(trees.pack(base, tmp_path / "set.zip"), "a") as archive:
        archive.writestr("__MACOSX/set/b/1.jpg", "")
    packed = open_tree("x", tmp_path / "set.zip", "anything")
    assert "set/b/1.jpg" in packed.names
    assert not any("MACOSX" in name for name in packed.names)


def test_links_are_followed_but_not_in_circles(tmp_path):
    trees.fill(tmp_path / "store", "x/1.jpg")
    base = trees.fill(tmp_path / "set", "in/2.jpg")
    (base / "linked").symlink_to(tmp_path / "store", target_is_directory=True)
    (base / "in" / "up").symlink_to(base, target_is_directory=True)
    assert open_tree("x", base, "it").names == ("in/2.jpg", "linked/x/1.jpg")


def test_text_and_bytes_of_both_kinds(tmp_path):
    base = tmp_path / "set"
    trees.write(base, "a.txt", "\ufeffcaf\u00e9")
    (base / "b.txt").write_bytes(b"\xff")
    for tree in (
        open_tree("x", base, ""),
        locate("x", trees.pack(base, tmp_path / "s.zip"), [("a.txt",)], "it")[0],
    ):
        assert tree.text("x", "a.txt") == "caf\u00e9"
        assert tree.read("x", "b.txt") == b"\xff"
        with pytest.raises(ValueError, match=r"x: expected .*b\.txt as UTF-8 text"):
            tree.text("x", "b.txt")
        with pytest.raises(
            ValueError, match=r"x: expected to read .*c\.txt, got (FileNotFound|Key)Error"
        ):
            tree.read("x", "c.txt")


def test_the_nearest_folder_that_has_everything_is_found(tmp_path):
    trees.fill(
        tmp_path, "one/a/1.jpg", "two/in/a/2.jpg", "two/in/b.txt", "x/y/z/a/1.jpg", "x/y/z/b.txt"
    )
    tree, found = locate("x", tmp_path, [("a",), ("c.txt", "b.txt")], "a and b")
    assert found == ["a", "b.txt"]
    assert tree.names == ("a/2.jpg", "b.txt")
    assert tree.path("a/2.jpg") == f"{tmp_path}/two/in/a/2.jpg"
    deep = trees.fill(tmp_path / "deep" / "x", "y/z/w/a/1.jpg", "y/z/w/b.txt")
    with pytest.raises(
        ValueError,
        match=r"x: expected a and b in .*x, got y/ there, without a, c\.txt or b\.txt\. Give",
    ):
        locate("x", deep, [("a",), ("c.txt", "b.txt")], "a and b")


def test_the_error_is_about_the_folder_that_has_most(tmp_path):
    trees.fill(tmp_path, "set/a/1.jpg", "set/b.txt", *(f"more{n}/1.jpg" for n in range(7)))
    with pytest.raises(
        ValueError, match=r"got more0/, .*, more5/, \.\.\. there, without c\.txt\. Give"
    ):
        locate("x", tmp_path, [("a",), ("b.txt",), ("c.txt",)], "it")


def test_an_archive_must_be_named_so(tmp_path):
    archive = trees.pack(trees.fill(tmp_path / "set", "a.jpg"), tmp_path / "set.jar")
    with pytest.raises(ValueError, match=r"a zip archive whose name ends in \.zip, got .*set\.jar"):
        open_tree("x", archive, "it")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.JPG", True), ("in/.a.jpg", False), ("a.txt", False), (".x/a.png", True)],
)
def test_what_an_image_is(name, expected):
    assert is_image(name) is expected
