import pytest

from clipreid_kit.data.files.near_names import plain_name


@pytest.mark.parametrize(
    "other",
    [
        " rex",
        "REX",
        "r\u200bex",
        "\uff52ex",
        "rex\n",
        "\ufeffrex",
        "'rex'",
        "\u201crex\u201d",
        "r\u0435\u0445",  # Cyrillic letters
        "R\u0395\u03a7",  # Greek capitals
    ],
)
def test_names_that_read_alike_have_one_plain_name(other):
    assert plain_name(other) == plain_name("rex")


@pytest.mark.parametrize("other", [7, "7", "007", "7.0", " 7 ", "+7", "+7.0", "7.", "7e0", "0.7e1"])
def test_numbers_have_one_plain_name(other):
    assert plain_name(other) == "7"


@pytest.mark.parametrize(
    ("first", "second"), [("rex", "tom"), ("a1", "a01"), ("0", "00a"), ("-1", "1")]
)
def test_other_names_stay_apart(first, second):
    assert plain_name(first) != plain_name(second)


def test_zero_stays_zero():
    assert plain_name("000") == "0"


def test_signs_count_but_not_that_of_zero():
    assert plain_name("-0") == plain_name("0")
    assert plain_name("-07.0") == plain_name("-7") != plain_name("7")


def test_hyphens_have_one_plain_name():
    hyphens = ("-", "\u2010", "\u2011", "\u2013")
    assert len({plain_name(f"rex{hyphen}1") for hyphen in hyphens}) == 1


def test_numbers_with_exponents_and_separators_are_numbers():
    assert plain_name("1e3") == plain_name("1,000") == plain_name("+1.0E+03") == "1000"
    assert plain_name("1e99") == "1" + 99 * "0"


@pytest.mark.parametrize("name", ["1e3a", "1,00", "12e", "1.5e0", "1e999999999"])
def test_what_is_no_whole_number_stays(name):
    assert plain_name(name) == name
