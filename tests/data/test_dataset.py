import copy
import pickle
import random
import threading

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

AUGMENT = train_transform(12, pad=2, rotation=20.0, color_jitter=0.4, erasing=0.5)
EXACT = eval_transform((6, 4), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for number, identity in enumerate(("tom", "rex", "tom", "ada", "rex")):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (6, 4 + number, 3), dtype=np.uint8)).save(path)
        made.append(ImageRecord(str(path), identity, camera=number % 2, caption=f"number {number}"))
    return made


def load_all(dataset, **options):
    batches = list(DataLoader(dataset, batch_size=2, **options))
    return torch.cat([batch.image for batch in batches])


def as_tensor(image):
    return torch.from_numpy(np.array(image))


def test_the_columns_of_a_data_set(records):
    dataset = ReidDataset(records, EXACT)

    assert len(dataset) == 5
    assert dataset.identities == ("ada", "rex", "tom")
    assert dataset.num_identities == 3
    assert dataset.labels.tolist() == [2, 1, 2, 0, 1]
    assert dataset.labels.dtype == torch.int64
    assert dataset.cameras.tolist() == [0, 1, 0, 1, 0]
    assert dataset.captions == tuple(f"number {number}" for number in range(5))


def test_an_item_has_the_values_of_its_row(records):
    dataset = ReidDataset(records, EXACT)

    for row, item in enumerate(dataset):
        assert isinstance(item, ReidItem)
        assert item.row == row
        assert item.label == dataset.labels[row]
        assert item.camera == dataset.cameras[row]
        assert torch.equal(item.image, EXACT(load_image(records[row].path)))


def test_negative_indices_count_from_the_end(records):
    dataset = ReidDataset(records, EXACT)

    assert dataset[-1].row == 4
    with pytest.raises(IndexError):
        dataset[5]


@pytest.mark.unhooked
def test_a_batch_sampler_that_is_passed_as_sampler_is_named(records):
    with pytest.raises(ValueError, match="as batch_sampler, not as sampler"):
        ReidDataset(records, EXACT)[[0, 1]]


def test_the_repr_is_one_line_with_sizes_and_options(records):
    dataset = ReidDataset(records, EXACT, seed=3, orientations=4)
    assert repr(dataset) == (
        "ReidDataset(num_items=20, num_identities=12, num_cameras=2, orientations=4, seed=3, "
        "cache=False)"
    )


def test_default_collation_makes_a_batch_of_the_same_type(records):
    batch = next(iter(DataLoader(ReidDataset(records, EXACT), batch_size=3)))

    assert isinstance(batch, ReidItem)
    assert batch.image.shape == (3, 3, 6, 4)
    assert batch.label.tolist() == [2, 1, 2]
    assert batch.camera.tolist() == [0, 1, 0]
    assert batch.row.tolist() == [0, 1, 2]


def test_a_batch_sampler_can_be_built_from_the_labels(records):
    dataset = ReidDataset(records, EXACT)
    rows = [torch.nonzero(dataset.labels == label).flatten().tolist() for label in (1, 2)]

    batches = [batch.label.tolist() for batch in DataLoader(dataset, batch_sampler=rows)]
    assert batches == [[1, 1], [2, 2]]


def test_integer_identities_sort_as_numbers(records):
    identities = (10, 9, 10, 2, 9)
    numbered = [ImageRecord(r.path, i) for r, i in zip(records, identities, strict=True)]
    dataset = ReidDataset(numbered, EXACT)

    assert dataset.identities == (2, 9, 10)
    assert dataset.labels.tolist() == [2, 1, 2, 0, 1]


def test_given_identities_fix_the_labels(records):
    gallery = ReidDataset(records, EXACT)
    query = ReidDataset(records[:1], EXACT, identities=gallery.identities)

    assert query.labels.tolist() == [2]
    assert query.num_identities == 3
    assert ReidDataset(records[:1], EXACT).labels.tolist() == [0]


def test_without_cameras_and_captions(records):
    dataset = ReidDataset([ImageRecord(record.path, record.identity) for record in records], EXACT)

    assert dataset.cameras is None
    assert dataset[0].camera == -1
    assert dataset.captions == (None,) * 5
    assert "num_cameras=0" in repr(dataset)


def test_integer_cameras_stay_as_they_are(records):
    numbered = [ImageRecord(records[0].path, "tom", camera=camera) for camera in (7, 3)]
    assert ReidDataset(numbered, EXACT).cameras.tolist() == [7, 3]


def test_equal_camera_names_have_equal_numbers_in_any_data_set(records):
    def numbers_of(*names):
        named = [ImageRecord(records[0].path, "tom", camera=name) for name in names]
        return ReidDataset(named, EXACT).cameras.tolist()

    hall, door = numbers_of("hall", "door")
    door_again, yard, hall_again = numbers_of("door", "yard", "hall")

    assert (hall_again, door_again) == (hall, door)
    assert len({hall, door, yard}) == 3
    assert min(hall, door, yard) >= 0


@pytest.mark.parametrize("orientations", [4, 8])
def test_every_column_repeats_for_each_orientation(records, orientations):
    dataset = ReidDataset(records, as_tensor, orientations=orientations)

    assert len(dataset) == 5 * orientations
    assert len(dataset.labels) == len(dataset.cameras) == len(dataset.captions) == len(dataset)
    assert dataset.num_identities == len(dataset.labels.unique()) == 3 * orientations
    assert dataset.identities == ("ada", "rex", "tom")


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("orientations", [4, 8])
def test_each_orientation_is_another_identity(records, orientations, cache):
    dataset = ReidDataset(records, as_tensor, orientations=orientations, cache=cache)

    for index, item in enumerate(dataset):
        row, orientation = divmod(index, orientations)
        pixels = np.asarray(load_image(records[row].path))
        if orientation >= 4:
            pixels = np.fliplr(pixels)
        assert np.array_equal(item.image, np.rot90(pixels, orientation % 4))

        assert dataset.identities[item.label // orientations] == records[row].identity
        assert item.label % orientations == orientation
        assert item.camera == records[row].camera
        assert dataset.captions[index] == records[row].caption


def test_the_cache_gives_the_same_items_without_the_files(records, tmp_path):
    plain = ReidDataset(records, AUGMENT, seed=3)
    cached = ReidDataset(records, AUGMENT, seed=3, cache=True)
    expected = [item.image for item in plain]
    for file in tmp_path.iterdir():
        file.unlink()

    for item, image in zip(cached, expected, strict=True):
        assert torch.equal(item.image, image)
    with pytest.raises(ValueError, match=r"load_image: cannot read .*0\.png"):
        plain[0]


@pytest.mark.parametrize("cache", [False, True])
def test_seed_epoch_and_index_decide_the_augmentation(records, cache):
    same = [ImageRecord(records[0].path, "tom")] * 2
    dataset = ReidDataset(same, AUGMENT, seed=1, cache=cache)

    first, second = (item.image for item in dataset)
    assert not torch.equal(first, second)
    assert torch.equal(dataset[1].image, second)
    assert torch.equal(ReidDataset(same, AUGMENT, seed=1)[0].image, first)
    assert not torch.equal(ReidDataset(same, AUGMENT, seed=2)[0].image, first)

    dataset.set_epoch(1)
    assert not torch.equal(dataset[0].image, first)
    dataset.set_epoch(0)
    assert torch.equal(dataset[0].image, first)


def test_global_generators_are_neither_read_nor_changed(records):
    dataset = ReidDataset(records, AUGMENT)
    expected = dataset[0].image

    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch_state = torch.get_rng_state()
    python_state = random.getstate()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002

    assert torch.equal(dataset[0].image, expected)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_a_failing_transform_leaves_the_global_generator_as_it_was(records):
    def break_down(image):
        torch.rand(1)
        raise RuntimeError("no")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no"):
        ReidDataset(records, break_down)[0]

    assert torch.equal(torch.get_rng_state(), before)


@forks
@pytest.mark.parametrize("cache", [False, True])
def test_workers_change_nothing(records, cache):
    dataset = ReidDataset(records * 4, AUGMENT, seed=5, cache=cache)
    dataset.set_epoch(3)

    assert torch.equal(load_all(dataset), load_all(dataset, num_workers=2))


@forks
def test_a_new_epoch_reaches_running_workers(records):
    dataset = ReidDataset(records, AUGMENT)
    loader = DataLoader(dataset, batch_size=5, num_workers=1, persistent_workers=True)

    for epoch in (0, 1, 2):
        dataset.set_epoch(epoch)
        (batch,) = loader
        assert torch.equal(batch.image, torch.stack([item.image for item in dataset]))


@pytest.fixture
def with_a_bad_image(records, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    return [*records, ImageRecord(f"{tmp_path}/bad.png", "tom", camera=1)]


@forks
def test_a_bad_image_is_named_by_a_worker(with_a_bad_image):
    dataset = ReidDataset(with_a_bad_image, EXACT)
    with pytest.raises(ValueError, match=r"load_image: cannot read .*bad\.png"):
        load_all(dataset, num_workers=1)


def test_a_bad_image_is_named_by_the_cache(with_a_bad_image):
    with pytest.raises(ValueError, match=r"load_image: cannot read .*bad\.png"):
        ReidDataset(with_a_bad_image, EXACT, cache=True)


@pytest.mark.parametrize(
    "make_copy", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))]
)
def test_a_copy_has_its_own_epoch_in_shared_memory(records, make_copy):
    dataset = ReidDataset(records, AUGMENT, cache=True)
    twin = make_copy(dataset)

    twin.set_epoch(1)
    assert twin._epoch.is_shared()
    assert dataset.epoch == 0

    dataset.set_epoch(1)
    assert torch.equal(twin[2].image, dataset[2].image)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"orientations": 2}, "expected orientations to be 1, 4 or 8, got 2"),
        ({"orientations": "4"}, "expected orientations to be 1, 4 or 8, got '4'"),
        ({"seed": -1}, "expected seed as a whole number >= 0, got -1"),
        ({"seed": "0"}, "expected seed as a whole number >= 0, got '0'"),
        (
            {"identities": ("ada",)},
            "2 identities of the records are not among the given identities: 'tom', 'rex'. Pass",
        ),
        (
            {"identities": ("ada", "rex", "tom", "ada")},
            "1 of the given identities are repeated",
        ),
    ],
)
def test_wrong_options_are_explained(records, options, problem):
    with pytest.raises(ValueError, match=f"ReidDataset: {problem}"):
        ReidDataset(records, EXACT, **options)


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([], "there are no records"),
        (
            [ImageRecord("a.png", 1), ImageRecord("a.png", "1")],
            r"1 identities are integers \(1, \.\.\.\) and 1 are strings \('1', \.\.\.\)",
        ),
        (
            [ImageRecord("a.png", 1, camera=0), ImageRecord("a.png", 1)],
            "1 of 2 records have no camera",
        ),
        (
            [ImageRecord("a.png", 1, camera=-1)],
            "expected cameras >= 0, or None for an unknown camera, got -1",
        ),
    ],
)
def test_wrong_records_are_explained(records, problem):
    with pytest.raises(ValueError, match=f"ReidDataset: {problem}"):
        ReidDataset(records, EXACT)


def test_a_transform_has_to_return_a_tensor(records):
    message = r"ReidDataset: the transform returned a \w*Image\w*; .* Use train_transform"
    with pytest.raises(ValueError, match=message):
        ReidDataset(records, lambda image: image)[0]


def test_an_epoch_is_not_negative(records):
    message = r"ReidDataset\.set_epoch: expected epoch as a whole number >= 0, got -1"
    with pytest.raises(ValueError, match=message):
        ReidDataset(records, EXACT).set_epoch(-1)


@pytest.fixture
def same_drawings(tmp_path):
    """Four files with the same pixels, of two identities in turn."""
    pixels = np.zeros((24, 24, 3), dtype=np.uint8)
    pixels[4:20, 6:9] = 255
    pixels[16:19, 6:18] = 128

    records = []
    for number, identity in enumerate((1, 2, 1, 2)):
        path = tmp_path / f"drawing{number}.png"
        Image.fromarray(pixels).save(path)
        records.append(ImageRecord(str(path), identity))
    return records


WARP = warp_transform(rotation=30.0, shear=20.0, perspective=0.5)


def test_identity_transform_changes_all_images_of_an_identity_alike(same_drawings):
    dataset = ReidDataset(same_drawings, eval_transform(24), identity_transform=WARP)
    images = [item.image for item in dataset]

    assert torch.equal(images[0], images[2])
    assert torch.equal(images[1], images[3])
    assert not torch.equal(images[0], images[1])

    plain = ReidDataset(same_drawings, eval_transform(24))
    assert not torch.equal(plain[0].image, images[0])


def test_identity_transform_changes_with_the_epoch(same_drawings):
    dataset = ReidDataset(same_drawings, eval_transform(24), identity_transform=WARP)
    before = dataset[0].image
    dataset.set_epoch(1)

    assert not torch.equal(dataset[0].image, before)
    assert torch.equal(dataset[0].image, dataset[2].image)


def test_identity_transform_leaves_the_global_generator_as_it_was(same_drawings):
    dataset = ReidDataset(same_drawings, eval_transform(24), identity_transform=WARP)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    dataset[0]

    assert torch.equal(torch.get_rng_state(), before)


def test_copies_of_a_record_have_one_image_number(tmp_path):
    records = [ImageRecord(f"{name}.png", 0) for name in "abab"]
    assert ReidDataset(records, eval_transform(4)).image_numbers.tolist() == [0, 1, 0, 1]

    turned = ReidDataset(records[1:3], eval_transform(4), orientations=4).image_numbers
    assert turned.tolist() == list(range(8))


def test_a_thread_that_loads_items_leaves_the_random_numbers_of_others_alone(records):
    dataset = ReidDataset(records, AUGMENT, identity_transform=warp_transform())
    expected = load_all(dataset)

    loaded = []
    loading = threading.Event()

    def load():
        loading.set()
        loaded.append(torch.cat([dataset[index].image[None] for index in range(5)] * 4))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        alone = torch.rand(20_000)

        torch.manual_seed(7)
        thread = threading.Thread(target=load)
        thread.start()
        loading.wait()
        beside = torch.cat([torch.rand(1) for _ in range(20_000)])
        thread.join()

    assert torch.equal(beside, alone)
    assert torch.equal(loaded[0], torch.cat([expected] * 4))


def camera_numbers(*cameras):
    records = [ImageRecord(f"{i}.jpg", 1, camera=camera) for i, camera in enumerate(cameras)]
    return ReidDataset(records, EXACT).cameras.tolist()


def test_cameras_have_one_numbering_however_they_were_read():
    assert camera_numbers(1, 2) == [1, 2]
    assert camera_numbers("1", "02") == [1, 2]
    assert camera_numbers("02", "gate") == [2, camera_numbers("gate")[0]]


def test_two_cameras_that_are_one_number_are_refused():
    with pytest.raises(
        ValueError, match=r"the cameras '0?1' and '0?1' are one number\. Write each"
    ):
        camera_numbers("1", "01")
