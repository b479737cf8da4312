import numpy as np
import torch
from PIL import Image

from clipreid_kit.data import ImageRecord, load_image
from clipreid_kit.data.images.pixel_cache import PixelCache


def test_images_of_any_sizes_come_back_as_they_are_loaded(tmp_path):
    records = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        shape = (3 + number, 9 - number, 3)
        pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        records.append(ImageRecord(str(path), number))

    cache = PixelCache(records)

    for row in (3, 0, 2, 1):
        image = cache[row]
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), np.asarray(load_image(records[row].path)))


def test_one_tensor_of_three_bytes_a_pixel(tmp_path):
    Image.new("L", (5, 7)).save(tmp_path / "a.png")
    cache = PixelCache([ImageRecord(str(tmp_path / "a.png"), 1)] * 2)

    assert cache._pixels.dtype == torch.uint8
    assert len(cache._pixels) == 2 * 3 * 5 * 7
