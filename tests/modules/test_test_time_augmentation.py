import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from clipreid_kit.modules import TestTimeAugmentation


class SmallEncoder(nn.Module):
    """Convolution and pooling: takes any size, and records the sizes of its images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[2:]))
        ramp = torch.linspace(0, 1, images.shape[3])  # left and right differ
        return (self.conv(images).relu() * ramp).mean(dim=(2, 3))


def mean_colours(images):
    return images.mean(dim=(2, 3))


def unit(rows):
    return nn.functional.normalize(rows, dim=1)


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 8, generator=torch.Generator().manual_seed(0))


def test_mean_of_an_image_and_its_mirror_image(images):
    encoder = SmallEncoder()
    expected = unit(unit(encoder(images)) + unit(encoder(images.flip(3))))
    assert_close(TestTimeAugmentation(encoder)(images), expected)
    assert_close(TestTimeAugmentation(encoder)(images.flip(3)), expected)


def test_without_normalisation(images):
    encoder = SmallEncoder()
    expected = (encoder(images) + encoder(images.flip(3))) / 2
    assert_close(TestTimeAugmentation(encoder, normalize=False)(images), expected)


def test_without_flip(images):
    encoder = SmallEncoder()
    assert_close(TestTimeAugmentation(encoder, flip=False)(images), unit(encoder(images)))


def test_sizes_are_rounded(images):
    encoder = SmallEncoder()
    augmented = TestTimeAugmentation(
        encoder, flip=False, scales=(1.0, 0.7, 1.5, 0.01), multiple_of=4
    )
    augmented(images)
    assert encoder.sizes == [(16, 8), (12, 4), (24, 12), (4, 4)]


def test_every_size_is_mirrored(images):
    encoder = SmallEncoder()
    TestTimeAugmentation(encoder, scales=(1.0, 0.7))(images)
    assert encoder.sizes == [(16, 8), (16, 8), (11, 6), (11, 6)]


def test_every_scale_has_the_same_weight(images):
    encoder = SmallEncoder()
    scales = (0.5, 1.0, 2.0)
    parts = []
    for scale in scales:
        parts.append(TestTimeAugmentation(encoder, flip=False, scales=(scale,))(images))

    together = TestTimeAugmentation(encoder, flip=False, scales=scales)(images)

    assert_close(together, unit(torch.stack(parts).mean(dim=0)))


def test_downsizing_is_antialiased():
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    resized = []

    def encoder(images):
        resized.append(images)
        return mean_colours(images)

    TestTimeAugmentation(encoder, flip=False, scales=(0.3,))(stripes)

    assert resized[0].shape[2:] == (19, 19)
    assert resized[0][..., 2:-2].std() < 0.05  # grey, not stripes of another width


def test_parameters_mode_and_gradient_are_those_of_the_encoder(images):
    encoder = SmallEncoder()
    augmented = TestTimeAugmentation(encoder, scales=(1.0, 0.5))
    augmented(images).sum().backward()

    assert list(augmented.state_dict()) == ["encoder.conv.weight", "encoder.conv.bias"]
    assert encoder.conv.weight.grad.abs().sum() > 0
    assert not augmented.eval().encoder.training


def test_copies(images):
    augmented = TestTimeAugmentation(SmallEncoder(), scales=(1.0, 0.5))
    assert_close(copy.deepcopy(augmented)(images), augmented(images))


def test_repr_shows_the_options():
    text = repr(TestTimeAugmentation(SmallEncoder(), scales=(1.0, 0.5)))
    assert "flip=True, scales=(1.0, 0.5), normalize=True, multiple_of=1" in text


def test_half_precision_becomes_float32(images):
    embeddings = TestTimeAugmentation(lambda images: mean_colours(images).half())(images)
    assert embeddings.dtype == torch.float32
    assert_close(embeddings.norm(dim=1), torch.ones(4))


def test_double_precision_stays(images):
    assert TestTimeAugmentation(mean_colours)(images.double()).dtype == torch.float64


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, r"scales is empty; \(1\.0,\) is the image as it is"),
        ({"scales": (1.0, 0.0)}, "expected scales > 0, got 0.0"),
        ({"scales": ("1.0",)}, "expected scales as a number, got '1.0'"),
        ({"multiple_of": 0}, "expected multiple_of as a whole number >= 1, got 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match="TestTimeAugmentation: " + message):
        TestTimeAugmentation(SmallEncoder(), **options)


@pytest.mark.unhooked
def test_wrong_images(images):
    augmented = TestTimeAugmentation(SmallEncoder())
    message = r"floating-point images \(N, 3, H, W\), got shape \(3, 16, 8\)"
    with pytest.raises(ValueError, match=message):
        augmented(images[0])
    with pytest.raises(ValueError, match=r"got shape \(4, 3, 16, 8\), uint8"):
        augmented(images.byte())


@pytest.mark.unhooked
def test_wrong_encoders(images):
    message = r"embeddings \(4, D\) from the encoder, got shape \(4, 3, 16, 8\)"
    with pytest.raises(ValueError, match=message):
        TestTimeAugmentation(nn.Identity())(images)
    with pytest.raises(ValueError, match=r"from the encoder, got tuple\. Wrap the encoder"):
        TestTimeAugmentation(lambda images: (images, images))(images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_images_in_half_precision_are_resized(dtype):
    images = torch.rand(2, 3, 8, 4).to(dtype)
    seen = []

    def encode(view):
        seen.append(view)
        return view.flatten(2).mean(dim=2)

    TestTimeAugmentation(encode, flip=False, scales=(1.0, 1.5))(images)
    expected = torch.nn.functional.interpolate(
        images.float(), (12, 6), mode="bicubic", antialias=True, align_corners=False
    )
    assert [view.dtype for view in seen] == [dtype, dtype]
    assert torch.equal(seen[1], expected.to(dtype))
