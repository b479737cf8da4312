import copy

import pytest
import torch
from torch import nn

from clipreid_kit.modules import TestTimeAugmentation


class Small(nn.Module):
    """Convolution and pooling: takes any size, and keeps a record of what came."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[2:]))
        ramp = torch.linspace(0, 1, images.shape[3], device=images.device)  # left and right differ
        return (self.conv(images).relu() * ramp).mean(dim=(2, 3))


def unit(rows):
    return torch.nn.functional.normalize(rows, dim=1)


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 8, generator=torch.Generator().manual_seed(0))


def test_mean_of_the_two_sides(images):
    encoder = Small()
    want = unit(unit(encoder(images)) + unit(encoder(images.flip(3))))
    torch.testing.assert_close(TestTimeAugmentation(encoder)(images), want)
    plain = (encoder(images) + encoder(images.flip(3))) / 2
    torch.testing.assert_close(TestTimeAugmentation(encoder, normalize=False)(images), plain)
    torch.testing.assert_close(
        TestTimeAugmentation(encoder, flip=False)(images), unit(encoder(images))
    )
    torch.testing.assert_close(
        TestTimeAugmentation(encoder)(images.flip(3)), want
    )  # a mirror image is the same image


def test_sizes(images):
    encoder = Small()
    TestTimeAugmentation(encoder, flip=False, scales=(1.0, 0.7, 1.5, 0.01), multiple_of=4)(images)
    assert encoder.sizes == [(16, 8), (12, 4), (24, 12), (4, 4)]
    encoder.sizes.clear()
    TestTimeAugmentation(encoder, scales=(1.0, 0.7))(images)
    assert encoder.sizes == [(16, 8), (16, 8), (11, 6), (11, 6)]


def test_every_scale_counts_alike(images):
    encoder = Small()
    parts = [
        TestTimeAugmentation(encoder, flip=False, scales=(scale,))(images)
        for scale in (0.5, 1.0, 2.0)
    ]
    want = unit(torch.stack(parts).mean(dim=0))
    torch.testing.assert_close(
        TestTimeAugmentation(encoder, flip=False, scales=(0.5, 1.0, 2.0))(images), want
    )


def test_downsizing_is_antialiased():
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    seen = []

    def encoder(images):
        seen.append(images)
        return images.mean(dim=(2, 3))

    TestTimeAugmentation(encoder, flip=False, scales=(0.3,))(stripes)
    assert seen[0].shape[2:] == (19, 19)
    assert seen[0][..., 2:-2].std() < 0.05  # grey, and not stripes of another width


def test_parameters_modes_and_gradients_are_the_encoders(images):
    encoder = Small()
    averaged = TestTimeAugmentation(encoder, scales=(1.0, 0.5))
    assert list(averaged.state_dict()) == ["encoder.conv.weight", "encoder.conv.bias"]
    averaged(images).sum().backward()
    assert encoder.conv.weight.grad.abs().sum() > 0
    assert not averaged.eval().encoder.training
    twin = copy.deepcopy(averaged)
    torch.testing.assert_close(twin(images), averaged(images))
    assert "flip=True, scales=(1.0, 0.5), normalize=True, multiple_of=1" in repr(averaged)


def test_a_plain_function_and_half_precision(images):
    got = TestTimeAugmentation(lambda x: x.mean(dim=(2, 3)).half())(images)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.norm(dim=1), torch.ones(4))
    assert (
        TestTimeAugmentation(lambda x: x.mean(dim=(2, 3)))(images.double()).dtype == torch.float64
    )


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "at least one scale, got none. 1.0 is the image"),
        ({"scales": (1.0, 0.0)}, "scales > 0, got 0.0"),
        ({"multiple_of": 0}, "multiple_of as a whole number >= 1, got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=f"TestTimeAugmentation: expected {message}"):
        TestTimeAugmentation(Small(), **options)


@pytest.mark.unhooked
def test_bad_images_and_encoders(images):
    with pytest.raises(
        ValueError, match=r"floating-point images \(N, 3, H, W\), got shape \(3, 16, 8\)"
    ):
        TestTimeAugmentation(Small())(images[0])
    with pytest.raises(ValueError, match=r"got shape \(4, 3, 16, 8\), uint8"):
        TestTimeAugmentation(Small())(images.byte())
    with pytest.raises(
        ValueError, match=r"embeddings \(4, D\) from the encoder, got shape \(4, 3, 16, 8\)"
    ):
        TestTimeAugmentation(nn.Identity())(images)
    with pytest.raises(ValueError, match=r"from the encoder, got tuple\. Wrap it"):
        TestTimeAugmentation(lambda x: (x, x))(images)
