"""Embeddings of protocols, and comparison of a result with the rows of an oracle."""

import numpy as np
import pytest


def on_circle(*degrees):
    """Embeddings at these angles of the unit circle."""
    angle = np.deg2rad(np.array(degrees, dtype=np.float64))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def check_rows(result, rows):
    """Each row is (AP, INP, first rank), or None for a query without a match."""
    for i, row in enumerate(rows):
        assert (result.num_positives[i] == 0) == (row is None)
        if row is None:
            assert np.isnan(result.average_precision[i])
            assert result.first_rank[i] == 0
            continue
        assert result.average_precision[i] == pytest.approx(row[0])
        assert result.inverse_negative_penalty[i] == pytest.approx(row[1])
        assert result.first_rank[i] == pytest.approx(row[2])  # a mean over orders of ties
