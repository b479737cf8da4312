from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from clipreid_kit.data import ImageRecord, ReidDataset, encode_images, eval_transform


class Output(NamedTuple):
    embedding: torch.Tensor
    other: int


class Encoder(nn.Module):
    """A linear encoder with dropout and batch norm, so that its mode shows in what it returns."""

    def __init__(self, width=5):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * 8 * 8, width), nn.BatchNorm1d(width), nn.Dropout(0.5)
        )
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return self.layers(images)

    def encode(self, images):
        return self.layers(images)

    def with_levels(self, images):
        return Output(self.layers(images), 0)


@pytest.fixture
def dataset(tmp_path):
    records = []
    for number in range(7):
        path = tmp_path / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        records.append(ImageRecord(str(path), number // 2))
    return ReidDataset(records, eval_transform(8))


def encode_in_a_loop(model, dataset):
    """The oracle: one image at a time."""
    model.eval()
    rows = []
    for item in dataset:
        with torch.no_grad():
            row = model(item.image[None])[0]
        rows.append(row / row.norm())
    model.train()
    return torch.stack(rows)


def test_equals_a_loop_over_single_images(dataset):
    model = Encoder()
    expected = encode_in_a_loop(model, dataset)

    embeddings = encode_images(model, DataLoader(dataset, batch_size=3))

    torch.testing.assert_close(embeddings, expected)
    assert not embeddings.requires_grad
    assert model.calls == 7 + 3


def test_workers_change_nothing(dataset):
    model = Encoder()
    alone = encode_images(model, DataLoader(dataset, batch_size=3))
    with_workers = encode_images(model, DataLoader(dataset, batch_size=3, num_workers=2))

    assert torch.equal(alone, with_workers)


def test_normalize_false_returns_the_rows_as_they_are(dataset):
    model = Encoder().eval()
    embeddings = encode_images(model, DataLoader(dataset, batch_size=7), normalize=False)

    images = torch.stack([item.image for item in dataset])
    assert torch.equal(embeddings, model(images).detach())


def test_a_bound_method_is_treated_like_its_module(dataset):
    model = Encoder()
    loader = DataLoader(dataset, batch_size=3)
    expected = encode_images(model, loader)

    assert torch.equal(encode_images(model.encode, loader), expected)
    assert torch.equal(encode_images(model.with_levels, loader), expected)
    assert model.training


def test_every_submodule_returns_to_its_own_mode(dataset):
    model = Encoder()
    model.layers[2].eval()  # a frozen batch norm
    before = [part.training for part in model.modules()]

    encode_images(model, DataLoader(dataset, batch_size=3))

    assert [part.training for part in model.modules()] == before
    assert True in before
    assert False in before


def test_modes_return_after_an_error(dataset):
    model = Encoder()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        encode_images(model, [torch.zeros(2, 3, 4, 4)])

    assert all(part.training for part in model.modules())


def test_a_plain_function_is_called_as_it_is():
    embeddings = encode_images(lambda images: images.flatten(1), [torch.ones(2, 3, 4, 4)])
    torch.testing.assert_close(embeddings, torch.full((2, 48), 48**-0.5))


def test_images_go_to_the_device_of_the_first_parameter():
    seen = []

    class Meta(nn.Linear):
        def forward(self, images):
            seen.append(images.device.type)
            return torch.zeros(len(images), 2)

    encode_images(Meta(4, 2, device="meta"), [torch.ones(3, 4)])
    encode_images(Meta(4, 2, device="meta"), [torch.ones(3, 4)], device="cpu")
    encode_images(Meta(4, 2).forward, [torch.ones(3, 4)], device="meta")
    encode_images(lambda images: images.flatten(1), [torch.ones(3, 4)])

    assert seen == ["meta", "cpu", "meta"]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float64),
    ],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_returns_float32_or_float64(dtype, expected, normalize):
    def model(images):
        return images.flatten(1).to(dtype)

    assert encode_images(model, [torch.ones(2, 3)], normalize=normalize).dtype is expected


def test_a_loader_without_batches_is_an_error(dataset):
    with pytest.raises(ValueError, match=r"the loader yields no batch.* drop_last"):
        encode_images(Encoder(), DataLoader(dataset, batch_size=8, drop_last=True))


def test_a_shuffled_loader_is_an_error(dataset):
    loader = DataLoader(dataset, batch_size=3, sampler=[0, 1, 2, 5, 4])
    with pytest.raises(
        ValueError, match=r"yields row 4 of its data set after row 5.*shuffle=False"
    ):
        encode_images(Encoder(), loader)


def test_a_repeated_row_is_an_error(dataset):
    with pytest.raises(ValueError, match="yields row 2 of its data set after row 2"):
        encode_images(Encoder(), DataLoader(dataset, batch_size=2, sampler=[0, 1, 2, 2]))


def test_a_part_of_a_data_set_is_encoded_in_its_order(dataset):
    model = Encoder()
    whole = encode_images(model, DataLoader(dataset, batch_size=7))
    part = encode_images(model, DataLoader(dataset, batch_size=2, sampler=[1, 3, 6]))

    torch.testing.assert_close(part, whole[[1, 3, 6]])


def test_a_data_set_is_not_a_loader(dataset):
    with pytest.raises(ValueError, match=r"got a ReidDataset instead of batches. Wrap it"):
        encode_images(Encoder(), dataset)


def test_batches_without_images_are_an_error():
    with pytest.raises(ValueError, match="yields a tuple without a tensor `image`"):
        encode_images(Encoder(), [(torch.zeros(2, 3, 8, 8), torch.zeros(2))])


def test_outputs_without_embeddings_are_an_error():
    with pytest.raises(ValueError, match="the model returned a tuple without a tensor `embedding`"):
        encode_images(lambda images: (images, images), [torch.ones(2, 3)])


@pytest.mark.parametrize(
    "output", [torch.ones(3, 2), torch.ones(2), torch.ones(2, 2, dtype=torch.int64)]
)
def test_outputs_of_another_shape_or_type_are_an_error(output):
    with pytest.raises(ValueError, match=r"for 2 images\. It has to return floating-point embedd"):
        encode_images(lambda images: output, [torch.ones(2, 3)])


def test_broken_rows_are_counted():
    images = torch.ones(5, 3)
    images[1, 0] = float("nan")
    images[3, 2] = float("inf")
    with pytest.raises(
        ValueError, match="2 of 5 embeddings hold NaN or infinity, the first in row 1"
    ):
        encode_images(lambda rows: rows, [images])
