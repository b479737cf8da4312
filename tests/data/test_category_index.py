import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import CategoryIndex, ImageRecord

NAMES = {"view": st.text("ab01", min_size=1, max_size=2)}
NAMES["camera"] = st.one_of(st.integers(0, 20), NAMES["view"])


def records(values, field="camera"):
    return [ImageRecord(f"{i}.jpg", i, **{field: value}) for i, value in enumerate(values)]


@given(st.data(), st.sampled_from(["camera", "view"]))
def test_numbers_are_those_of_training(data, field):
    train, test = data.draw(st.lists(NAMES[field], min_size=1)), data.draw(st.lists(NAMES[field]))
    known = CategoryIndex(records(train, field), field)
    own = known.of(records(train, field)).tolist()
    assert set(own) == set(range(len(known)))
    assert len(known) == len(set(train))
    assert [own[train.index(v)] if v in train else -1 for v in test] == known.of(
        records(test, field)
    ).tolist()


def test_the_order_of_the_records_changes_nothing():
    values = ["gate", 3, "yard", 1, "1", "3"]  # 1 and "1" are two, in this order
    assert CategoryIndex(records(values), "camera").known == {
        1: 0,
        "1": 1,
        3: 2,
        "3": 3,
        "gate": 4,
        "yard": 5,
    }
    assert (
        CategoryIndex(records(values), "camera").known
        == CategoryIndex(records(values[::-1]), "camera").known
    )


@pytest.mark.unhooked
def test_what_has_no_camera_is_named():
    with pytest.raises(
        ValueError,
        match=r"expected a camera for every training image, got none for 2 \(1.jpg, ...\)",
    ):
        CategoryIndex(records([1, None, None]), "camera")
    with pytest.raises(ValueError, match="expected a view for every training image, got no images"):
        CategoryIndex([], "view")
    with pytest.raises(ValueError, match="expected field"):
        CategoryIndex(records([1]), "identity")
