import pytest
import trees

from clipreid_kit.data import read_hands11k


def test_all_aspects_without_accessories(tmp_path):
    records = read_hands11k(trees.hands11k(tmp_path), counts="ignore")

    # The id of the second is written with a space after it.
    assert [(record.identity, record.view, record.path[-5]) for record in records] == [
        (0, "dorsal_r", "2"),
        (1200000, "dorsal_r", "4"),
        (7, "dorsal_l", "6"),
        (0, "palmar_l", "3"),
    ]


def test_further_columns_are_extra(tmp_path):
    records = read_hands11k(trees.hands11k(tmp_path), counts="ignore")

    further = {"age": "27", "gender": "male", "skinColor": "fair", "nailPolish": "0"}
    assert records[0].extra == further
    assert "age" not in records[2].extra  # its cell is empty


def test_chosen_aspects_with_accessories(tmp_path):
    records = read_hands11k(
        trees.hands11k(tmp_path),
        aspects=("palmar_l", "dorsal_r"),
        accessories=True,
        counts="raise",
    )

    assert [(record.identity, record.view) for record in records] == [
        (0, "palmar_l"),
        (0, "dorsal_r"),
        (1200000, "dorsal_r"),
        (1200000, "dorsal_r"),
    ]


def test_official_numbers_are_those_of_an_aspect(tmp_path):
    message = (
        r"dorsal_r has 2 images of 2 identities, officially 2004 images of 143 identities\. Results"
    )
    with pytest.raises(ValueError, match=message):
        read_hands11k(trees.hands11k(tmp_path), aspects=["dorsal_r"], counts="raise")


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("aspects", "problem"),
    [
        ("dorsal_r", r"One aspect: aspects=\('dorsal_r',\)"),
        ((), "a sequence of names"),
        (("left",), "one of dorsal_r, "),
    ],
)
def test_wrong_aspects_are_explained(tmp_path, aspects, problem):
    with pytest.raises(ValueError, match=problem):
        read_hands11k(trees.hands11k(tmp_path), aspects=aspects)


@pytest.mark.parametrize(
    "row",
    [
        "x,27,male,fair,0,0,dorsal right,Hand_0000002.jpg",
        "1,27,male,fair,0,0,left foot,Hand_0000002.jpg",
        "1,27,male,fair,0,0,dorsal right,",
        "1,27",
    ],
)
def test_a_row_that_lacks_a_value_is_named(tmp_path, row):
    base = trees.hands11k(tmp_path, [row])
    with pytest.raises(ValueError, match=r"read_hands11k: row 2 of HandInfo\.csv is .*; expected"):
        read_hands11k(base)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("id,aspectOfHand", "no column accessories, imageName; its columns are id, aspectOfHand"),
        ("", "no column id, accessories, imageName, aspectOfHand; its columns are none"),
    ],
)
def test_missing_columns_are_named(tmp_path, header, problem):
    base = trees.hands11k(tmp_path, [], header=header)
    with pytest.raises(ValueError, match=rf"HandInfo\.csv has {problem}"):
        read_hands11k(base)
