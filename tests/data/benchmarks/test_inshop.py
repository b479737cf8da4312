import shutil
import zipfile

import pytest
import trees

from clipreid_kit.data import check_files, read_inshop


def test_identities_and_views_come_from_the_list_and_the_names(tmp_path):
    records = read_inshop(trees.inshop(tmp_path), counts="ignore")

    assert [(record.identity, record.view, record.split) for record in records] == [
        ("id_00000002", "front", "train"),
        ("id_00000002", "back", "train"),
        ("id_00000080", "full", "query"),
        ("id_00000080", "additional", "gallery"),
    ]
    assert records[0].extra == {"sex": "WOMEN", "category": "Dresses", "variant": "02"}
    assert records[0].path == f"{tmp_path}/inshop/Img/img/WOMEN/Dresses/id_00000002/02_1_front.jpg"


def test_images_may_be_beside_the_list(tmp_path):
    beside = read_inshop(trees.inshop(tmp_path / "a", images=""), counts="ignore")
    below = read_inshop(trees.inshop(tmp_path / "b"), counts="ignore")

    assert [record.identity for record in beside] == [record.identity for record in below]
    check_files(beside)


def test_images_may_be_in_the_archive_as_it_is_downloaded(tmp_path):
    base = trees.inshop(tmp_path, images="")
    with zipfile.ZipFile(base / "img.zip", "w") as archive:
        for file in (base / "img").rglob("*.jpg"):
            archive.write(file, file.relative_to(base).as_posix())
    shutil.rmtree(base / "img")

    records = read_inshop(base, counts="ignore")
    assert records[0].path == f"{base}/img.zip::img/WOMEN/Dresses/id_00000002/02_1_front.jpg"
    check_files(records)


@pytest.mark.filterwarnings("ignore:read_inshop.*archives inside it are not read")
def test_an_archive_in_an_archive_is_an_error(tmp_path):
    base = trees.inshop(tmp_path)
    shutil.rmtree(base / "Img")
    trees.pack(base / "Eval", base / "img.zip")

    message = r"an archive inside an archive, .*\. Unpack the outer archive"
    with pytest.raises(ValueError, match=message):
        read_inshop(trees.pack(base, tmp_path / "all.zip"))


def test_other_file_names_leave_the_view_unknown(tmp_path):
    base = trees.inshop(tmp_path, [("img/a.jpg", "id_1", "train")])
    (record,) = read_inshop(base, counts="ignore")

    assert (record.view, record.extra) == (None, {})


@pytest.mark.parametrize(
    ("rows", "count", "problem"),
    [
        (
            trees.INSHOP_ROWS,
            5,
            r".*list_eval_partition\.txt has 4 rows, and 5 according to its first line",
        ),
        (trees.INSHOP_ROWS, "x", ".* has to begin with the number of rows and a header, found 'x'"),
        (
            [("img/a.jpg", "id_1", "test")],
            1,
            r"row 3 of .* is 'img/a\.jpg  id_1  test'; expected <image> <item> train\|query",
        ),
        ([("img/a.jpg", "id_1")], 1, "row 3 of .*; expected <image> <item>"),
    ],
)
def test_a_list_of_another_form_is_explained(tmp_path, rows, count, problem):
    with pytest.raises(ValueError, match=f"read_inshop: {problem}"):
        read_inshop(trees.inshop(tmp_path, rows, count))


def test_an_empty_list_is_an_error(tmp_path):
    base = trees.inshop(tmp_path)
    trees.write(base, "Eval/list_eval_partition.txt", "\n")

    with pytest.raises(ValueError, match="found an empty file"):
        read_inshop(base)
