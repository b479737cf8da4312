"""Samplers that no package ships, restated: Python lists, row by row, global random states."""

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

    def __init__(self, labels: list[int], num_identities: int, num_instances: int) -> None:
        self.num_identities = num_identities
        self.num_instances = num_instances
        self.rows = rows_by_label(labels)
        sizes = [max(len(rows), num_instances) for rows in self.rows.values()]
        self.length = sum(size // num_instances * num_instances for size in sizes)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        chunks = {label: self._shuffled_chunks(rows) for label, rows in self.rows.items()}
        remaining = list(chunks)
        drawn = []

        while len(remaining) >= self.num_identities:
            for label in random.sample(remaining, self.num_identities):
                drawn += chunks[label].pop(0)
                if not chunks[label]:
                    remaining.remove(label)
        return iter(drawn)

    def _shuffled_chunks(self, rows: list[int]) -> list[list[int]]:
        size = self.num_instances
        shuffled = list(rows)
        if len(shuffled) < size:
            shuffled = np.random.choice(rows, size).tolist()
        random.shuffle(shuffled)
        return [shuffled[i : i + size] for i in range(0, len(shuffled) - size + 1, size)]


class Naive:
    """fast-reid, naive: as above, rows taken one by one, without end."""

    def __init__(self, labels: list[int], num_identities: int, num_instances: int) -> None:
        self.num_identities = num_identities
        self.num_instances = num_instances
        self.rows = rows_by_label(labels)
        self.identities = sorted(self.rows)

    def __iter__(self) -> Iterator[int]:
        np.random.seed(0)
        while True:
            remaining = list(self.identities)
            queues: dict[int, list[int]] = {}

            while len(remaining) >= self.num_identities:
                drawn = np.random.choice(remaining, self.num_identities, replace=False)
                for label in drawn.tolist():
                    if label not in queues:
                        queues[label] = self._shuffled(self.rows[label])
                    for _ in range(self.num_instances):
                        yield queues[label].pop(0)
                    if len(queues[label]) < self.num_instances:
                        remaining.remove(label)

    def _shuffled(self, rows: list[int]) -> list[int]:
        shuffled = list(rows)
        if len(shuffled) < self.num_instances:
            shuffled = np.random.choice(shuffled, self.num_instances).tolist()
        np.random.shuffle(shuffled)
        return shuffled


class Balanced:
    """fast-reid, balanced: a row of each identity, and K - 1 of other cameras; without end."""

    def __init__(
        self, labels: list[int], cameras: list[int], num_identities: int, num_instances: int
    ) -> None:
        self.num_identities = num_identities
        self.num_instances = num_instances
        self.cameras = cameras
        self.rows = rows_by_label(labels)
        self.identities = sorted(self.rows)

    def __iter__(self) -> Iterator[int]:
        np.random.seed(0)
        num_used = len(self.identities) // self.num_identities * self.num_identities
        num_others = self.num_instances - 1

        while True:
            order = np.random.permutation(self.identities).tolist()
            for label in order[:num_used]:
                first = int(np.random.choice(self.rows[label]))
                others = self._others(label, first)
                replace = len(others) < self.num_instances
                yield first
                yield from np.random.choice(others, num_others, replace=replace).tolist()

    def _others(self, label: int, first: int) -> list[int]:
        """Rows of other cameras; without any, other rows; without any, the only row."""
        rows = self.rows[label]
        of_other_cameras = [row for row in rows if self.cameras[row] != self.cameras[first]]
        other_rows = [row for row in rows if row != first]
        return of_other_cameras or other_rows or [rows[0]]


def batches_of(rows: Iterator[int], size: int) -> Iterator[list[int]]:
    """Full batches of a stream of rows."""
    while len(batch := list(itertools.islice(rows, size))) == size:
        yield batch
