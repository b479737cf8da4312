import json
from dataclasses import replace

import pytest

from clipreid_kit.data import CLIP_MEAN, CLIP_STD, ImageSpec

SPEC = ImageSpec(image_size=(256, 128), fit="pad", fill=(1, 2, 3), train_interpolation="bilinear")


def test_a_spec_survives_json():
    assert ImageSpec.from_dict(json.loads(json.dumps(SPEC.as_dict()))) == SPEC


def test_the_size_alone_is_needed():
    spec = ImageSpec.from_dict({"image_size": [8, 4]})

    assert spec.image_size == (8, 4)
    assert (spec.mean, spec.std) == (CLIP_MEAN, CLIP_STD)
    assert (spec.interpolation, spec.fit) == ("bicubic", "stretch")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"image_size": (128, 256)},
            r"another image_size \(\(256, 128\) in training, \(128, 256\) in the test\)\. Build",
        ),
        ({"mean": (0.5, 0.5, 0.5), "fit": "crop"}, r"another mean .*, fit \(pad in training"),
        ({"std": (0.5, 0.5, 0.5)}, "another std"),
        (
            {"interpolation": "bilinear"},
            r"another interpolation \(bicubic in training, bilinear in the test\)",
        ),
        ({"fill": 0}, "another fill"),
    ],
)
def test_an_evaluation_with_other_preprocessing_is_an_error(change, problem):
    with pytest.raises(ValueError, match=rf"ImageSpec\.check_same: the model .*{problem}"):
        SPEC.check_same(replace(SPEC, **change))


def test_the_training_filter_is_not_compared():
    SPEC.check_same(SPEC)
    SPEC.check_same(replace(SPEC, train_interpolation=None))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, r"ImageSpec\.from_dict: image_size is missing"),
        ({"image_size": [8, 8], "size": 8}, "unknown names 'size'; known are image_size, mean"),
        ({"image_size": [8, 0]}, "ImageSpec: expected image_size as one number"),
        ({"image_size": [8, 8, 8]}, "image_size as one number"),
        ({"image_size": [8, 8], "mean": [0.5]}, "mean as three finite numbers"),
        ({"image_size": [8, 8], "mean": ["0.5", 0.5, 0.5]}, "mean as a number, got '0.5'"),
        ({"image_size": [8, 8], "mean": [128, 128, 128]}, r"channels in \[0, 1\].*Divide"),
        ({"image_size": [8, 8], "std": [0.5, 0.5, 0]}, "std > 0"),
        ({"image_size": [8, 8], "fit": "squash"}, "fit to be one of stretch, pad, crop"),
        ({"image_size": [8, 8], "interpolation": "nearest"}, "interpolation to be one of"),
        ({"image_size": [8, 8], "train_interpolation": "x"}, "train_interpolation to be one of"),
        ({"image_size": [8, 8], "fill": 300}, r"fill in \[0, 255\]"),
    ],
)
def test_values_out_of_range_are_an_error(values, problem):
    with pytest.raises(ValueError, match=problem):
        ImageSpec.from_dict(values)
