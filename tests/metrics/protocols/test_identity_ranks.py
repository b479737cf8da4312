"""Ranks among identities over several blocks of queries; compared with loops in test_sysu_mm01."""

import numpy as np

from clipreid_kit import SysuMM01Protocol
from clipreid_kit.metrics.protocols import _identity_ranks


def test_the_size_of_a_block_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 8))
    columns = {
        "query_ids": rng.integers(0, 5, 20),
        "gallery_ids": rng.integers(0, 5, 40),
        "query_cameras": rng.choice([3, 6], 20),
        "gallery_cameras": rng.choice([1, 2, 4, 5], 40),
    }

    def ranks():
        found = SysuMM01Protocol(num_splits=3).evaluate(rows[:20], rows[20:], **columns)
        return [result.first_rank.tolist() for result in found.results]

    whole = ranks()
    monkeypatch.setattr(_identity_ranks, "_BLOCK", 100)
    assert ranks() == whole
