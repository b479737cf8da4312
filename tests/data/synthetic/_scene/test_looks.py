import numpy as np
import pytest

from clipreid_kit.data import SyntheticReid
from clipreid_kit.data.synthetic._scene.looks import apply_look

PLAIN = SyntheticReid(4, image_size=(48, 32), seed=1)


def pixels(image):
    return np.asarray(image, dtype=float)


def test_a_look_changes_the_images_and_nothing_else():
    plain = PLAIN.render(1, camera=0, view=0)
    assert apply_look(plain, "plain") == plain
    for look in ("night", "drawing"):
        other = SyntheticReid(4, image_size=(48, 32), seed=1, look=look)
        assert other.render(1, camera=0, view=0) == apply_look(plain, look) != plain
        assert other.records() == PLAIN.records()
        assert repr(other).endswith(f"seed=1, look='{look}')")


def test_night_is_dark_and_a_drawing_pale():
    plain = pixels(PLAIN.render(2, camera=1, view=1))
    night = pixels(SyntheticReid(4, image_size=(48, 32), seed=1, look="night").render(2, 1, 1))
    drawing = pixels(SyntheticReid(4, image_size=(48, 32), seed=1, look="drawing").render(2, 1, 1))
    assert night.mean() < 0.7 * plain.mean()
    assert night[..., 2].mean() > night[..., 0].mean()
    assert np.ptp(drawing, axis=2).mean() < np.ptp(plain, axis=2).mean()


@pytest.mark.unhooked
def test_an_unknown_look_is_refused():
    with pytest.raises(ValueError, match="look"):
        SyntheticReid(4, look="rain")
