import numpy as np
import torch

from clipreid_kit.metrics.protocols._random_draws import draw_one_each


def test_every_image_is_drawn_equally_often():
    generator = torch.Generator().manual_seed(0)
    codes = np.array([0, 1, 0, 0, 1, 2])
    drawn = np.stack([draw_one_each(codes, generator) for _ in range(3000)])

    assert (codes[drawn] == [0, 1, 2]).all()

    counts = np.bincount(drawn.ravel(), minlength=6)
    assert counts[5] == 3000
    np.testing.assert_allclose(counts[[0, 2, 3]], 1000, atol=110)  # four standard deviations
    np.testing.assert_allclose(counts[[1, 4]], 1500, atol=110)
