"""Samplers that no package ships, restated from what they do: rows one by one, Python lists, global random states."""

# ruff: noqa: NPY002 (global random states are theirs)

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator

import numpy as np


def rows_by_label(labels: list[int]) -> dict[int, list[int]]:
    """Rows of each identity."""
    rows = defaultdict(list)
    for row, label in enumerate(labels):
        rows[label].append(row)
    return rows


class ChunkedLists:
    """CLIP-ReID, torchreid: chunks of K rows, identities drawn until fewer than P have one left."""

    def __init__(self, labels: list[int], p: int, k: int) -> None:
        self.p, self.k, self.rows = p, k, rows_by_label(labels)
        self.length = sum(max(len(rows), k) // k * k for rows in self.rows.values())

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        chunks = {}
        for label, held in self.rows.items():
            own = list(held) if len(held) >= self.k else np.random.choice(held, self.k).tolist()
            random.shuffle(own)
            chunks[label] = [own[i : i + self.k] for i in range(0, len(own) - self.k + 1, self.k)]
        left, drawn = list(chunks), []
        while len(left) >= self.p:
            for label in random.sample(left, self.p):
                drawn += chunks[label].pop(0)
                if not chunks[label]:
                    left.remove(label)
        return iter(drawn)


class Naive:
    """fast-reid, naive: as above, rows taken one by one, batches as they come, without end."""

    def __init__(self, labels: list[int], p: int, k: int) -> None:
        self.p, self.k, self.rows = p, k, rows_by_label(labels)
        self.identities = sorted(self.rows)

    def __iter__(self) -> Iterator[int]:
        np.random.seed(0)
        while True:
            left, queues = list(self.identities), {}
            while len(left) >= self.p:
                for label in np.random.choice(left, self.p, replace=False).tolist():
                    if label not in queues:
                        own = list(self.rows[label])
                        if len(own) < self.k:
                            own = np.random.choice(own, self.k).tolist()
                        np.random.shuffle(own)
                        queues[label] = own
                    for _ in range(self.k):
                        yield queues[label].pop(0)
                    if len(queues[label]) < self.k:
                        left.remove(label)


class Balanced:
    """fast-reid, balanced: a row of each identity, and K - 1 of other cameras; without end."""

    def __init__(self, labels: list[int], cameras: list[int], p: int, k: int) -> None:
        self.p, self.k, self.cameras, self.rows = p, k, cameras, rows_by_label(labels)
        self.identities = sorted(self.rows)

    def __iter__(self) -> Iterator[int]:
        np.random.seed(0)
        while True:
            order = np.random.permutation(self.identities).tolist()
            for label in order[: len(order) // self.p * self.p]:
                own = self.rows[label]
                first = np.random.choice(own)
                others = [row for row in own if self.cameras[row] != self.cameras[first]]
                others = others or [row for row in own if row != first] or [own[0]]
                yield int(first)
                yield from np.random.choice(
                    others, self.k - 1, replace=len(others) < self.k
                ).tolist()


def batches_of(rows: Iterator[int], size: int) -> Iterator[list[int]]:
    """Full batches of a stream of rows."""
    while len(batch := list(itertools.islice(rows, size))) == size:
        yield batch
