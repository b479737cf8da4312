import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from clipreid_kit import HardNegativeContrastiveLoss, SupConLoss, TripletLoss
from clipreid_kit.data import (
    CaptionSampler,
    ImageRecord,
    MinedDataset,
    ReidDataset,
    collate_mined,
    mine_hard_negatives,
    mine_triplets,
    train_transform,
    with_anchor_column,
)

_forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
_LABELS = [0, 0, 1, 1, 2, 2]


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for number, identity in enumerate(_LABELS):
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(
            tmp_path / f"{number}.png"
        )
        records.append(
            ImageRecord(
                str(tmp_path / f"{number}.png"),
                identity,
                caption=f"A thing {number}",
                camera=number,
            )
        )
    return ReidDataset(records, train_transform(6, erasing=0.5))


def test_the_standard_kind_shows_every_item_alone(dataset):
    mined = MinedDataset(dataset)
    assert len(mined) == 6
    assert mined.labels.tolist() == _LABELS
    batch = collate_mined([mined[1], mined[-1]])
    assert batch.dataset_rows.tolist() == [1, 5]
    assert batch.label.tolist() == [0, 2]
    assert batch.camera.tolist() == [1, 5]
    assert batch.caption == ("A thing 1", "A thing 5")
    assert batch.rows.tolist() == [[0], [1]]
    assert torch.equal(batch.image, torch.stack([dataset[1].image, dataset[5].image]))
    with pytest.raises(IndexError):
        mined[6]


def test_an_image_is_in_a_batch_once(dataset):
    mined = MinedDataset(dataset, torch.tensor([[0, 2, 4], [1, 2, -1], [2, 0, 5]]))
    batch = collate_mined([mined[n] for n in range(3)])
    assert batch.dataset_rows.tolist() == [0, 2, 4, 1, 5]
    assert batch.rows.tolist() == [[0, 1, 2], [3, 1, -1], [1, 0, 4]]
    assert batch.dataset_rows[batch.rows[0]].tolist() == [0, 2, 4]


@_forks
@pytest.mark.parametrize("workers", [0, 1])
def test_losses_take_the_batches_of_every_kind(dataset, workers):
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    negatives = with_anchor_column(mine_hard_negatives(features, dataset.labels, 2))
    triplets = mine_triplets(features, dataset.labels, margin=1.9)
    assert len(triplets) == 6
    losses = (
        HardNegativeContrastiveLoss(),
        SupConLoss(),
        TripletLoss(margin=2.0, distance="cosine"),
    )
    for mined in (
        MinedDataset(dataset),
        MinedDataset(dataset, negatives),
        MinedDataset(dataset, triplets),
    ):
        for batch in DataLoader(mined, batch_size=3, collate_fn=collate_mined, num_workers=workers):
            embeddings = batch.image.flatten(1)[:, :8].clone().requires_grad_()
            texts = torch.eye(len(batch.caption), 8)
            contrastive, supervised, triplet = losses
            total = contrastive(embeddings, texts, batch.label) + supervised(
                embeddings, batch.label
            )
            total = total + triplet(embeddings, batch.label)
            if batch.rows.shape[1] == 3:
                anchor, positive, negative = embeddings[batch.rows].unbind(1)
                total = total + torch.nn.functional.triplet_margin_loss(anchor, positive, negative)
            total.backward()
            assert embeddings.grad.isfinite().all()
            assert embeddings.grad.abs().sum() > 0


def test_captions_vary_by_epoch(dataset):
    sampler = CaptionSampler(dataset.captions, seed=1)
    mined = MinedDataset(dataset, torch.tensor([[0, 2], [1, 3]]), captions=sampler)
    seen = set()
    for epoch in range(8):
        mined.set_epoch(epoch)
        assert dataset.epoch == epoch
        assert mined[0].captions == (sampler.text(0, epoch), sampler.text(2, epoch))
        seen.add(mined[0].captions)
    assert len(seen) > 2
    given = MinedDataset(dataset, captions=["x"] * 6)
    assert given[3].captions == ("x",)


def test_mining_is_due_every_few_epochs(dataset):
    calls = []

    def mine():
        calls.append(len(calls))
        return torch.tensor([[0, len(calls)]])

    mined = MinedDataset(dataset, torch.tensor([[0, 5]]))
    due = [mined.refresh(epoch, mine, every=3) for epoch in range(8)]
    assert due == [True, False, False, True, False, False, True, False]
    assert mined.mined.tolist() == [[0, 3]]
    assert dataset.epoch == 7
    resumed = MinedDataset(dataset, torch.tensor([[0, 5]]))
    assert [resumed.refresh(epoch, mine, every=3) for epoch in (4, 5, 6)] == [True, False, True]
    with pytest.raises(ValueError, match="refresh: expected every as a whole number >= 1"):
        mined.refresh(8, mine, every=0)


@_forks
def test_what_is_mined_anew_reaches_running_workers(dataset):
    mined = MinedDataset(dataset, torch.tensor([[0, 2], [1, 3]]))
    loader = DataLoader(
        mined, batch_size=2, collate_fn=collate_mined, num_workers=1, persistent_workers=True
    )
    (batch,) = loader
    assert batch.dataset_rows.tolist() == [0, 2, 1, 3]
    mined.update(torch.tensor([[0, 4], [1, -1]]))
    (batch,) = loader
    assert batch.dataset_rows.tolist() == [0, 4, 1]


@_forks
def test_running_workers_show_what_no_workers_show_in_every_epoch(dataset):
    sampler = CaptionSampler(dataset.captions, seed=1)
    mined = MinedDataset(dataset, torch.tensor([[0, 2], [1, 3], [4, -1]]), captions=sampler)
    options = {"batch_size": 2, "collate_fn": collate_mined}
    running = DataLoader(mined, num_workers=2, persistent_workers=True, **options)
    for epoch in (0, 1, 2, 0):
        mined.refresh(epoch, lambda: torch.tensor([[0, 4], [1, 5], [2, 0], [3, -1]]), every=2)
        pairs = list(zip(DataLoader(mined, **options), running, strict=True))
        assert len(pairs) == 2
        for alone, worked in pairs:
            assert torch.equal(alone.image, worked.image)
            assert (alone.caption, alone.rows.tolist()) == (worked.caption, worked.rows.tolist())


def test_fewer_or_more_triplets_may_be_mined_anew(dataset):
    mined = MinedDataset(dataset, torch.tensor([[0, 1, 2]]))
    mined.update(torch.tensor([[0, 1, 2], [2, 3, 4], [4, 5, 0]]))
    assert len(mined) == 3
    assert mined.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda mined: pickle.loads(pickle.dumps(mined))])
def test_a_copy_has_tuples_of_its_own_that_workers_share(dataset, copied):
    mined = MinedDataset(dataset, torch.tensor([[0, 1]]))
    twin = copied(mined)
    twin.update(torch.tensor([[2, 3]]))
    assert mined.mined.tolist() == [[0, 1]]
    assert twin._mined.is_shared()


@pytest.mark.parametrize(
    ("mined", "problem"),
    [
        (
            torch.zeros(0, 2, dtype=torch.int64),
            "at least one row of mined items, got none. Mine with a larger margin",
        ),
        (torch.tensor([[0, 6]]), "numbers of items from 0 to 5.*got 0 to 6"),
        (torch.tensor([[0, -2]]), "got -2 to 0"),
        (torch.tensor([[-1, 2]]), "-1 for nothing but not for an anchor"),
    ],
)
def test_wrong_numbers_are_explained(dataset, mined, problem):
    with pytest.raises(ValueError, match=rf"MinedDataset: expected .*{problem}"):
        MinedDataset(dataset, mined)


@pytest.mark.unhooked
def test_wrong_shapes_are_explained(dataset):
    with pytest.raises(
        ValueError,
        match=r"mined as a matrix of whole numbers \(T, m\), got torch.int64 of shape \(2,\)",
    ):
        MinedDataset(dataset, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="6 captions, one for each item, got 1"):
        MinedDataset(dataset, captions=["a"])
    with pytest.raises(
        ValueError, match=r"MinedDataset.update: expected at most 6 rows of 1 numbers, got \(1, 2\)"
    ):
        MinedDataset(dataset).update(torch.tensor([[0, 1]]))
