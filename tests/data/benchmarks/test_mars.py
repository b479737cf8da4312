import pytest
import trees
from matlab_files import matlab_file, matlab_matrix

from clipreid_kit.data import read_mars, tracklet_rows


def summary(records):
    """Split, identity, camera and number of frames of each tracklet."""
    found = []
    for rows in tracklet_rows(records):
        first = records[rows[0]]
        assert [records[row].frame for row in rows] == list(range(len(rows)))
        found.append((first.split, first.identity, first.camera, first.tracklet, len(rows)))
    return found


TRAIN = [
    ("train", 1, 1, "train_00001", 3),
    ("train", 1, 2, "train_00002", 2),
    ("train", 3, 6, "train_00003", 1),
]
QUERY = ("query", 2, 1, "test_00003", 2)
DISTRACTOR = ("gallery", 0, 1, "test_00002", 2)
MATCH = ("gallery", 2, 3, "test_00004", 3)
JUNK = ("gallery", -1, 1, "test_00001", 2)


def test_tracklets_of_all_splits(tmp_path):
    base = trees.mars(tmp_path)
    records = read_mars(base, counts="ignore")

    assert summary(records) == [*TRAIN, QUERY, DISTRACTOR, MATCH]
    assert records[0].path == f"{base}/bbox_train/0001/0001C1T0001F001.jpg"


def test_junk_is_kept_if_asked_for(tmp_path):
    records = read_mars(trees.mars(tmp_path), junk=True, counts="ignore")
    assert summary(records) == [*TRAIN, QUERY, JUNK, DISTRACTOR, MATCH]


def test_queries_may_be_in_the_gallery_as_well(tmp_path):
    base = trees.mars(tmp_path)
    records = read_mars(base, queries_in_gallery=True, counts="ignore")
    of_gallery = [record for record in records if record.split == "gallery"]

    assert summary(of_gallery) == [DISTRACTOR, ("gallery", *QUERY[1:]), MATCH]


def test_official_numbers(tmp_path):
    message = "train has 6 images of 2 identities, officially 509914 images of 625 identities"
    with pytest.raises(ValueError, match=message):
        read_mars(trees.mars(tmp_path), counts="raise")


def rewrite(base, file, *rows):
    table = matlab_file(matlab_matrix("table", list(rows)))
    (base / "info" / file).write_bytes(table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, 9, 1, 1], r"tracklet 1 of .* is of the rows 1 to 9, and .*train_name\.txt has 6\."),
        ([0, 1, 1, 1], "tracklet 1 of .* is of the rows 0 to 1"),
        ([3, 2, 1, 1], "tracklet 1 of .* is of the rows 3 to 2"),
        ([1, 4, 1, 1], r"tracklet 1 .* is of identity 1 before camera 1, and its .*C2T0001F001"),
        ([1, 2, 3, 1], r"tracklet 1 .* is of identity 3 before camera 1, and its image 0001C1T"),
        ([1, 2, 1], "has 3 columns; expected first row, last row, identity and camera"),
    ],
)
def test_tables_that_do_not_belong_to_the_lists(tmp_path, row, message):
    base = trees.mars(tmp_path)
    rewrite(base, "tracks_train_info.mat", row)
    with pytest.raises(ValueError, match=f"^read_mars: .*{message}"):
        read_mars(base)


def test_a_query_that_is_no_tracklet(tmp_path):
    base = trees.mars(tmp_path, queries=[3, 5])
    with pytest.raises(ValueError, match=r"query_IDX\.mat names tracklet 5, and .* has 4"):
        read_mars(base)


def test_a_name_of_another_form(tmp_path):
    base = trees.mars(tmp_path)
    names = base / "info/train_name.txt"
    names.write_text(names.read_text().replace("0003C6T0001F001.jpg", "0003_c6.jpg"))
    trees.fill(base, "bbox_train/0003/0003_c6.jpg")

    with pytest.raises(ValueError, match=r"the image '0003_c6\.jpg' of tracklet 3 .* is not named"):
        read_mars(base)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read info/query_IDX.mat: it is no MATLAB file of level 5"),
        (matlab_file(), r"has to hold one matrix, and holds 0 \(none\)"),
        (matlab_file(*[matlab_matrix(n, [1]) for n in "ab"]), r"holds 2 \(a, b\)"),
    ],
)
def test_a_damaged_table(tmp_path, content, message):
    base = trees.mars(tmp_path)
    (base / "info/query_IDX.mat").write_bytes(content)
    with pytest.raises(ValueError, match=f"^read_mars: .*{message}.*Download it again"):
        read_mars(base)
