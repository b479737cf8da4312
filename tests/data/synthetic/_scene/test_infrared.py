import numpy as np
from PIL import Image

from clipreid_kit.data.synthetic._scene.infrared import infrared_image


def halves(left, right):
    image = Image.new("RGB", (64, 32), left)
    image.paste(right, (32, 0, 64, 32))
    return image


def test_grey_and_inverted():
    pixels = np.asarray(infrared_image(halves("black", "white"), np.random.default_rng(0)))

    assert (pixels == pixels[:, :, :1]).all()
    dark, bright = pixels[:, :28].mean(), pixels[:, 36:].mean()
    assert dark > 200 > 60 > bright


def test_colours_of_one_lightness_become_alike():
    # 0.55 * 60 = 0.30 * 110 = 33 of 255
    pixels = np.asarray(infrared_image(halves((60, 0, 0), (0, 110, 0)), np.random.default_rng(1)))
    assert abs(pixels[:, :28].mean() - pixels[:, 36:].mean()) < 3


def test_noise_depends_on_the_generator_alone():
    image = Image.new("RGB", (16, 16), "grey")
    first, again, other = (
        infrared_image(image, np.random.default_rng(seed)).tobytes() for seed in (0, 0, 1)
    )
    assert first == again != other
