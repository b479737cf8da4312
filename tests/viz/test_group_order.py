from clipreid_kit.viz._group_order import in_natural_order


def test_numbers_come_first_by_value():
    assert in_natural_order(["b", "10", "9", "aa", "9", "-1", "²"]) == [
        "9",
        "10",
        "-1",
        "aa",
        "b",
        "²",
    ]
    assert in_natural_order([]) == []
