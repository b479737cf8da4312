import pickle

import pytest
import torch
from PIL import Image

from clipreid_kit.data import ImageRecord, ReidDataset, StripeMasking, eval_transform
from clipreid_kit.data import train_transform as transform_of

ONES = torch.ones(3, 20, 6)


def masked_rows(image, original=ONES):
    return (image != original).all(dim=(0, 2)).tolist()


@pytest.mark.parametrize(
    ("share", "num_stripes", "rows"), [(0.3, 1, 6), (0.5, 3, 10), (0.01, 2, 2)]
)
def test_stripes_cover_the_share_of_whole_rows(share, num_stripes, rows):
    torch.manual_seed(0)
    masking = StripeMasking(1.0, share, num_stripes)
    for _ in range(20):
        image = masking(ONES)
        assert sum(masked_rows(image)) == rows
        assert ((image == 0).all(dim=(0, 2)) | (image == 1).all(dim=(0, 2))).all()


def test_a_single_stripe_is_in_one_piece_and_reaches_every_place():
    torch.manual_seed(0)
    masking = StripeMasking(1.0, share=0.25)
    firsts = {masked_rows(masking(ONES)).index(True) for _ in range(300)}
    assert firsts == set(range(16))


def test_the_probability_is_of_images_and_the_input_stays():
    torch.manual_seed(0)
    masking = StripeMasking(0.25, fill="noise")
    changed = sum(not torch.equal(masking(ONES), ONES) for _ in range(400))
    assert 70 < changed < 130
    assert torch.equal(ONES, torch.ones(3, 20, 6))
    assert StripeMasking(0.0)(ONES) is ONES


def test_rows_come_from_another_image(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (5, 9), "red").save(path)
    transform = eval_transform((20, 6))
    masking = StripeMasking(1.0, fill="image", images=[str(path)], transform=transform)

    image = masking(ONES)
    rows = torch.tensor(masked_rows(image))
    assert int(rows.sum()) == 6
    assert torch.equal(image[:, rows], transform(Image.open(path))[:, rows])
    assert pickle.loads(pickle.dumps(masking)).images == [str(path)]


def test_an_item_decides_its_stripes_in_any_order(tmp_path):
    path = str(tmp_path / "grey.png")
    Image.new("RGB", (6, 20), "grey").save(path)
    transform = transform_of((20, 6), horizontal_flip=0.0, stripes=StripeMasking(0.5, fill="noise"))
    dataset = ReidDataset([ImageRecord(path, number) for number in range(6)], transform, seed=3)

    forwards = [dataset[row].image for row in range(6)]
    backwards = [dataset[row].image for row in reversed(range(6))][::-1]
    assert all(map(torch.equal, forwards, backwards))
    assert len({image.sum().item() for image in forwards}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 1.5}, r"probability in \[0, 1\], got 1.5"),
        ({"probability": 1, "share": 1}, r"share in \(0, 1\), got 1"),
        ({"probability": 1, "num_stripes": 0}, "num_stripes"),
        ({"probability": 1, "fill": "image"}, "needs images and transform"),
        ({"probability": 1, "images": ["a.png"]}, "have no effect"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        StripeMasking(**options)


@pytest.mark.unhooked
def test_an_unknown_fill_is_refused():
    with pytest.raises(ValueError, match="fill"):
        StripeMasking(1.0, fill="black")


def test_more_stripes_than_rows_are_refused():
    with pytest.raises(ValueError, match="images of at least 30 rows, got 20"):
        StripeMasking(1.0, num_stripes=30)(ONES)
