"""Galleries and brute force for the tests of the index."""

import numpy as np
import torch

from clipreid_kit._similarity.exact_similarity import all_products, combine_products, split_rows
from clipreid_kit.data import ImageRecord


def similarities(queries, gallery):
    q, g = (split_rows(torch.as_tensor(rows), "cosine") for rows in (queries, gallery))
    return combine_products(all_products(q, g), q, g, "cosine").numpy()


def records_of(count, seed=0, start=0):
    rng = np.random.default_rng(seed)
    return [
        ImageRecord(
            f"images/{start + i}.jpg",
            identity=int(rng.integers(4)),
            camera=[1, 2, "gate", None][rng.integers(4)],
            split=["query", "gallery"][rng.integers(2)],
            extra={"frame": str(rng.integers(100))} if rng.random() < 0.8 else {},
        )
        for i in range(count)
    ]
