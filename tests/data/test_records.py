import dataclasses

import pytest

from clipreid_kit.data import ImageRecord


def test_a_record_needs_a_path_and_an_identity_only():
    record = ImageRecord("a.jpg", "rex")

    optional = (record.camera, record.view, record.caption, record.split)
    assert optional == (None, None, None, None)
    assert record.extra == {}


def test_records_with_equal_fields_are_equal():
    assert ImageRecord("a.jpg", 0, camera=0) == ImageRecord("a.jpg", 0, camera=0)
    assert ImageRecord("a.jpg", 0, camera=0) != ImageRecord("a.jpg", 0, camera="0")


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ImageRecord("a.jpg", 1).identity = 2


@pytest.mark.unhooked
@pytest.mark.parametrize("identity", [None, 1.0, True, "", float("nan"), ("rex",)])
def test_an_identity_is_an_integer_or_a_name(identity):
    message = r"ImageRecord: expected identity .* got .* for a\.jpg\. Map"
    with pytest.raises(ValueError, match=message):
        ImageRecord("a.jpg", identity)


@pytest.mark.unhooked
@pytest.mark.parametrize("camera", [1.0, True, "", float("nan")])
def test_a_camera_is_an_integer_or_a_name(camera):
    message = r"ImageRecord: expected camera .* got .* for a\.jpg\."
    with pytest.raises(ValueError, match=message):
        ImageRecord("a.jpg", 1, camera=camera)
