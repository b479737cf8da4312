import re

import pytest
import torch

from clipreid_kit import _checks
from clipreid_kit._checks import fail, shown


def test_the_error_names_owner_expected_value_actual_value_and_remedy():
    error = _checks.fail("Owner", "an apple", "a pear", "Look in the other basket.")
    assert isinstance(error, ValueError)
    assert str(error) == "Owner: expected an apple, got a pear. Look in the other basket."
    assert str(_checks.fail("Owner", "one", 2)) == "Owner: expected one, got 2."


def test_the_error_is_one_line_whatever_the_names_in_it():
    error = fail("owner", "a text for every key", "null for a\r\nb\u2028c")
    assert str(error) == r"owner: expected a text for every key, got null for a\r\nb\u2028c."


def test_describe_names_shape_dtype_and_device():
    assert _checks.describe(torch.zeros(2, 3).half()) == "shape (2, 3), float16 on cpu"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_check_finite(value):
    with pytest.raises(ValueError, match="width as a finite number"):
        _checks.check_finite("Owner", "width", value)
    _checks.check_finite("Owner", "width", -3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1])
def test_check_positive(value):
    with pytest.raises(ValueError, match="width > 0"):
        _checks.check_positive("Owner", "width", value)
    _checks.check_positive("Owner", "width", 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1])
def test_check_at_least(value):
    with pytest.raises(ValueError, match="rows >= 2"):
        _checks.check_at_least("Owner", "rows", value, 2)
    _checks.check_at_least("Owner", "rows", 2, 2)


@pytest.mark.unhooked
@pytest.mark.parametrize("value", ["0.1", None, True, torch.tensor(0.1), [0.1]])
@pytest.mark.parametrize(
    "check",
    [
        lambda value: _checks.check_finite("Owner", "width", value),
        lambda value: _checks.check_positive("Owner", "width", value),
        lambda value: _checks.check_at_least("Owner", "width", value, 0),
        lambda value: _checks.check_fraction("Owner", "width", value),
        lambda value: _checks.check_integer("Owner", "width", value, 0),
    ],
)
def test_a_number_of_another_type_is_an_error(check, value):
    with pytest.raises(ValueError, match=r"Owner: expected width as a (whole )?number"):
        check(value)


@pytest.mark.parametrize("value", [-0.1, 1, float("nan"), float("inf")])
def test_check_fraction(value):
    with pytest.raises(ValueError, match=r"width in \[0, 1\)"):
        _checks.check_fraction("Owner", "width", value)
    _checks.check_fraction("Owner", "width", 0)


def test_check_dense():
    _checks.check_dense("Owner", "rows", torch.eye(2))

    with pytest.raises(
        ValueError, match=r"Owner: expected rows as a dense tensor, got sparse_coo\. Use to_dense"
    ):
        _checks.check_dense("Owner", "rows", torch.eye(2).to_sparse())

    with pytest.raises(ValueError, match="rows as a dense tensor, got a meta tensor"):
        _checks.check_dense("Owner", "rows", torch.eye(2, device="meta"))


def test_a_nested_tensor_is_not_dense():
    rows = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(1, 3)], layout=torch.jagged)

    with pytest.raises(
        ValueError, match=r"rows as a dense tensor, got a nested tensor\. Pad its rows"
    ):
        _checks.check_dense("Owner", "rows", rows)
    assert _checks.describe(rows) == "a nested shape, float32 on cpu"


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (torch.zeros(2), "labels as 2 integers, one for each row, got shape (2,), float32"),
        (
            torch.tensor([True, False]),
            "labels as 2 integers, one for each row, got shape (2,), bool",
        ),
        (
            torch.zeros(3, dtype=torch.long),
            "labels as 2 integers, one for each row, got shape (3,)",
        ),
        (
            torch.zeros(2, dtype=torch.uint64),
            "labels as 2 integers, one for each row, got shape (2,), uint64",
        ),
        (torch.zeros(2, dtype=torch.long).to_sparse(), "labels as a dense tensor, got sparse_coo"),
        (torch.zeros(2, dtype=torch.long, device="meta"), "labels as a dense tensor, got a meta"),
        ([0, 1], "labels as a tensor of integers, got list. Use torch.as_tensor"),
    ],
    ids=["floating", "bool", "too many", "uint64", "sparse", "meta", "list"],
)
def test_check_labels(labels, error):
    with pytest.raises(ValueError, match=re.escape(f"Owner: expected {error}")):
        _checks.check_labels("Owner", "labels", labels, 2)


def test_check_labels_compares_devices():
    labels = torch.tensor([0, 1])
    _checks.check_labels("Owner", "labels", labels, 2, torch.device("cpu"))

    with pytest.raises(ValueError, match=r"labels on meta, as the embeddings are, got cpu\. Move"):
        _checks.check_labels("Owner", "labels", labels, 2, torch.device("meta"))


def test_check_label_range():
    _checks.check_label_range("Owner", torch.tensor([0, 4]), 5)
    _checks.check_label_range("Owner", torch.tensor([], dtype=torch.long), 5)

    with pytest.raises(
        ValueError, match=r"labels in \[0, 5\), got labels from -1 to 1. Number the tr"
    ):
        _checks.check_label_range("Owner", torch.tensor([1, -1]), 5)
    with pytest.raises(ValueError, match=r"cameras in \[0, 5\), got cameras from 0 to 5. From 0"):
        _checks.check_label_range("Owner", torch.tensor([0, 5]), 5, "From 0.", name="cameras")


def test_label_values_are_not_read_inside_a_transform():
    def sum_of_checked(labels):
        assert _checks.inside_a_transform()
        _checks.check_label_range("Owner", labels, 5)
        return labels.sum()

    assert not _checks.inside_a_transform()
    assert torch.func.vmap(sum_of_checked)(torch.tensor([[7, 7]])).tolist() == [14]


def test_check_seed():
    _checks.check_seed("Owner", 2**63 - 1)
    with pytest.raises(ValueError, match=r"Owner: expected seed below 2\^63"):
        _checks.check_seed("Owner", 2**63)


def test_check_same_width_compares_devices():
    with pytest.raises(ValueError, match="a and b on one device, got cpu and meta"):
        _checks.check_same_width(
            "Owner", "a", torch.zeros(2, 3), "b", torch.zeros(2, 3, device="meta")
        )


class TestShownValues:
    def nested(self, levels):
        value = ["x"] * 9
        for _ in range(levels):
            value = [value] * 9
        return value

    def test_a_value_that_would_fill_the_memory_is_cut(self):
        assert len(shown(self.nested(9))) < 300
        assert len(str(fail("f", "a list", self.nested(9)))) < 300
        assert len(str(fail("f", "a list", {"a": self.nested(9)}))) < 300

    def test_an_integer_of_many_digits_is_described(self):
        assert shown(10**5000) == "an integer of 16610 bits"
        assert shown([10**5000]) == "[an integer of 16610 bits]"

    def test_a_long_text_is_cut_in_its_middle(self):
        text = shown("a" * 500 + "b" * 500)
        assert text.startswith("'aaa")
        assert text.endswith("bbb'")
        assert len(text) < 300

    def test_a_long_text_in_an_error_is_cut(self):
        assert len(str(fail("f", "x" * 10**6, "y" * 10**6))) < 5000

    @pytest.mark.parametrize("value", [1, 1.5, "a", None, [1, "a"], {"b": 1, "a": 2}, (1,), True])
    def test_short_values_are_as_repr_writes_them(self, value):
        assert shown(value) == repr(value)
