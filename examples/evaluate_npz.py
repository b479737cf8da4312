"""Evaluate features that any project saved: python -m examples.evaluate_npz features.npz."""

import sys

import numpy as np

from clipreid_kit import evaluate_reid

data = np.load(sys.argv[1])
query = {"query_ids": data["query_ids"], "query_cameras": data["query_cameras"]}
gallery = {"gallery_ids": data["gallery_ids"], "gallery_cameras": data["gallery_cameras"]}
result = evaluate_reid(data["query_embeddings"], data["gallery_embeddings"], **query, **gallery)
print(result.table())
