import pytest
import trees

from clipreid_kit.data import read_hands11k, read_polyu_hands


def test_aspects_accessories_and_the_stray_blank(tmp_path):
    records = read_hands11k(trees.hands11k(tmp_path), counts="ignore")
    assert [(r.identity, r.view, r.path[-5]) for r in records] == [
        (0, "dorsal_r", "2"),
        (1200000, "dorsal_r", "4"),
        (7, "dorsal_l", "6"),
        (0, "palmar_l", "3"),
    ]
    assert records[0].extra == {
        "age": "27",
        "gender": "male",
        "skinColor": "fair",
        "nailPolish": "0",
    }
    assert "age" not in records[2].extra


def test_chosen_aspects_and_with_accessories(tmp_path):
    base = trees.hands11k(tmp_path)
    records = read_hands11k(
        base, aspects=("palmar_l", "dorsal_r"), accessories=True, counts="raise"
    )
    assert [(r.identity, r.view) for r in records] == [
        (0, "palmar_l"), (0, "dorsal_r"), (1200000, "dorsal_r"), (1200000, "dorsal_r"),
    ]  # fmt: skip


def test_official_numbers_are_those_of_an_aspect(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"got dorsal_r: 2 images of 2 identities, officially 2004 images of 143 identities. A",
    ):
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
    ("row", "header"),
    [
        ("x,27,male,fair,0,0,dorsal right,Hand_0000002.jpg", None),
        ("1,27,male,fair,0,0,left foot,Hand_0000002.jpg", None),
        ("1,27,male,fair,0,0,dorsal right,", None),
        ("1,27", None),
        ("1", "id,aspectOfHand"),
        ("", ""),
    ],
)
def test_a_bad_table_is_explained(tmp_path, row, header):
    options = {} if header is None else {"header": header}
    with pytest.raises(ValueError, match=r"read_hands11k: expected .* HandInfo\.csv, got"):
        read_hands11k(trees.hands11k(tmp_path, [row], **options))


def test_polyu_identities_are_numbers_and_distractors_are_nobodys(tmp_path):
    records = read_polyu_hands(trees.polyu_hands(tmp_path), counts="ignore")
    assert [(r.identity, r.split, r.view) for r in records] == [
        (2, "subject", "dorsal_r"),
        (2, "subject", "dorsal_r"),
        (10, "subject", "dorsal_r"),
        (1502, "distractor", "dorsal_r"),
    ]


def test_polyu_with_strays_or_without_images(tmp_path):
    base = trees.polyu_hands(tmp_path)
    trees.fill(base / "Original Images", "1-501/hand.bmp")
    with pytest.raises(
        ValueError, match=r"images named <identity>_\*\.jpg in 1-501, got 1-501/hand\.bmp"
    ):
        read_polyu_hands(base)
    (base / "Original Images" / "1-501" / "hand.bmp").unlink()
    (base / "Original Images" / "502-712" / "502_1.bmp").rename(
        base / "Original Images" / "502-712" / "a.txt"
    )
    with pytest.raises(ValueError, match=r"images in .*502-712, got none"):
        read_polyu_hands(base)
