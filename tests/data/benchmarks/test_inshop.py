import shutil
import zipfile

import pytest
import trees

from clipreid_kit.data import check_files, read_inshop


def test_fields_come_from_the_list_and_the_names(tmp_path):
    records = read_inshop(trees.inshop(tmp_path), counts="ignore")
    assert [(r.identity, r.view, r.split) for r in records] == [
        ("id_00000002", "front", "train"),
        ("id_00000002", "back", "train"),
        ("id_00000080", "full", "query"),
        ("id_00000080", "additional", "gallery"),
    ]
    assert records[0].extra == {"sex": "WOMEN", "category": "Dresses", "variant": "02"}
    assert records[0].path == f"{tmp_path}/inshop/Img/img/WOMEN/Dresses/id_00000002/02_1_front.jpg"


def test_images_beside_the_list_and_in_the_archive_that_is_downloaded(tmp_path):
    beside = trees.inshop(tmp_path, images="")
    expected = [r.identity for r in read_inshop(beside, counts="ignore")]
    with zipfile.ZipFile(beside / "img.zip", "w") as archive:
        for file in (beside / "img").rglob("*.jpg"):
            archive.write(file, file.relative_to(beside).as_posix())
    shutil.rmtree(beside / "img")
    records = read_inshop(beside, counts="ignore")
    assert [r.identity for r in records] == expected
    assert records[0].path == f"{beside}/img.zip::img/WOMEN/Dresses/id_00000002/02_1_front.jpg"
    check_files(records)


def test_an_archive_in_an_archive_is_refused(tmp_path):
    base = trees.inshop(tmp_path)
    shutil.rmtree(base / "Img")
    trees.pack(base / "Eval", base / "img.zip")
    with pytest.raises(
        ValueError, match=r"got an archive in an archive: .*\. Unpack the outer archive"
    ):
        read_inshop(trees.pack(base, tmp_path / "all.zip"))


def test_other_file_names_leave_the_view_unknown(tmp_path):
    (record,) = read_inshop(
        trees.inshop(tmp_path, [("img/a.jpg", "id_1", "train")]), counts="ignore"
    )
    assert (record.view, record.extra) == (None, {})


@pytest.mark.parametrize(
    ("rows", "count", "problem"),
    [
        (
            trees.INSHOP_ROWS,
            5,
            r"5 rows in .*list_eval_partition\.txt, as its first line says, got 4",
        ),
        (trees.INSHOP_ROWS, "x", "the number of rows, then a header, in .*, got 'x' first"),
        (
            [("img/a.jpg", "id_1", "test")],
            1,
            r"rows of <image> <item> train\|query\|gallery in .*, got 'img/a.jpg id_1 test'",
        ),
        ([("img/a.jpg", "id_1")], 1, "rows of <image> <item>"),
    ],
)
def test_a_bad_list_is_explained(tmp_path, rows, count, problem):
    with pytest.raises(ValueError, match=f"read_inshop: expected {problem}"):
        read_inshop(trees.inshop(tmp_path, rows, count))


def test_an_empty_list_is_explained(tmp_path):
    base = trees.inshop(tmp_path)
    trees.write(base, "Eval/list_eval_partition.txt", "\n")
    with pytest.raises(ValueError, match="got an empty file"):
        read_inshop(base)
