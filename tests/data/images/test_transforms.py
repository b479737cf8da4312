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
    warp_transform,
)
from clipreid_kit.data.images.transforms import is_deterministic

PLAIN = {"horizontal_flip": 0.0}
UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
PRESETS = ["openai", "clip-reid", "clip-reid-vehicle", "clip-reid-cnn", "hands", "hands-portrait"]


def photo(width=12, height=20):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("make", [eval_transform, train_transform])
@pytest.mark.parametrize(("size", "shape"), [(8, (3, 8, 8)), ((8, 4), (3, 8, 4)), (1, (3, 1, 1))])
def test_an_image_becomes_a_plain_float_tensor(make, size, shape):
    image = make(size)(photo())

    assert type(image) is torch.Tensor
    assert image.dtype == torch.float32
    assert image.shape == shape
    assert image.is_contiguous()


def test_the_default_statistics_are_those_of_clip():
    image = eval_transform(2)(Image.new("RGB", (2, 2), (255, 0, 51)))

    expected = (torch.tensor([1.0, 0.0, 0.2]) - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    assert torch.allclose(image[:, 0, 0], expected)


def test_resizing_is_bicubic_with_antialiasing():
    image = eval_transform((6, 4), **UNIT)(photo())

    expected = np.asarray(photo().resize((4, 6), Image.Resampling.BICUBIC)) / 255
    assert np.allclose(image.permute(1, 2, 0), expected, atol=1e-6)


def test_the_whole_pipeline_equals_torchvision():
    peer = v2.Compose(
        [
            v2.Resize((32, 16), interpolation=v2.InterpolationMode.BICUBIC),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    image = photo(30, 50)
    assert torch.equal(eval_transform((32, 16))(image), peer(image).as_subclass(torch.Tensor))


def test_training_without_augmentation_is_evaluation():
    train = train_transform((9, 5), **PLAIN)
    evaluate = eval_transform((9, 5))

    assert torch.equal(train(photo()), evaluate(photo()))
    assert repr(train) == repr(evaluate)


def test_the_image_is_not_modified():
    image = photo()
    train_transform(
        (20, 12), pad=2, rotation=20, erasing=1.0, color_jitter=0.5, horizontal_flip=1.0
    )(image)

    assert np.array_equal(np.asarray(image), np.asarray(photo()))


def test_a_certain_flip_mirrors():
    flipped = train_transform((20, 12), horizontal_flip=1.0)(photo())
    assert torch.equal(flipped, eval_transform((20, 12))(photo()).flip(-1))


def test_pad_and_crop_shift_the_image_over_fill():
    transform = train_transform(4, **PLAIN, **UNIT, pad=4, fill=(255, 0, 0))

    sizes = set()
    for _ in range(200):
        image = transform(Image.new("RGB", (4, 4), "blue"))
        blue = image[2] > 0.5
        assert torch.equal(image[0] > 0.5, ~blue)  # the rest is fill
        sizes.add((int(blue.any(1).sum()), int(blue.any(0).sum())))

    assert (4, 4) in sizes
    assert any(height < 4 for height, _ in sizes)


@pytest.mark.parametrize(
    "options",
    [{"rotation": 45.0}, {"translate": (0.5, 0.5)}, {"scale": (0.5, 0.6)}, {"shear": 30.0}],
)
def test_geometry_uncovers_fill_and_keeps_white_paper_white(options):
    white_fill = train_transform(16, **PLAIN, **UNIT, fill=255, **options)
    black_fill = train_transform(16, **PLAIN, **UNIT, **options)
    drawing = Image.new("RGB", (16, 16), "black")
    paper = Image.new("RGB", (16, 16), "white")

    assert any(white_fill(drawing).max() == 1 for _ in range(5))
    assert all(black_fill(drawing).max() == 0 for _ in range(5))
    assert all(white_fill(paper).min() == 1 for _ in range(5))


def test_the_scale_range_is_kept():
    square = Image.new("RGB", (32, 32), "white")
    transform = train_transform(32, **PLAIN, **UNIT, scale=(0.5, 0.75))

    sides = [float(transform(square)[0, 16].sum()) for _ in range(20)]
    assert 15 <= min(sides) < max(sides) <= 25


def test_jitter_changes_colours_but_not_grey_into_colour():
    grey = Image.new("RGB", (8, 8), (100, 100, 100))
    image = train_transform(8, **PLAIN, **UNIT, color_jitter=0.5)(grey)

    assert image.unique().numel() == 1
    assert not torch.allclose(image, torch.tensor(100 / 255), atol=1e-3)


def test_erasing_comes_after_normalisation():
    white = Image.new("RGB", (32, 32), "white")
    image = train_transform(32, **PLAIN, **UNIT, erasing=1.0)(white)

    erased = (image != 1).any(0).float().mean()
    assert 0.02 * 0.8 <= erased <= 0.34
    assert image.min() < 0  # noise, which no image in [0, 1] has


def test_perspective_distorts_and_fills():
    torch.manual_seed(0)
    transform = train_transform(16, perspective=0.8, fill=255, **PLAIN, **UNIT)
    image = transform(Image.new("RGB", (16, 16)))

    assert image.max() == 1
    assert image[:, 8, 8].tolist() == [0, 0, 0]


def test_a_random_crop_keeps_its_fraction_of_both_sides():
    rows = np.repeat(np.arange(20, dtype=np.uint8)[:, None] * 10, 10, axis=1)
    image = Image.fromarray(np.stack([rows] * 3, axis=-1))
    transform = train_transform((10, 5), crop=0.5, **PLAIN, **UNIT)

    assert transform(image).shape == (3, 10, 5)

    # The first row of the crop, read from its grey level.
    tops = {round(float(transform(image)[0, 0, 0] * 25.5), 3) for _ in range(99)}
    assert min(tops) == 0
    assert max(tops) == pytest.approx(10, abs=0.01)
    assert len(tops) == 11  # all positions of 10 rows among 20


def test_augmix_depends_on_the_generator_alone():
    mixed = train_transform(16, augmix=1.0, **PLAIN, **UNIT)

    torch.manual_seed(1)
    first, second = mixed(photo(16, 16)), mixed(photo(16, 16))
    torch.manual_seed(1)
    assert torch.equal(mixed(photo(16, 16)), first)

    assert not torch.equal(first, second)
    assert not torch.equal(first, eval_transform(16, **UNIT)(photo(16, 16)))


def test_augmix_has_a_probability():
    plain = eval_transform(16, **UNIT)(photo(16, 16))
    rare = train_transform(16, augmix=0.3, **PLAIN, **UNIT)

    num_plain = sum(torch.equal(rare(photo(16, 16)), plain) for _ in range(100))
    assert 40 < num_plain < 100


@pytest.mark.parametrize(
    "options", [{}, {"pad": 3, "rotation": 9.0, "color_jitter": 0.3, "erasing": 0.9}]
)
def test_a_copy_depends_on_torch_seeds_alone(options):
    transform = train_transform(16, **options)
    copies = [transform, copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))]

    results = []
    for copied in copies:
        np.random.seed(len(results))  # noqa: NPY002  another seed each time, which must not matter
        torch.manual_seed(7)
        results.append(copied(photo()))

    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_only_transforms_without_random_steps_are_deterministic():
    assert is_deterministic(eval_transform(8))
    assert is_deterministic(train_transform(8, **PLAIN))

    assert not is_deterministic(train_transform(8))
    assert not is_deterministic(warp_transform(rotation=9.0))
    assert not is_deterministic(lambda image: image)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"crop": 0.0}, "crop > 0, got 0.0"),
        ({"crop": 1.1}, r"crop in \[0, 1\], got 1.1"),
        ({"horizontal_flip": 1.5}, r"horizontal_flip in \[0, 1\], got 1.5"),
        ({"horizontal_flip": float("nan")}, r"horizontal_flip in \[0, 1\], got nan"),
        ({"erasing": -0.1}, r"erasing in \[0, 1\], got -0.1"),
        ({"color_jitter": 2.0}, r"color_jitter in \[0, 1\], got 2.0"),
        ({"perspective": 1.1}, r"perspective in \[0, 1\], got 1.1"),
        ({"augmix": -1.0}, r"augmix in \[0, 1\], got -1.0"),
        ({"pad": -1}, "pad as a whole number >= 0, got -1"),
        ({"rotation": 181.0}, r"rotation in \[0, 180\] degrees, got 181.0"),
        ({"shear": 90.0}, r"shear in \[0, 89\] degrees, got 90.0"),
        ({"translate": (0.1, 1.2)}, r"translate along y in \[0, 1\], got 1.2"),
        ({"scale": (0.0, 1.0)}, "lowest scale > 0, got 0.0"),
        ({"scale": (1.2, 0.8)}, r"scale as \(lowest, highest\), got \(1.2, 0.8\)"),
        ({"fill": 256}, r"fill in \[0, 255\], got 256"),
        ({"fill": (0, -1, 0)}, r"fill in \[0, 255\], got -1"),
    ],
)
def test_augmentation_out_of_range_is_an_error(options, problem):
    with pytest.raises(ValueError, match=f"train_transform: expected {problem}"):
        train_transform(8, **options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rotation": "30"}, "rotation as a number, got '30'"),
        ({"erasing": None}, "erasing as a number, got None"),
        ({"horizontal_flip": torch.tensor(0.5)}, "horizontal_flip as a number, got a tensor"),
        ({"pad": 1.5}, "pad as a whole number >= 0, got 1.5"),
        ({"scale": (0.8, 1.0, 1.2)}, r"scale as \(lowest, highest\), got \(0.8, 1.0, 1.2\)"),
        ({"translate": 0.1}, r"translate as \(x, y\), got 0.1"),
    ],
)
def test_arguments_of_another_type_are_an_error(options, problem):
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
def test_sizes_and_statistics_out_of_range_are_an_error(make, size, options, problem):
    with pytest.raises(ValueError, match=f"{make.__name__}: expected {problem}"):
        make(size, **options)


@pytest.mark.unhooked
@pytest.mark.parametrize("size", [(8, 8, 3), (8,), (8.5, 8), True, "8"])
def test_sizes_of_another_kind_are_an_error(size):
    with pytest.raises(ValueError, match="eval_transform: expected image_size as one number"):
        eval_transform(size)


def test_a_spec_is_the_same_as_its_values_as_arguments():
    spec = ImageSpec(image_size=(9, 5), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    by_arguments = eval_transform((9, 5), mean=spec.mean, std=spec.std)

    assert torch.equal(eval_transform(spec)(photo()), by_arguments(photo()))
    assert torch.equal(train_transform(spec, **PLAIN)(photo()), by_arguments(photo()))


@pytest.mark.parametrize("make", [eval_transform, train_transform])
@pytest.mark.parametrize("name", ["mean", "std"])
def test_statistics_beside_a_spec_are_an_error(make, name):
    with pytest.raises(ValueError, match=f"{make.__name__}: mean and std are part of an ImageSpec"):
        make(ImageSpec(image_size=(9, 5)), **{name: (0.5, 0.5, 0.5)})


def test_a_spec_fills_and_an_argument_goes_before_it():
    black = Image.new("RGB", (4, 4))
    white = ImageSpec(image_size=(4, 4), fill=255, **UNIT)
    by_spec = train_transform(white, pad=2, **PLAIN)
    by_argument = train_transform(white, pad=2, fill=0, **PLAIN)

    assert max(by_spec(black).max() for _ in range(9)) == 1
    assert max(by_argument(black).max() for _ in range(9)) == 0


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_and_evaluates_with_one_spec(name):
    spec, train, evaluate = preset_transforms(name)
    image = photo(40, 60)

    assert train(image).shape == evaluate(image).shape == (3, *spec.image_size)
    assert torch.equal(evaluate(image), eval_transform(spec)(image))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_copied(name):
    preset = preset_transforms(name)

    assert copy.deepcopy(preset.spec) == preset.spec
    assert pickle.loads(pickle.dumps(preset)).spec == preset.spec


def test_the_openai_preset_is_the_preprocessing_of_clip():
    image = photo(300, 401)
    peer = v2.Compose(
        [
            v2.Resize(224, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(224),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    expected = peer(image).as_subclass(torch.Tensor)

    assert torch.equal(preset_transforms("openai").evaluate(image), expected)
    assert torch.equal(preset_transforms("openai").train(image), expected)


def test_clip_reid_trains_with_bicubic_and_evaluates_with_bilinear():
    image = photo(30, 70)
    _, train, evaluate = preset_transforms("clip-reid")

    expected = np.asarray(image.resize((128, 256), Image.Resampling.BILINEAR)) / 127.5 - 1
    assert np.allclose(evaluate(image).permute(1, 2, 0), expected, atol=1e-5)
    assert "bilinear" in repr(evaluate)
    assert "bicubic" in repr(train)


def test_clip_reid_augments_by_flip_crop_and_erasing():
    _, train, _ = preset_transforms("clip-reid")
    names = [type(step).__name__ for step in train.transforms]

    assert names[1:3] == ["RandomFlip", "RandomShift"]
    assert names[-1] == "RandomErasing"


@pytest.mark.parametrize("name", ["hands", "hands-portrait"])
def test_hands_are_never_mirrored(name):
    _, train, evaluate = preset_transforms(name)
    assert torch.equal(train(photo(40, 30)), evaluate(photo(40, 30)))


def test_an_unknown_preset_is_an_error():
    with pytest.raises(
        ValueError, match="preset_transforms: expected name to be one of openai, clip-reid, "
    ):
        preset_transforms("clip")
