import torch

from clipreid_kit.data.mining._row_groups import RowGroups, number_groups

_LABELS = torch.tensor([5, 7, 5, 9])
_CAPTIONS = ["A  b", "x", None, " a B"]


def groups():
    return RowGroups(number_groups("test", 4, _LABELS, _CAPTIONS), torch.device("cpu"))


def test_captions_are_numbered_without_case_and_spacing():
    kinds = number_groups("test", 4, None, ["b  c", "x", "B C", "x"])

    assert kinds[1].tolist() == [0, 1, 0, 1]


def test_rows_without_a_caption_share_it_with_no_row():
    kinds = number_groups("test", 4, None, [None, None, "a", "A"])

    assert kinds[1].tolist() == [0, 1, 2, 2]


def test_pairs_are_those_of_one_group():
    rows = torch.tensor([0, 2])
    position, member = groups().pairs(rows)
    pairs = set(zip(rows[position].tolist(), member.tolist(), strict=True))

    assert pairs == {(0, 0), (0, 2), (0, 3), (2, 2), (2, 0)}


def test_rows_of_an_identity_or_a_caption_share_a_group():
    rows, columns = torch.tensor([0, 0, 0, 1]), torch.tensor([2, 3, 1, 1])

    assert groups().share_group(rows, columns).tolist() == [True, True, False, True]


def test_the_largest_groups_of_all_kinds_are_added():
    assert groups().largest == 1 + 2 + 2


def test_excluded_pairs_of_a_tile_are_minus_infinity():
    tile = torch.zeros(2, 3)
    groups().exclude(tile, top=2, left=1)

    # Rows 2 and 3 against rows 1, 2 and 3: each with itself alone.
    assert tile.isinf().tolist() == [[False, True, False], [False, False, True]]
