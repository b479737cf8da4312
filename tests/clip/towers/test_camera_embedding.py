import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import CameraEmbedding, ClipTowers


def test_one_row_for_each_camera_view_or_pair():
    for options, count in [
        ({"num_cameras": 3}, 3),
        ({"num_views": 4}, 4),
        ({"num_cameras": 3, "num_views": 4}, 12),
    ]:
        table = CameraEmbedding(5, **options).table
        assert table.shape == (count, 5)
        assert len(torch.unique(table, dim=0)) == count


def test_pairs_are_numbered_as_in_clip_reid():
    embedding = CameraEmbedding(5, num_cameras=3, num_views=2, scale=2.0)
    cameras, views = torch.tensor([2, 0, 1]), torch.tensor([0, 1, 1])
    assert torch.equal(embedding(cameras, views), 2 * embedding.table[cameras * 2 + views])


def test_what_nobody_has_seen_gets_the_mean():
    embedding = CameraEmbedding(5, num_cameras=3, num_views=2).eval()
    table = embedding.table.reshape(3, 2, 5)
    rows = embedding(torch.tensor([7, 1, -1, 1]), torch.tensor([1, 9, -1, 0]))
    assert_close(
        rows, torch.stack([table[:, 1].mean(0), table[1].mean(0), table.mean((0, 1)), table[1, 0]])
    )
    assert_close(embedding(), table.mean(dim=(0, 1)))
    assert_close(embedding(views=torch.tensor([1])), table[:, 1].mean(0, keepdim=True))
    assert_close(embedding(torch.tensor([0])), table[0].mean(0, keepdim=True))


def test_seed_decides_and_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    tables = [CameraEmbedding(64, num_cameras=9, seed=seed).table for seed in (1, 1, 2)]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert float(tables[0].detach().std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "num_cameras and num_views are both 0"),
        ({"num_cameras": -1}, "num_cameras as a whole number >= 0"),
        ({"num_cameras": 2, "scale": 0.0}, "scale > 0"),
    ],
)
def test_what_cannot_be_built(options, match):
    with pytest.raises(ValueError, match=match):
        CameraEmbedding(4, **options)


def test_training_takes_known_ids_only():
    embedding = CameraEmbedding(4, num_cameras=2)
    with pytest.raises(ValueError, match=r"cameras in 0\.\.1 in training, got \[-1, 2\]"):
        embedding(torch.tensor([0, 2, -1]))
    with pytest.raises(
        ValueError, match="Training mode needs the cameras of the images; pass them"
    ):
        embedding()
    with pytest.raises(ValueError, match="does not distinguish views; build it with num_views"):
        embedding.eval()(torch.tensor([0]), torch.tensor([0]))


@pytest.mark.unhooked
def test_ids_are_integers():
    with pytest.raises(ValueError, match="cameras as one integer for each image, got shape"):
        CameraEmbedding(4, num_cameras=2)(torch.tensor([0.5]))


def test_towers_hold_one():
    towers = ClipTowers.from_open_clip(
        "reid-tiny-vit", image_size=(32, 16), num_cameras=2, num_views=3
    )
    assert towers.camera_embedding.table.shape == (6, 128)
    assert "camera_embedding.table" in towers.state_dict()
    with pytest.raises(
        ValueError, match=r"cameras and views for a ViT of open_clip only.* got ModifiedResNet"
    ):
        ClipTowers.from_open_clip("reid-tiny-resnet", num_cameras=2)
