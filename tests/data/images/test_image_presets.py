import pytest

from clipreid_kit.data import CLIP_MEAN, ImageSpec
from clipreid_kit.data.images.image_presets import IMAGE_PRESETS


def test_the_presets_are_specs():
    assert len(IMAGE_PRESETS) == 6
    assert all(isinstance(spec, ImageSpec) for spec in IMAGE_PRESETS.values())


def test_the_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        IMAGE_PRESETS["openai"] = IMAGE_PRESETS["hands"]


def test_the_published_values():
    assert IMAGE_PRESETS["openai"].mean == CLIP_MEAN
    assert IMAGE_PRESETS["openai"].fit == "crop"

    assert IMAGE_PRESETS["clip-reid"].image_size == (256, 128)
    assert IMAGE_PRESETS["clip-reid"].mean == (0.5, 0.5, 0.5)
    assert IMAGE_PRESETS["clip-reid"].interpolation == "bilinear"
    assert IMAGE_PRESETS["clip-reid"].train_interpolation == "bicubic"
    assert IMAGE_PRESETS["clip-reid-cnn"].mean == (0.485, 0.456, 0.406)
