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
        path = tmp_path / f"{number}.png"
        pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

        caption = f"A thing {number}"
        records.append(ImageRecord(str(path), identity, caption=caption, camera=number))

    return ReidDataset(records, train_transform(6, erasing=0.5))


def test_without_mined_items_every_item_is_alone(dataset):
    mined = MinedDataset(dataset)

    assert len(mined) == 6
    assert mined.labels.tolist() == _LABELS
    assert len(mined[0].items) == 1
    with pytest.raises(IndexError):
        mined[6]


def test_a_batch_holds_what_the_data_set_holds(dataset):
    mined = MinedDataset(dataset)
    batch = collate_mined([mined[1], mined[-1]])

    assert batch.dataset_rows.tolist() == [1, 5]
    assert batch.label.tolist() == [0, 2]
    assert batch.camera.tolist() == [1, 5]
    assert batch.caption == ("A thing 1", "A thing 5")
    assert batch.mined_rows.tolist() == [[0], [1]]
    assert torch.equal(batch.image, torch.stack([dataset[1].image, dataset[5].image]))


def test_an_image_is_in_a_batch_once(dataset):
    mined = MinedDataset(dataset, torch.tensor([[0, 2, 4], [1, 2, -1], [2, 0, 5]]))
    batch = collate_mined([mined[anchor] for anchor in range(3)])

    assert batch.dataset_rows.tolist() == [0, 2, 4, 1, 5]
    assert batch.mined_rows.tolist() == [[0, 1, 2], [3, 1, -1], [1, 0, 4]]
    assert batch.dataset_rows[batch.mined_rows[0]].tolist() == [0, 2, 4]


def mined_kinds(dataset):
    """Data sets of the three usual kinds: items alone, with negatives, and in triplets."""
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    negatives = mine_hard_negatives(features, dataset.labels, 2)
    triplets = mine_triplets(features, dataset.labels, margin=1.9)
    assert len(triplets) == 6

    return {
        "standard": MinedDataset(dataset),
        "negatives": MinedDataset(dataset, with_anchor_column(negatives)),
        "triplets": MinedDataset(dataset, triplets),
    }


@_forks
@pytest.mark.parametrize("kind", ["standard", "negatives", "triplets"])
@pytest.mark.parametrize("workers", [0, 1])
def test_losses_take_the_batches_of_every_kind(dataset, workers, kind):
    contrastive = HardNegativeContrastiveLoss()
    supervised = SupConLoss()
    triplet = TripletLoss(margin=2.0, distance="cosine")
    mined = mined_kinds(dataset)[kind]

    for batch in DataLoader(mined, batch_size=3, collate_fn=collate_mined, num_workers=workers):
        embeddings = batch.image.flatten(1)[:, :8].clone().requires_grad_()
        texts = torch.eye(len(batch.caption), 8)

        total = contrastive(embeddings, texts, batch.label)
        total = total + supervised(embeddings, batch.label)
        total = total + triplet(embeddings, batch.label)
        if kind == "triplets":
            anchor, positive, negative = embeddings[batch.mined_rows].unbind(1)
            total = total + torch.nn.functional.triplet_margin_loss(anchor, positive, negative)

        total.backward()
        assert embeddings.grad.isfinite().all()
        assert embeddings.grad.abs().sum() > 0


def test_captions_of_a_sampler_vary_by_epoch(dataset):
    sampler = CaptionSampler(dataset.captions, seed=1)
    mined = MinedDataset(dataset, torch.tensor([[0, 2], [1, 3]]), captions=sampler)

    seen = set()
    for epoch in range(8):
        mined.set_epoch(epoch)
        assert dataset.epoch == epoch
        assert mined[0].captions == (sampler.text(0, epoch), sampler.text(2, epoch))
        seen.add(mined[0].captions)

    assert len(seen) > 2


def test_given_captions_replace_those_of_the_data_set(dataset):
    assert MinedDataset(dataset, captions=["x"] * 6)[3].captions == ("x",)


def test_mining_is_due_every_few_epochs(dataset):
    calls = []

    def mine():
        calls.append(len(calls))
        return torch.tensor([[0, len(calls)]])

    mined = MinedDataset(dataset, torch.tensor([[0, 5]]))
    refreshed = [mined.refresh(epoch, mine, every=3) for epoch in range(8)]

    assert refreshed == [True, False, False, True, False, False, True, False]
    assert mined.mined.tolist() == [[0, 3]]
    assert dataset.epoch == 7


def test_a_resumed_run_mines_at_once(dataset):
    mined = MinedDataset(dataset, torch.tensor([[0, 5]]))
    refreshed = [mined.refresh(epoch, lambda: mined.mined, every=3) for epoch in (4, 5, 6)]

    assert refreshed == [True, False, True]


@pytest.mark.unhooked
@pytest.mark.parametrize("every", [0, "3", None])
def test_impossible_intervals_are_explained(dataset, every):
    with pytest.raises(ValueError, match="refresh: expected every as a whole number >= 1"):
        MinedDataset(dataset).refresh(8, lambda: torch.zeros(1, 1), every=every)


@_forks
def test_an_update_reaches_running_workers(dataset):
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
def test_running_workers_load_the_same_as_no_workers_in_every_epoch(dataset):
    sampler = CaptionSampler(dataset.captions, seed=1)
    mined = MinedDataset(dataset, torch.tensor([[0, 2], [1, 3], [4, -1]]), captions=sampler)
    options = {"batch_size": 2, "collate_fn": collate_mined}
    with_workers = DataLoader(mined, num_workers=2, persistent_workers=True, **options)
    mined_again = torch.tensor([[0, 4], [1, 5], [2, 0], [3, -1]])

    for epoch in (0, 1, 2, 0):
        mined.refresh(epoch, lambda: mined_again, every=2)
        pairs = list(zip(DataLoader(mined, **options), with_workers, strict=True))
        assert len(pairs) == 2

        for expected, batch in pairs:
            assert torch.equal(batch.image, expected.image)
            assert batch.caption == expected.caption
            assert batch.mined_rows.tolist() == expected.mined_rows.tolist()


def test_an_update_may_hold_fewer_or_more_triplets(dataset):
    mined = MinedDataset(dataset, torch.tensor([[0, 1, 2]]))

    mined.update(torch.tensor([[0, 1, 2], [2, 3, 4], [4, 5, 0]]))
    assert len(mined) == 3
    assert mined.labels.tolist() == [0, 1, 2]

    mined.update(torch.tensor([[2, 3, 4]]))
    assert len(mined) == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda mined: pickle.loads(pickle.dumps(mined))])
def test_a_copy_has_its_own_rows_that_workers_share(dataset, copied):
    mined = MinedDataset(dataset, torch.tensor([[0, 1]]))
    twin = copied(mined)

    twin.update(torch.tensor([[2, 3]]))

    assert mined.mined.tolist() == [[0, 1]]
    assert twin._mined.is_shared()


def test_the_repr_names_sizes_and_captions(dataset):
    mined = MinedDataset(dataset, torch.tensor([[0, 1, 2], [1, 0, -1]]))
    assert repr(mined) == "MinedDataset(num_anchors=2, num_mined=2, num_items=6)"

    sampler = CaptionSampler(dataset.captions)
    varied = MinedDataset(dataset, captions=sampler)
    assert repr(varied) == (
        f"MinedDataset(num_anchors=6, num_mined=0, num_items=6, captions={sampler!r})"
    )


@pytest.mark.parametrize(
    ("mined", "problem"),
    [
        (torch.zeros(0, 2, dtype=torch.int64), "mined is empty. Mine with a larger margin"),
        (torch.tensor([[0, 6]]), "rows of the data set from 0 to 5 .*got 0 to 6"),
        (torch.tensor([[0, -2]]), "or -1 for none, got -2 to 0"),
        (torch.tensor([[-1, 2]]), "the first column of mined holds the anchors"),
    ],
)
def test_wrong_rows_are_explained(dataset, mined, problem):
    with pytest.raises(ValueError, match=f"MinedDataset: .*{problem}"):
        MinedDataset(dataset, mined)


@pytest.mark.unhooked
def test_wrong_shapes_are_explained(dataset):
    text = r"mined as a matrix of whole numbers \(T, m\), got torch.int64 of shape \(2,\)"
    with pytest.raises(ValueError, match=text):
        MinedDataset(dataset, torch.tensor([0, 1]))

    text = r"MinedDataset.update: expected at most 6 lines of 1 rows, got \(1, 2\)"
    with pytest.raises(ValueError, match=text):
        MinedDataset(dataset).update(torch.tensor([[0, 1]]))


def test_a_wrong_number_of_captions_is_explained(dataset):
    with pytest.raises(ValueError, match="6 captions, one for each item, got 1"):
        MinedDataset(dataset, captions=["a"])
