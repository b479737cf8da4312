"""k-reciprocal re-ranking, query expansion and database augmentation."""
