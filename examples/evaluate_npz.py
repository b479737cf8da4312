"""Evaluate features that any project saved: python -m examples.evaluate_npz features.npz."""

import sys

import numpy as np

from clipreid_kit import evaluate_reid

features = np.load(sys.argv[1])
result = evaluate_reid(
    features["query_embeddings"],
    features["gallery_embeddings"],
    query_ids=features["query_ids"],
    gallery_ids=features["gallery_ids"],
    query_cameras=features["query_cameras"],
    gallery_cameras=features["gallery_cameras"],
)
print(result.table())
