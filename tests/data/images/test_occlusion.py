import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data import Occlusion
from clipreid_kit.data.images.occlusion import OCCLUDER_KINDS


def photo(number, width=40, height=80):
    pixels = np.random.default_rng(number).integers(1, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    paths = [tmp_path_factory.mktemp("others") / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        photo(number).save(path)
    return [str(path) for path in paths]


def hidden(image, occluded):
    """Pixels that changed; a random pixel hardly ever equals another."""
    return (np.asarray(image) != np.asarray(occluded)).any(axis=2)


@pytest.mark.parametrize(
    ("kind", "rows", "columns"),
    [
        ("bottom", slice(56, 80), slice(0, 40)),
        ("top", slice(0, 24), slice(0, 40)),
        ("left", slice(0, 80), slice(0, 12)),
        ("right", slice(0, 80), slice(28, 40)),
    ],
)
def test_a_stripe_hides_its_side(kind, rows, columns):
    image = photo(9)
    expected = np.zeros((80, 40), dtype=bool)
    expected[rows, columns] = True

    occluded = Occlusion(kind, 0.3, fill=(0, 255, 0))(image)
    assert np.array_equal(hidden(image, occluded), expected)
    assert (np.asarray(occluded)[expected] == (0, 255, 0)).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_rectangles_hide_the_share_anywhere(share):
    masks = np.stack([hidden(photo(n), Occlusion("rectangle", share)(photo(n))) for n in range(60)])
    assert np.allclose(masks.mean(axis=(1, 2)), share, atol=0.03)
    assert masks.any(axis=0).mean() > 0.9  # nearly all places
    for mask in masks:  # in one rectangle
        assert mask.sum() == mask.any(axis=0).sum() * mask.any(axis=1).sum()
    if share < 0.9:
        heights = masks.any(axis=2).sum(axis=1)
        assert heights.min() < 1.3 * share * 80 < 0.8 * 80 < heights.max()


def test_a_patch_shows_that_place_of_another_image(others):
    image = photo(0)  # also among the others, and never pasted onto itself
    for seed in range(8):
        occluded = Occlusion("patch", 0.4, seed=seed, images=others)(image)
        mask = hidden(image, occluded)
        assert abs(mask.mean() - 0.4) < 0.03
        sources = [np.asarray(photo(number))[mask] for number in (1, 2)]
        assert any((np.asarray(occluded)[mask] == source).all() for source in sources)


@pytest.mark.parametrize("kind", OCCLUDER_KINDS)
def test_an_image_decides_its_occluder_whatever_came_before(kind, others):
    images = {"images": others} if kind == "patch" else {}
    occlusion = Occlusion(kind, 0.3, seed=4, **images)
    alone = [np.asarray(occlusion(photo(number))) for number in range(5)]
    backwards = [np.asarray(occlusion(photo(number))) for number in reversed(range(5))][::-1]
    assert all(map(np.array_equal, alone, backwards))

    if kind in ("rectangle", "patch"):
        other = Occlusion(kind, 0.3, seed=5, **images)
        assert not all(np.array_equal(other(photo(n)), alone[n]) for n in range(5))


def test_nothing_is_hidden_without_a_share_and_the_image_stays():
    image = photo(1)
    assert Occlusion("rectangle", 0)(image) is image
    Occlusion("rectangle", 0.5)(image)
    assert np.array_equal(np.asarray(image), np.asarray(photo(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "top", "share": 1.0}, r"share in \[0, 1\), got 1.0"),
        ({"kind": "top", "share": 0.1, "seed": -1}, "seed"),
        ({"kind": "top", "share": 0.1, "fill": 300}, "fill"),
        ({"kind": "patch", "share": 0.1}, "Pass images with it"),
        ({"kind": "top", "share": 0.1, "images": ["a.png"]}, "only with it"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        Occlusion(**options)


def test_equal_images_alone_are_no_others(others):
    with pytest.raises(ValueError, match="all 1 images equal the one to occlude"):
        Occlusion("patch", 0.5, images=others[:1])(photo(0))
