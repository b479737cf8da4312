import pytest
import torch
from PIL import Image

from clipreid_kit.data import ImageRecord, MultiViewTransform, ReidDataset, train_transform


def test_views_differ_and_come_back_with_the_seed(tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((8, 8), 50).convert("RGB").save(path)
    transform = MultiViewTransform(train_transform(8, color_jitter=0.5), num_views=3)
    dataset = ReidDataset([ImageRecord(str(path), 1)], transform)

    views = dataset[0].image
    assert views.shape == (3, 3, 8, 8)
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[1], views[2])
    assert torch.equal(views, dataset[0].image)

    dataset.set_epoch(2)
    assert not torch.equal(views, dataset[0].image)


def test_repr_shows_the_views():
    assert repr(MultiViewTransform(abs, 2)).endswith("num_views=2)")


def test_wrong_number_of_views():
    with pytest.raises(ValueError, match="MultiViewTransform: expected num_views as a whole"):
        MultiViewTransform(abs, 0)
