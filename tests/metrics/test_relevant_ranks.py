import numpy as np
import pytest
import torch

from clipreid_kit.metrics import relevant_ranks
from clipreid_kit.metrics.relevance import relevance_by_lists
from clipreid_kit.metrics.relevant_ranks import ranks_in_space, ranks_of_matrix
from clipreid_kit.metrics.space import Space


def test_by_hand():
    similarity = torch.tensor([[0.9, 0.5, 0.5, 0.1], [0.1, 0.2, 0.3, 0.4]])
    relevance = relevance_by_lists("owner", [[1, 3], [0]], (2, 4))
    assert ranks_of_matrix(similarity, relevance, "pessimistic").tolist() == [3, 4, 4]
    assert ranks_of_matrix(similarity, relevance, "optimistic").tolist() == [2, 4, 4]


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic"])
@pytest.mark.parametrize("many", [1 << 16, 0])
def test_equal_rows_are_ties_on_either_path(monkeypatch, ties, many):
    monkeypatch.setattr(relevant_ranks, "_MANY", many)
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((8, 32))).float()[torch.arange(40) % 8]
    relevance = relevance_by_lists("owner", [[0, 9], [20], list(range(5))], (3, 40))
    space = Space([rows[:3] + 0.1, rows], "cosine")
    similarity = torch.from_numpy(space.exact(np.repeat(np.arange(3), 40), np.tile(np.arange(3, 43), 3)).reshape(3, 40))
    want = ranks_of_matrix(similarity, relevance, ties)
    assert ranks_in_space(space, (3, 40), relevance, ties, alone=False).tolist() == want.tolist()
