"""Hypothesis strategies for labels and embeddings."""

import numpy as np
import torch
from hypothesis import strategies as st


@st.composite
def labelled_rows(draw, max_rows=12, dim=5, max_identities=4, min_rows=1):
    """Embeddings (N, D) with labels (N,), with repeated rows among them."""
    num_rows = draw(st.integers(min_rows, max_rows))
    label = st.integers(0, max_identities - 1)
    labels = draw(st.lists(label, min_size=num_rows, max_size=num_rows))

    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    embeddings = torch.from_numpy(rng.standard_normal((num_rows, dim))).float()
    if draw(st.booleans()):
        embeddings[-1] = embeddings[0]

    return embeddings, torch.tensor(labels)


@st.composite
def two_sides(draw, max_rows=8, dim=4, max_identities=4):
    """Anchors with labels, and contrast rows with labels; one row may occur on both sides."""
    embeddings, labels = draw(labelled_rows(max_rows, dim, max_identities))
    contrast, contrast_labels = draw(labelled_rows(max_rows, dim, max_identities))
    if draw(st.booleans()):
        contrast[0] = embeddings[0]

    return embeddings, labels, contrast, contrast_labels
