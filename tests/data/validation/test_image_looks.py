import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data.validation import _image_looks
from clipreid_kit.data.validation._image_looks import (
    group_equal_images,
    look_at,
    near_pairs,
)


def photograph(seed, size=(64, 128)):
    """A smooth image with fine grain, as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.integers(-12, 13, smooth.shape)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def saved(folder, image, name, **options):
    path = folder / name
    image.save(path, **options)
    return str(path)


def looks_of(*paths):
    return {path: look_at(path) for path in paths}


def test_equal_pixels_in_two_formats_are_one_group(tmp_path):
    image = photograph(0)
    png = saved(tmp_path, image, "a.png")
    bmp = saved(tmp_path, image, "b.bmp")
    other = saved(tmp_path, photograph(1), "c.png")

    assert group_equal_images([], looks_of(png, bmp, other)) == [[png, bmp]]


def test_equal_colours_of_another_size_are_no_copy(tmp_path):
    wide = saved(tmp_path, Image.new("RGB", (4, 2), "red"), "wide.png")
    high = saved(tmp_path, Image.new("RGB", (2, 4), "red"), "high.png")

    assert group_equal_images([], looks_of(wide, high)) == []


def test_groups_that_share_a_path_are_joined(tmp_path):
    image = photograph(0)
    names = [saved(tmp_path, image, name) for name in ("a.png", "b.bmp")]

    groups = group_equal_images([["x", names[1]], ["y", "x"], ["p", "q"]], looks_of(*names))

    assert sorted(map(sorted, groups)) == sorted([["p", "q"], sorted(["x", "y", *names])])


def test_the_reason_against_an_image_is_returned(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    assert look_at(str(path)) == "the file is empty (0 bytes)"


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_an_image_saved_as_jpeg_again_is_found(tmp_path, quality):
    queries = [saved(tmp_path, photograph(seed), f"{seed}.png") for seed in range(6)]
    copy = saved(tmp_path, photograph(3), "copy.jpg", quality=quality)

    assert list(near_pairs(queries, [copy], looks_of(*queries, copy))) == [(queries[3], copy)]


def test_an_enlarged_copy_is_found(tmp_path):
    query = saved(tmp_path, photograph(3), "a.png")
    copy = saved(tmp_path, photograph(3).resize((96, 192)), "b.png")

    assert list(near_pairs([query], [copy], looks_of(query, copy))) == [(query, copy)]


def test_the_nearest_is_found_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(_image_looks, "_BLOCK", 2)
    queries = [saved(tmp_path, photograph(seed), f"{seed}.png") for seed in range(5)]
    copies = [saved(tmp_path, photograph(seed), f"copy{seed}.jpg") for seed in reversed(range(5))]

    found = list(near_pairs(queries, copies, looks_of(*queries, *copies)))
    assert found == list(zip(queries, reversed(copies), strict=True))


def test_images_with_little_contrast_are_no_copies(tmp_path):
    grey = saved(tmp_path, Image.new("RGB", (8, 8), (90, 90, 90)), "a.png")
    other = saved(tmp_path, Image.new("RGB", (8, 8), (91, 90, 90)), "b.png")

    assert list(near_pairs([grey], [other], looks_of(grey, other))) == []


def test_without_images_nothing_is_near():
    assert list(near_pairs([], [], {})) == []
