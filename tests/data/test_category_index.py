import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import CategoryIndex, ImageRecord

VIEWS = st.text("ab01", min_size=1, max_size=2)
VALUES = {"view": VIEWS, "modality": VIEWS, "camera": st.integers(0, 20) | VIEWS}


def records(values, field="camera"):
    return [ImageRecord(f"{i}.jpg", i, **{field: value}) for i, value in enumerate(values)]


@given(st.data(), st.sampled_from(["camera", "view", "modality"]))
def test_training_images_have_the_numbers_from_zero(data, field):
    train = data.draw(st.lists(VALUES[field], min_size=1))
    index = CategoryIndex(records(train, field), field)

    numbers = index.of(records(train, field)).tolist()
    assert len(index) == len(set(train))
    assert set(numbers) == set(range(len(index)))
    assert len(set(zip(train, numbers, strict=True))) == len(index)


@given(st.data(), st.sampled_from(["camera", "view", "modality"]))
def test_other_images_have_those_numbers_or_minus_one(data, field):
    train = data.draw(st.lists(VALUES[field], min_size=1))
    test = data.draw(st.lists(VALUES[field]))
    index = CategoryIndex(records(train, field), field)

    expected = [index.known[value] if value in train else -1 for value in test]
    assert index.of(records(test, field)).tolist() == expected


def test_the_order_is_that_of_the_names():
    values = ["gate", 3, "yard", 1, "1", "3"]  # the integer 1 comes before the string "1"
    expected = {1: 0, "1": 1, 3: 2, "3": 3, "gate": 4, "yard": 5}

    assert CategoryIndex(records(values), "camera").known == expected
    assert CategoryIndex(records(values[::-1]), "camera").known == expected


def test_no_records_have_no_numbers():
    index = CategoryIndex(records([1]), "camera")
    assert index.of([]).shape == (0,)


def test_the_repr_is_one_line():
    index = CategoryIndex(records([1, 2, 2]), "camera")
    assert repr(index) == "CategoryIndex(field='camera', num_known=2)"


def test_images_without_a_camera_are_named():
    message = r"CategoryIndex: 2 of 3 training images have no camera \(1\.jpg, \.\.\.\)"
    with pytest.raises(ValueError, match=message):
        CategoryIndex(records([1, None, None]), "camera")


def test_no_images_are_an_error():
    with pytest.raises(ValueError, match="CategoryIndex: there are no records"):
        CategoryIndex([], "view")


@pytest.mark.unhooked
def test_another_field_is_an_error():
    with pytest.raises(ValueError, match="expected field to be one of camera, view"):
        CategoryIndex(records([1]), "identity")
