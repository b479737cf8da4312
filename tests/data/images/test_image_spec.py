import json
from dataclasses import replace

import pytest

from clipreid_kit.data import CLIP_MEAN, CLIP_STD, ImageSpec

_SPEC = ImageSpec(image_size=(256, 128), fit="pad", fill=(1, 2, 3), train_interpolation="bilinear")


def test_a_spec_survives_json():
    assert ImageSpec.from_dict(json.loads(json.dumps(_SPEC.as_dict()))) == _SPEC
    least = ImageSpec.from_dict({"image_size": [8, 4]})
    assert (least.mean, least.std, least.interpolation, least.fit) == (
        CLIP_MEAN,
        CLIP_STD,
        "bicubic",
        "stretch",
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"image_size": (128, 256)},
            r"other image_size \(image_size \(256, 128\) and \(128, 256\)\)\. Make the test's",
        ),
        ({"mean": (0.5, 0.5, 0.5), "fit": "crop"}, "other mean, fit"),
        ({"std": (0.5, 0.5, 0.5)}, "other std"),
        ({"interpolation": "bilinear"}, "interpolation bicubic and bilinear"),
        ({"fill": 0}, "other fill"),
    ],
)
def test_a_test_that_shows_other_pictures_is_refused(change, problem):
    with pytest.raises(
        ValueError, match=rf"ImageSpec\.check_same: expected the pictures .*{problem}"
    ):
        _SPEC.check_same(replace(_SPEC, **change))


def test_how_training_resized_does_not_matter_to_the_test():
    _SPEC.check_same(_SPEC)
    _SPEC.check_same(replace(_SPEC, train_interpolation=None))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "ImageSpec.from_dict: expected names among image_size, .*got no image_size"),
        ({"image_size": [8, 8], "size": 8}, "got 'size'"),
        ({"image_size": [8, 0]}, "ImageSpec: expected image_size as one number"),
        ({"image_size": [8, 8, 8]}, "image_size as one number"),
        ({"image_size": [8, 8], "mean": [0.5]}, "mean as three finite numbers"),
        ({"image_size": [8, 8], "mean": [128, 128, 128]}, r"channels in \[0, 1\].*Divide"),
        ({"image_size": [8, 8], "std": [0.5, 0.5, 0]}, "std > 0"),
        ({"image_size": [8, 8], "fit": "squash"}, "fit to be one of stretch, pad, crop"),
        ({"image_size": [8, 8], "interpolation": "nearest"}, "interpolation to be one of"),
        ({"image_size": [8, 8], "train_interpolation": "x"}, "train_interpolation to be one of"),
        ({"image_size": [8, 8], "fill": 300}, r"fill in \[0, 255\]"),
    ],
)
def test_values_that_make_no_spec_are_explained(values, problem):
    with pytest.raises(ValueError, match=problem):
        ImageSpec.from_dict(values)
