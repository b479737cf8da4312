import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from clipreid_kit.data import (
    CLIP_MEAN,
    CLIP_STD,
    ImageSpec,
    eval_transform,
    preset_transforms,
    train_transform,
)

_PLAIN = {"horizontal_flip": 0.0}
_UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def _photo(width=12, height=20):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("make", [eval_transform, train_transform])
@pytest.mark.parametrize(("size", "shape"), [(8, (3, 8, 8)), ((8, 4), (3, 8, 4)), (1, (3, 1, 1))])
def test_a_picture_becomes_a_plain_float_tensor(make, size, shape):
    image = make(size)(_photo())
    assert type(image) is torch.Tensor
    assert image.dtype == torch.float32
    assert image.shape == shape
    assert image.is_contiguous()


def test_the_statistics_are_those_of_clip():
    image = eval_transform(2)(Image.new("RGB", (2, 2), (255, 0, 51)))
    expected = [
        (level - mean) / std
        for level, mean, std in zip((1.0, 0.0, 0.2), CLIP_MEAN, CLIP_STD, strict=True)
    ]
    assert torch.allclose(image[:, 0, 0], torch.tensor(expected))


def test_resizing_is_bicubic_with_antialiasing():
    photo = _photo()
    expected = np.asarray(photo.resize((4, 6), Image.Resampling.BICUBIC)) / 255
    image = eval_transform((6, 4), **_UNIT)(photo)
    assert np.allclose(image.permute(1, 2, 0), expected, atol=1e-6)


def test_training_without_augmentation_is_evaluation():
    photo = _photo()
    assert torch.equal(train_transform((9, 5), **_PLAIN)(photo), eval_transform((9, 5))(photo))
    assert repr(train_transform(8, **_PLAIN)) == repr(eval_transform(8))


def test_the_picture_is_left_alone():
    photo = _photo()
    train_transform(
        (20, 12), pad=2, rotation=20, erasing=1.0, color_jitter=0.5, horizontal_flip=1.0
    )(photo)
    assert np.array_equal(np.asarray(photo), np.asarray(_photo()))


def test_a_certain_flip_mirrors():
    photo = _photo()
    flipped = train_transform((20, 12), horizontal_flip=1.0)(photo)
    assert torch.equal(flipped, eval_transform((20, 12))(photo).flip(-1))


def test_pad_and_crop_shift_the_picture_over_fill():
    transform = train_transform(4, **_PLAIN, **_UNIT, pad=4, fill=(255, 0, 0))
    seen = set()
    for _ in range(200):
        image = transform(Image.new("RGB", (4, 4), "blue"))
        blue = image[2] > 0.5
        assert torch.equal(image[0] > 0.5, ~blue)  # whatever is not the picture is fill
        seen.add((int(blue.any(1).sum()), int(blue.any(0).sum())))
    assert (4, 4) in seen
    assert any(height < 4 for height, _ in seen)


@pytest.mark.parametrize(
    "options",
    [{"rotation": 45.0}, {"translate": (0.5, 0.5)}, {"scale": (0.5, 0.6)}, {"shear": 30.0}],
)
def test_geometry_uncovers_fill_and_keeps_white_paper_white(options):
    drawing = Image.new("RGB", (16, 16), "black")
    white = train_transform(16, **_PLAIN, **_UNIT, fill=255, **options)
    black = train_transform(16, **_PLAIN, **_UNIT, **options)
    assert any(white(drawing).max() == 1 for _ in range(5))
    assert all(black(drawing).max() == 0 for _ in range(5))
    paper = Image.new("RGB", (16, 16), "white")
    assert all(white(paper).min() == 1 for _ in range(5))


def test_the_scale_range_is_kept():
    square = Image.new("RGB", (32, 32), "white")
    transform = train_transform(32, **_PLAIN, **_UNIT, scale=(0.5, 0.75))
    sides = [float(transform(square)[0, 16].sum()) for _ in range(20)]
    assert 15 <= min(sides) < max(sides) <= 25


def test_jitter_changes_colours_but_not_grey_into_colour():
    image = train_transform(8, **_PLAIN, **_UNIT, color_jitter=0.5)(
        Image.new("RGB", (8, 8), (100, 100, 100))
    )
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    assert image.unique().numel() == 1
    assert not torch.allclose(image, torch.tensor(100 / 255), atol=1e-3)


def test_erasing_comes_after_normalisation():
    image = train_transform(32, **_PLAIN, **_UNIT, erasing=1.0)(Image.new("RGB", (32, 32), "white"))
    share = (image != 1).any(0).float().mean()
    assert 0.02 * 0.8 <= share <= 0.34
    assert image.min() < 0  # noise, which no picture in [0, 1] has


@pytest.mark.parametrize(
    "options", [{}, {"pad": 3, "rotation": 9.0, "color_jitter": 0.3, "erasing": 0.9}]
)
def test_a_transform_is_picklable_and_depends_on_torch_seeds_alone(options):
    transform = train_transform(16, **options)
    results = []
    for copied in (transform, copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        np.random.seed(len(results))  # noqa: NPY002  shows that it does not matter
        torch.manual_seed(7)
        results.append(copied(_photo()))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"horizontal_flip": 1.5}, r"horizontal_flip in \[0, 1\], got 1.5"),
        ({"horizontal_flip": float("nan")}, r"horizontal_flip in \[0, 1\], got nan"),
        ({"erasing": -0.1}, r"erasing in \[0, 1\], got -0.1"),
        ({"color_jitter": 2.0}, r"color_jitter in \[0, 1\], got 2.0"),
        ({"pad": -1}, "pad >= 0 pixels, got -1"),
        ({"rotation": 181.0}, r"rotation in \[0, 180\] degrees, got 181.0"),
        ({"shear": 90.0}, r"shear in \[0, 89\] degrees, got 90.0"),
        ({"translate": (0.1, 1.2)}, r"translate along y in \[0, 1\], got 1.2"),
        ({"scale": (0.0, 1.0)}, "lowest scale > 0, got 0.0"),
        ({"scale": (1.2, 0.8)}, r"scale as \(lowest, highest\), got \(1.2, 0.8\)"),
        ({"fill": 256}, r"fill in \[0, 255\], got 256"),
        ({"fill": (0, -1, 0)}, r"fill in \[0, 255\], got -1"),
    ],
)
def test_augmentation_out_of_range(options, problem):
    with pytest.raises(ValueError, match=f"train_transform: expected {problem}"):
        train_transform(8, **options)


@pytest.mark.parametrize("make", [eval_transform, train_transform])
@pytest.mark.parametrize(
    ("size", "options", "problem"),
    [
        (0, {}, "image_size as .* each >= 1, got 0"),
        ((8, -1), {}, r"image_size as .* each >= 1, got \(8, -1\)"),
        (8, {"mean": (0.5,)}, r"mean as three finite numbers, .*got \(0.5,\)"),
        (8, {"std": (0.5, 0.5, float("nan"))}, "std as three finite numbers"),
        (8, {"std": (0.5, 0.0, 0.5)}, "std > 0, got 0.0"),
        (
            8,
            {"mean": (123.7, 116.3, 103.5)},
            "mean and std of channels in .* Divide statistics of 0..255 by 255",
        ),
    ],
)
def test_sizes_and_statistics_out_of_range(make, size, options, problem):
    with pytest.raises(ValueError, match=f"{make.__name__}: expected {problem}"):
        make(size, **options)


@pytest.mark.unhooked
@pytest.mark.parametrize("size", [(8, 8, 3), (8,), (8.5, 8), True])
def test_sizes_of_another_kind(size):
    with pytest.raises(ValueError, match="eval_transform: expected image_size as one number"):
        eval_transform(size)


def test_perspective_distorts_and_fills():
    torch.manual_seed(0)
    image = train_transform(16, perspective=0.8, fill=255, **_PLAIN, **_UNIT)(
        Image.new("RGB", (16, 16))
    )
    assert image.max() == 1
    assert image[:, 8, 8].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="perspective"):
        train_transform(16, perspective=1.1)


def test_every_step_of_the_pipeline_is_that_of_torchvision():
    photo = _photo(30, 50)
    resized = photo.resize((16, 32), Image.Resampling.BICUBIC)
    expected = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(CLIP_MEAN, CLIP_STD)]
    )
    assert torch.equal(eval_transform((32, 16))(photo), expected(resized).as_subclass(torch.Tensor))


def test_a_spec_says_what_arguments_say():
    photo = _photo()
    spec = ImageSpec(image_size=(9, 5), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    assert torch.equal(
        eval_transform(spec)(photo), eval_transform((9, 5), mean=spec.mean, std=spec.std)(photo)
    )
    assert torch.equal(train_transform(spec, **_PLAIN)(photo), eval_transform(spec)(photo))
    for make in (eval_transform, train_transform):
        with pytest.raises(
            ValueError,
            match=rf"{make.__name__}: expected mean and std to be left out beside an ImageSpec",
        ):
            make(spec, mean=(0.5, 0.5, 0.5))


def test_a_spec_fills_and_an_argument_goes_before_it():
    black = Image.new("RGB", (4, 4))
    white = ImageSpec(image_size=(4, 4), fill=255, **_UNIT)
    assert max(train_transform(white, pad=2, **_PLAIN)(black).max() for _ in range(9)) == 1
    assert max(train_transform(white, pad=2, fill=0, **_PLAIN)(black).max() for _ in range(9)) == 0


def test_a_random_crop_keeps_its_share_of_both_sides():
    rows = np.repeat(np.arange(20, dtype=np.uint8)[:, None] * 10, 10, axis=1)
    photo = Image.fromarray(np.stack([rows] * 3, axis=-1))
    transform = train_transform((10, 5), crop=0.5, **_PLAIN, **_UNIT)
    tops = {round(float(transform(photo)[0, 0, 0] * 25.5), 3) for _ in range(99)}
    assert min(tops) == 0
    assert max(tops) == pytest.approx(10, abs=0.01)
    assert len(tops) == 11  # all places of 10 rows among 20
    assert transform(photo).shape == (3, 10, 5)


def test_augmix_mixes_and_depends_on_the_generator():
    photo = _photo(16, 16)
    plain = eval_transform(16, **_UNIT)(photo)
    mixed = train_transform(16, augmix=1.0, **_PLAIN, **_UNIT)
    torch.manual_seed(1)
    first, second = mixed(photo), mixed(photo)
    torch.manual_seed(1)
    assert torch.equal(mixed(photo), first)
    assert not torch.equal(first, second)
    assert not torch.equal(first, plain)
    rare = train_transform(16, augmix=0.3, **_PLAIN, **_UNIT)
    same = sum(torch.equal(rare(photo), plain) for _ in range(100))
    assert 40 < same < 100


@pytest.mark.parametrize(
    "name", ["openai", "clip-reid", "clip-reid-vehicle", "clip-reid-cnn", "hands", "hands-portrait"]
)
def test_presets_train_and_test_with_one_spec(name):
    spec, train, evaluate = preset_transforms(name)
    photo = _photo(40, 60)
    assert train(photo).shape == evaluate(photo).shape == (3, *spec.image_size)
    assert torch.equal(evaluate(photo), eval_transform(spec)(photo))
    assert copy.deepcopy(spec) == spec
    pickle.loads(pickle.dumps((spec, train, evaluate)))


def test_the_openai_preset_is_its_preprocessing():
    photo = _photo(300, 401)
    expected = v2.Compose(
        [
            v2.Resize(224, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(224),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )(photo)
    assert torch.equal(
        preset_transforms("openai").evaluate(photo), expected.as_subclass(torch.Tensor)
    )
    assert torch.equal(
        preset_transforms("openai").train(photo), preset_transforms("openai").evaluate(photo)
    )


def test_clip_reid_trains_with_bicubic_and_tests_with_bilinear():
    photo = _photo(30, 70)
    _, train, evaluate = preset_transforms("clip-reid")
    means = [
        np.asarray(photo.resize((128, 256), mode)) / 127.5 - 1
        for mode in (Image.Resampling.BILINEAR,)
    ]
    assert np.allclose(evaluate(photo).permute(1, 2, 0), means[0], atol=1e-5)
    assert "bicubic" in repr(train)
    assert "bilinear" in repr(evaluate)
    assert [type(step).__name__ for step in train.transforms[1:4]] == [
        "RandomHorizontalFlip",
        "Pad",
        "RandomCrop",
    ]
    assert type(train.transforms[-1]).__name__ == "RandomErasing"


def test_hands_are_never_mirrored_and_always_normalised():
    photo = _photo(40, 30)
    for name in ("hands", "hands-portrait"):
        _, train, evaluate = preset_transforms(name)
        assert torch.equal(train(photo), evaluate(photo))


def test_an_unknown_preset_is_named():
    with pytest.raises(
        ValueError, match="preset_transforms: expected name to be one of openai, clip-reid, "
    ):
        preset_transforms("clip")
