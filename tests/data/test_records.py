import dataclasses

import pytest

from clipreid_kit.data import ImageRecord


def test_a_record_needs_a_path_and_an_identity_only():
    record = ImageRecord("a.jpg", "rex")
    assert (record.camera, record.view, record.caption, record.split, record.extra) == (
        None,
    ) * 4 + ({},)


def test_a_record_is_a_value():
    assert ImageRecord("a.jpg", 0, camera=0) == ImageRecord("a.jpg", 0, camera=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ImageRecord("a.jpg", 1).identity = 2


@pytest.mark.unhooked
@pytest.mark.parametrize("identity", [None, 1.0, True, "", float("nan"), ("rex",)])
def test_an_identity_is_an_integer_or_a_word(identity):
    with pytest.raises(
        ValueError, match=r"ImageRecord: expected identity .* got .* for a\.jpg\. Map"
    ):
        ImageRecord("a.jpg", identity)


@pytest.mark.unhooked
@pytest.mark.parametrize("camera", [1.0, True, "", float("nan")])
def test_a_camera_is_an_integer_or_a_word(camera):
    with pytest.raises(ValueError, match=r"ImageRecord: expected camera .* got .* for a\.jpg\."):
        ImageRecord("a.jpg", 1, camera=camera)
