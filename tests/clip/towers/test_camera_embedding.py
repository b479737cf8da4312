import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import CameraEmbedding, ClipTowers


@pytest.mark.parametrize(
    ("options", "num_rows"),
    [
        ({"num_cameras": 3}, 3),
        ({"num_views": 4}, 4),
        ({"num_cameras": 3, "num_views": 4}, 12),
    ],
)
def test_one_row_for_each_camera_view_or_pair(options, num_rows):
    table = CameraEmbedding(5, **options).table
    assert table.shape == (num_rows, 5)
    assert len(torch.unique(table, dim=0)) == num_rows


def test_pairs_are_numbered_as_in_clip_reid():
    embedding = CameraEmbedding(5, num_cameras=3, num_views=2, scale=2.0)
    cameras, views = torch.tensor([2, 0, 1]), torch.tensor([0, 1, 1])

    expected = 2 * embedding.table[cameras * 2 + views]

    assert torch.equal(embedding(cameras, views), expected)


class TestUnseen:
    @pytest.fixture
    def embedding(self):
        return CameraEmbedding(5, num_cameras=3, num_views=2).eval()

    @pytest.fixture
    def table(self, embedding):
        return embedding.table.reshape(3, 2, 5)

    def test_an_unseen_id_gets_the_mean_over_the_seen_ones(self, embedding, table):
        cameras, views = torch.tensor([7, 1, -1, 1]), torch.tensor([1, 9, -1, 0])
        expected = [table[:, 1].mean(0), table[1].mean(0), table.mean((0, 1)), table[1, 0]]
        assert_close(embedding(cameras, views), torch.stack(expected))

    def test_without_ids_all_images_share_one_mean(self, embedding, table):
        assert_close(embedding(), table.mean(dim=(0, 1)))

    def test_views_alone(self, embedding, table):
        rows = embedding(views=torch.tensor([1]))
        assert_close(rows, table[:, 1].mean(0, keepdim=True))

    def test_cameras_alone(self, embedding, table):
        rows = embedding(torch.tensor([0]))
        assert_close(rows, table[0].mean(0, keepdim=True))


def test_the_seed_decides_and_the_global_generator_is_unchanged():
    before = torch.random.get_rng_state()
    first, again, other = (
        CameraEmbedding(64, num_cameras=9, seed=seed).table for seed in (1, 1, 2)
    )

    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.detach().std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, r"num_cameras and num_views are both 0"),
        ({"num_cameras": -1}, "num_cameras as a whole number >= 0"),
        ({"num_cameras": 2, "scale": 0.0}, "scale > 0"),
        ({"num_cameras": 2, "seed": -1}, "seed as a whole number >= 0"),
    ],
)
def test_invalid_options(options, match):
    with pytest.raises(ValueError, match=match):
        CameraEmbedding(4, **options)


class TestTrainingMode:
    @pytest.fixture
    def embedding(self):
        return CameraEmbedding(4, num_cameras=2)

    def test_unseen_ids_are_refused(self, embedding):
        with pytest.raises(ValueError, match=r"cameras in 0\.\.1 in training, got \[-1, 2\]"):
            embedding(torch.tensor([0, 2, -1]))

    def test_ids_are_required(self, embedding):
        with pytest.raises(
            ValueError, match=r"Training mode needs the cameras of the images; pass them"
        ):
            embedding()


def test_ids_that_are_not_distinguished_are_refused():
    embedding = CameraEmbedding(4, num_cameras=2).eval()
    with pytest.raises(ValueError, match="does not distinguish views; build it with num_views"):
        embedding(torch.tensor([0]), torch.tensor([0]))


@pytest.mark.unhooked
def test_ids_are_integers():
    embedding = CameraEmbedding(4, num_cameras=2)
    with pytest.raises(ValueError, match="cameras as one integer for each image, got shape"):
        embedding(torch.tensor([0.5]))


def test_the_options_are_shown():
    shown = repr(CameraEmbedding(4, num_cameras=2, scale=3.0, tokens="all"))
    assert shown == "CameraEmbedding(4, num_cameras=2, num_views=0, scale=3.0, tokens='all')"


def test_towers_hold_one():
    towers = ClipTowers.from_open_clip(
        "reid-tiny-vit", image_size=(32, 16), num_cameras=2, num_views=3
    )
    assert towers.camera_embedding.table.shape == (6, 128)
    assert "camera_embedding.table" in towers.state_dict()


def test_only_vits_can_hold_one():
    with pytest.raises(
        ValueError, match=r"cameras and views for a ViT of open_clip only.* got ModifiedResNet"
    ):
        ClipTowers.from_open_clip("reid-tiny-resnet", num_cameras=2)
