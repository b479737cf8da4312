"""Hypothesis strategies for labels and embeddings."""

import numpy as np
import torch
from hypothesis import strategies as st


@st.composite
def labelled_rows(draw, max_rows=12, dim=5, max_identities=4, min_rows=1):
    """Embeddings (N, D) with labels (N,), repeated rows included."""
    rows = draw(st.integers(min_rows, max_rows))
    labels = draw(st.lists(st.integers(0, max_identities - 1), min_size=rows, max_size=rows))
    seed = draw(st.integers(0, 2**31))
    embeddings = torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, dim))).float()
    if draw(st.booleans()):
        embeddings[-1] = embeddings[0]
    return embeddings, torch.tensor(labels)


@st.composite
def two_sides(draw, max_rows=8, dim=4, max_identities=4):
    """Anchors and their labels, other rows and theirs; one pair of rows may coincide."""
    rows, labels = draw(labelled_rows(max_rows, dim, max_identities))
    others, other_labels = draw(labelled_rows(max_rows, dim, max_identities))
    if draw(st.booleans()):
        others[0] = rows[0]
    return rows, labels, others, other_labels
