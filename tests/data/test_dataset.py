import copy
import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from clipreid_kit.data import (
    ImageRecord,
    ReidDataset,
    ReidItem,
    eval_transform,
    load_image,
    train_transform,
    warp_transform,
)

_AUGMENT = train_transform(12, pad=2, rotation=20.0, color_jitter=0.4, erasing=0.5)
_EXACT = eval_transform((6, 4), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
_forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for number, identity in enumerate(("tom", "rex", "tom", "ada", "rex")):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (6, 4 + number, 3), dtype=np.uint8)).save(path)
        made.append(ImageRecord(str(path), identity, camera=number % 2, caption=f"number {number}"))
    return made


def _images(dataset, **options):
    batches = list(DataLoader(dataset, batch_size=2, **options))
    return torch.cat([batch.image for batch in batches])


def test_items_and_tensors_agree(records):
    dataset = ReidDataset(records, _EXACT)
    assert len(dataset) == 5
    assert dataset.identities == ("ada", "rex", "tom")
    assert dataset.num_identities == 3
    assert dataset.labels.tolist() == [2, 1, 2, 0, 1]
    assert dataset.labels.dtype == torch.int64
    assert dataset.cameras.tolist() == [0, 1, 0, 1, 0]
    assert dataset.captions == tuple(f"number {number}" for number in range(5))
    for index, item in enumerate(dataset):
        assert isinstance(item, ReidItem)
        assert item[1:] == (int(dataset.labels[index]), int(dataset.cameras[index]), index)
        assert torch.equal(item.image, _EXACT(load_image(records[index].path)))


def test_indices_count_from_either_end(records):
    dataset = ReidDataset(records, _EXACT)
    assert dataset[-1].row == 4
    with pytest.raises(IndexError):
        dataset[5]


def test_default_collation_makes_a_batch_of_the_same_kind(records):
    batch = next(iter(DataLoader(ReidDataset(records, _EXACT), batch_size=3)))
    assert isinstance(batch, ReidItem)
    assert batch.image.shape == (3, 3, 6, 4)
    assert batch.label.tolist() == [2, 1, 2]
    assert batch.camera.tolist() == [0, 1, 0]
    assert batch.row.tolist() == [0, 1, 2]


def test_a_batch_sampler_reads_the_labels(records):
    dataset = ReidDataset(records, _EXACT)
    rows = [torch.nonzero(dataset.labels == label).flatten().tolist() for label in (1, 2)]
    batches = [batch.label.tolist() for batch in DataLoader(dataset, batch_sampler=rows)]
    assert batches == [[1, 1], [2, 2]]


def test_integer_identities_sort_as_numbers(records):
    numbered = [
        ImageRecord(record.path, number)
        for record, number in zip(records, (10, 9, 10, 2, 9), strict=True)
    ]
    dataset = ReidDataset(numbered, _EXACT)
    assert dataset.identities == (2, 9, 10)
    assert dataset.labels.tolist() == [2, 1, 2, 0, 1]


def test_given_identities_fix_the_labels(records):
    gallery = ReidDataset(records, _EXACT)
    query = ReidDataset(records[:1], _EXACT, identities=gallery.identities)
    assert query.labels.tolist() == [2]
    assert query.num_identities == 3
    assert ReidDataset(records[:1], _EXACT).labels.tolist() == [0]


def test_no_cameras_are_none_and_minus_one(records):
    dataset = ReidDataset([ImageRecord(record.path, record.identity) for record in records], _EXACT)
    assert dataset.cameras is None
    assert dataset[0].camera == -1
    assert dataset.captions == (None,) * 5


def test_equal_cameras_have_equal_numbers_in_any_data_set(records):
    def cameras(*names):
        named = [ImageRecord(records[0].path, "tom", camera=name) for name in names]
        return ReidDataset(named, _EXACT).cameras.tolist()

    assert cameras(7, 3) == [7, 3]
    first, second = cameras("hall", "door")
    assert cameras("door", "yard", "hall")[::2] == [second, first]
    assert len({first, second, *cameras("yard")}) == 3
    assert min(first, second) >= 0


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("orientations", [4, 8])
def test_each_orientation_is_an_identity_of_its_own(records, orientations, cache):
    dataset = ReidDataset(records, _array_of, orientations=orientations, cache=cache)
    assert (
        len(dataset)
        == 5 * orientations
        == len(dataset.labels)
        == len(dataset.cameras)
        == len(dataset.captions)
    )
    assert dataset.num_identities == 3 * orientations == len(dataset.labels.unique())
    assert dataset.identities == ("ada", "rex", "tom")
    for index, item in enumerate(dataset):
        row, orientation = divmod(index, orientations)
        pixels = np.asarray(load_image(records[row].path))
        pixels = np.rot90(np.fliplr(pixels) if orientation >= 4 else pixels, orientation % 4)
        assert np.array_equal(item.image, pixels)
        assert dataset.identities[item.label // orientations] == records[row].identity
        assert item.label % orientations == orientation
        assert item.camera == records[row].camera
        assert dataset.captions[index] == records[row].caption


def _array_of(picture):
    return torch.from_numpy(np.array(picture))


def test_the_cache_gives_the_same_items_without_the_files(records, tmp_path):
    plain = ReidDataset(records, _AUGMENT, seed=3)
    cached = ReidDataset(records, _AUGMENT, seed=3, cache=True)
    expected = [item.image for item in plain]
    for file in tmp_path.iterdir():
        file.unlink()
    assert all(torch.equal(item.image, image) for item, image in zip(cached, expected, strict=True))
    with pytest.raises(ValueError, match=r"load_image: .*0\.png"):
        plain[0]


@pytest.mark.parametrize("cache", [False, True])
def test_seed_epoch_and_index_decide_the_augmentation(records, cache):
    same = [ImageRecord(records[0].path, "tom")] * 2
    dataset = ReidDataset(same, _AUGMENT, seed=1, cache=cache)
    first, second = (item.image for item in dataset)
    assert not torch.equal(first, second)
    assert torch.equal(dataset[1].image, second)
    assert torch.equal(ReidDataset(same, _AUGMENT, seed=1)[0].image, first)
    assert not torch.equal(ReidDataset(same, _AUGMENT, seed=2)[0].image, first)
    dataset.set_epoch(1)
    assert not torch.equal(dataset[0].image, first)
    dataset.set_epoch(0)
    assert torch.equal(dataset[0].image, first)


def test_global_generators_are_neither_read_nor_moved(records):
    dataset = ReidDataset(records, _AUGMENT)
    expected = dataset[0].image
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert torch.equal(dataset[0].image, expected)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002


def test_a_failing_transform_leaves_the_global_generator_as_it_was(records):
    def break_down(picture):
        raise RuntimeError("no")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no"):
        ReidDataset(records, break_down)[0]
    assert torch.equal(torch.get_rng_state(), before)


@_forks
@pytest.mark.parametrize("cache", [False, True])
def test_workers_change_nothing(records, cache):
    dataset = ReidDataset(records * 4, _AUGMENT, seed=5, cache=cache)
    dataset.set_epoch(3)
    assert torch.equal(_images(dataset), _images(dataset, num_workers=2))


@_forks
def test_a_new_epoch_reaches_running_workers(records):
    dataset = ReidDataset(records, _AUGMENT)
    loader = DataLoader(dataset, batch_size=5, num_workers=1, persistent_workers=True)
    for epoch in (0, 1, 2):
        dataset.set_epoch(epoch)
        (batch,) = loader
        assert torch.equal(batch.image, torch.stack([item.image for item in dataset]))


@_forks
def test_a_bad_image_is_named_through_a_worker(records, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    dataset = ReidDataset([*records, ImageRecord(f"{tmp_path}/bad.png", "tom", camera=1)], _EXACT)
    with pytest.raises(ValueError, match=r"load_image: expected an image .*bad\.png"):
        _images(dataset, num_workers=1)
    with pytest.raises(ValueError, match=r"load_image: expected an image .*bad\.png"):
        ReidDataset(dataset.records, _EXACT, cache=True)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))]
)
def test_a_copy_has_an_epoch_of_its_own_that_workers_share(records, copied):
    dataset = ReidDataset(records, _AUGMENT, cache=True)
    twin = copied(dataset)
    twin.set_epoch(1)
    assert twin._epoch.is_shared()
    assert int(dataset._epoch) == 0
    dataset.set_epoch(1)
    assert torch.equal(twin[2].image, dataset[2].image)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"orientations": 2}, "orientations to be 1, 4 or 8, got 2"),
        ({"seed": -1}, "seed >= 0, got -1"),
        (
            {"identities": ("ada",)},
            "among the given identities, got 2 that are not: 'tom', 'rex'. Pass",
        ),
        ({"identities": ("ada", "rex", "tom", "ada")}, "identities that differ, got 1 repeated"),
    ],
)
def test_wrong_options_are_explained(records, options, problem):
    with pytest.raises(ValueError, match=f"ReidDataset: expected .*{problem}"):
        ReidDataset(records, _EXACT, **options)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ([], "at least one record, got none"),
        (
            [("a.png", 1, 0), ("a.png", "1", 0)],
            r"got 1 integers \(1, ...\) and 1 strings \('1', ...\)",
        ),
        (
            [("a.png", 1, 0), ("a.png", 1, None)],
            "a camera for every record or for none, got none for 1 of 2",
        ),
        ([("a.png", 1, -1)], "cameras >= 0, or None where there are none, got -1"),
    ],
)
def test_wrong_records_are_explained(change, problem):
    with pytest.raises(ValueError, match=f"ReidDataset: expected .*{problem}"):
        ReidDataset(
            [ImageRecord(path, identity, camera=camera) for path, identity, camera in change],
            _EXACT,
        )


def test_a_transform_returns_a_tensor(records):
    with pytest.raises(
        ValueError,
        match=r"expected transform to return a tensor, got \w*Image\w*\. Use train_transform",
    ):
        ReidDataset(records, lambda picture: picture)[0]


def test_an_epoch_is_not_negative(records):
    with pytest.raises(ValueError, match=r"ReidDataset\.set_epoch: expected epoch >= 0, got -1"):
        ReidDataset(records, _EXACT).set_epoch(-1)


def test_identity_transform_changes_all_images_of_an_identity_alike(tmp_path):
    picture = _stripes()
    made = []
    for number, identity in enumerate((1, 2, 1, 2)):  # four files with the same content
        path = tmp_path / f"{number}.png"
        picture.save(path)
        made.append(ImageRecord(str(path), identity))
    warp = warp_transform(rotation=30.0, shear=20.0, perspective=0.5)
    dataset = ReidDataset(made, eval_transform(24), identity_transform=warp)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = [dataset[i].image for i in range(4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[1], first[3])
    assert not torch.equal(first[0], first[1])
    dataset.set_epoch(1)
    assert not torch.equal(dataset[0].image, first[0])
    assert torch.equal(dataset[0].image, dataset[2].image)
    plain = ReidDataset(made, eval_transform(24))
    assert not torch.equal(plain[0].image, first[0])


def _stripes():
    pixels = np.zeros((24, 24, 3), dtype=np.uint8)
    pixels[4:20, 6:9] = 255
    pixels[16:19, 6:18] = 128
    return Image.fromarray(pixels)
