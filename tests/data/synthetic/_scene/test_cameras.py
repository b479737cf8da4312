import pytest

from clipreid_kit.data.synthetic._scene.backgrounds import BACKGROUNDS
from clipreid_kit.data.synthetic._scene.cameras import make_camera


def test_a_camera_keeps_its_character():
    assert make_camera(3, 5) == make_camera(3, 5)


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_backgrounds_and_casts_repeat_only_after_all_were_used(seed):
    cameras = [make_camera(number, seed) for number in range(len(BACKGROUNDS))]

    assert {camera.background for camera in cameras} == set(BACKGROUNDS)
    assert len({camera.cast for camera in cameras}) == len(cameras)


def test_the_ninth_camera_shares_only_the_background_of_the_first():
    assert make_camera(8, 0).background == make_camera(0, 0).background
    assert make_camera(8, 0) != make_camera(0, 0)


def test_properties_stay_in_range():
    for number in range(40):
        camera = make_camera(number, 7)
        assert 0.5 < camera.scale[0] < camera.scale[1] < 1.1
        assert all(0.75 < gain < 1.25 for gain in camera.cast)
        assert camera.blur >= 0
        assert camera.noise > 0


def test_seeds_differ():
    assert make_camera(0, 1) != make_camera(0, 2)
