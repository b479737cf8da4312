"""Rows in memory that can be searched, and the definition of the answer."""

import numpy as np
import torch

from clipreid_kit._similarity.exact_similarity import all_products, combine_products, split_rows
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace, check_sets
from clipreid_kit.retrieval.exact import code_grid, row_center


def space_of(sets, distance):
    """The space that some sets of embeddings are compared in."""
    names = [f"set {number}" for number in range(len(sets))]
    return SimilaritySpace(check_sets("owner", names, sets), distance)


class ArraySource:
    """Rows in memory, with codes as a segment has them."""

    def __init__(self, rows):
        self.rows = torch.as_tensor(rows)
        self._norms = torch.linalg.vector_norm(self.rows.double(), dim=1)
        unit = self.rows.double() * torch.where(self._norms > 0, 1 / self._norms, 0.0)[:, None]
        unit = unit.float()
        self.grid = code_grid.fit_grid(unit.amin(0), unit.amax(0))
        self.encoded = code_grid.encode_rows(unit, self.grid)
        self.center = row_center.center_of(self.grid)

    def __len__(self):
        return len(self.rows)

    def vectors(self, start, stop):
        return self.rows[start:stop]

    def take(self, rows):
        return self.rows[torch.from_numpy(rows)]

    def norms(self, start, stop):
        return self._norms[start:stop]

    def codes(self, start, stop):
        return self.encoded.codes[start:stop]

    def code_bounds(self, start, stop):
        return self.encoded.residuals.max(), self.encoded.code_norms.max()

    def along_center(self, start, stop):
        rows, norms = self.rows[start:stop], self._norms[start:stop]
        return row_center.products_with_center(rows, norms, self.center)


def brute_force(queries, gallery, count, allowed=None):
    q, g = split_rows(queries, "cosine"), split_rows(gallery, "cosine")
    similarities = combine_products(all_products(q, g), q, g, "cosine").numpy()
    rows = np.arange(len(gallery)) if allowed is None else np.flatnonzero(allowed)
    keys = np.broadcast_to(rows, (len(queries), len(rows)))
    order = np.lexsort((keys, -similarities[:, rows]))[:, :count]
    found = rows[order]
    return found, np.take_along_axis(similarities, found, axis=1)


def data(kind, rng, count, dim):
    rows = rng.standard_normal((count, dim))
    if kind == "clusters":
        centres = rng.standard_normal((3, dim))
        rows = centres[rng.integers(0, 3, count)] + 0.05 * rows
    elif kind == "collapsed":
        rows = 1 + 1e-4 * rows
    elif kind == "copies":
        rows = rows[rng.integers(0, 1 + count // 5, count)]
    elif kind == "one ulp":
        rows = np.ones((count, dim)) + np.spacing(np.float32(1)) * rng.integers(0, 2, (count, dim))
    elif kind == "small integers":
        rows = rng.integers(-1, 2, (count, dim)).astype(float)
    elif kind == "norms":
        rows *= 10.0 ** rng.integers(-25, 10, (count, 1))
    return rows.astype(np.float32)


KINDS = ["noise", "clusters", "collapsed", "copies", "one ulp", "small integers", "norms"]
