import pickle

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from clipreid_kit.data import CLIP_MEAN, CLIP_STD
from clipreid_kit.data.images.to_normalized_tensor import ToNormalizedTensor


def photo(width=30, height=50):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@given(width=st.integers(1, 40), height=st.integers(1, 40))
def test_equals_torchvision_bit_by_bit(width, height):
    peer = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(CLIP_MEAN, CLIP_STD)]
    )
    image = photo(width, height)

    tensor = ToNormalizedTensor(CLIP_MEAN, CLIP_STD)(image)
    assert torch.equal(tensor, peer(image).as_subclass(torch.Tensor))


def test_a_hand_computed_value():
    step = ToNormalizedTensor((0.5, 0.5, 0.0), (0.5, 0.25, 1.0))
    tensor = step(Image.new("RGB", (1, 1), (255, 0, 51)))

    torch.testing.assert_close(tensor.flatten(), torch.tensor([1.0, -2.0, 0.2]))


def test_the_tensor_is_plain_and_contiguous():
    tensor = ToNormalizedTensor(CLIP_MEAN, CLIP_STD)(photo())

    assert type(tensor) is torch.Tensor
    assert tensor.is_contiguous()


def test_a_copy_is_equal_and_gives_the_same():
    step = ToNormalizedTensor(CLIP_MEAN, CLIP_STD)
    copy = pickle.loads(pickle.dumps(step))

    assert copy == step
    assert torch.equal(copy(photo()), step(photo()))
    assert repr(step) == f"ToNormalizedTensor(mean={CLIP_MEAN}, std={CLIP_STD})"
