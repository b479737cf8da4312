"""Growth of time and memory with the number of rows, of the library's parts and of their peers.

Each measurement runs in a process of its own, forked from one that has imported everything, with a
cap on its memory and on its processor time. A contender's curve ends where it dies, or where the
last size shows that the next takes more than twice the time that is allowed.
"""

import argparse
import json
import os
import pickle
import resource
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import torch
from pytorch_metric_learning.losses import SupConLoss as PeerSupConLoss
from pytorch_metric_learning.samplers import MPerClassSampler
from torchmetrics.retrieval import RetrievalMAP

from benchmarks.bench_evaluation import clustered, numpy_loop
from benchmarks.bench_reranking import dense
from benchmarks.measure import OURS, Work, machine, peak_memory
from clipreid_kit import KReciprocalReranker, PKSampler, SupConLoss, evaluate_reid
from clipreid_kit.data import mine_hard_negatives
from clipreid_kit.retrieval import GalleryIndex

GB = 1 << 30
DIM = 128
PER_IDENTITY = 20
NUM_QUERIES = 200
NO_MEMORY = 2  # exit status of a process that reached its cap

Make = Callable[[int], Work]


class Part(NamedTuple):
    """A part of the library.

    Attributes:
        rows: What N counts.
        order: Theoretical order of the time, as an exponent of N.
        first: The first N.
        contenders: Functions that prepare the work of a size, by name.
    """

    rows: str
    order: int
    first: int
    contenders: dict[str, Make]


class Point(NamedTuple):
    """A measurement: processor seconds, and MB that the work adds at its peak."""

    size: int
    seconds: float
    memory: float


def evaluation(of_ours: bool) -> Make:
    """Queries against a gallery of N rows, by this library or with the whole matrix in numpy."""

    def make(size: int) -> Work:
        query, gallery = clustered(NUM_QUERIES, size, identities=size // PER_IDENTITY, dim=DIM)
        if not of_ours:
            return lambda: numpy_loop(query, gallery)
        return lambda: evaluate_reid(
            query[0],
            gallery[0],
            query_ids=query[1],
            gallery_ids=gallery[1],
            query_cameras=query[2],
            gallery_cameras=gallery[2],
        )

    return make


def torchmetrics_evaluation(size: int) -> Work:
    """Mean average precision of torchmetrics, over all pairs."""
    query, gallery = clustered(NUM_QUERIES, size, identities=size // PER_IDENTITY, dim=DIM)

    def work() -> object:
        similarity = query[0] @ gallery[0].T
        target = query[1][:, None] == gallery[1][None]
        row = torch.arange(NUM_QUERIES)[:, None].expand_as(target)
        return RetrievalMAP()(similarity.flatten(), target.flatten(), row.flatten())

    return work


def reranking(of_ours: bool) -> Make:
    """k-reciprocal re-ranking of N images, a fifth of them queries."""

    def make(size: int) -> Work:
        sizes = size // 5, size - size // 5
        queries, gallery = (
            side[0] for side in clustered(*sizes, identities=size // PER_IDENTITY, dim=DIM)
        )
        if not of_ours:
            return lambda: dense(queries, gallery)
        return lambda: [block.shape for _, block in KReciprocalReranker(queries, gallery)]

    return make


def labels_of(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, size // PER_IDENTITY, size)


def our_epoch(size: int) -> Work:
    """An epoch of batches of N images."""
    labels = labels_of(size)
    return lambda: sum(1 for _ in PKSampler(labels, 16, 4, coverage="images"))


def first_batch(size: int) -> Work:
    """The first batch of an epoch of N images."""
    sampler = PKSampler(labels_of(size), 16, 4, coverage="images")
    return lambda: next(iter(sampler))


def peer_epoch(size: int) -> Work:
    """An epoch of pytorch-metric-learning's sampler."""
    labels = labels_of(size).tolist()
    return lambda: sum(
        1 for _ in MPerClassSampler(labels, 4, batch_size=64, length_before_new_iter=size)
    )


def loss(of_ours: bool) -> Make:
    """One forward and one backward pass of SupCon with N rows."""

    def make(size: int) -> Work:
        rows = torch.randn(size, DIM, generator=torch.Generator().manual_seed(0))
        rows.requires_grad_()
        labels = torch.arange(size) // 4
        function = SupConLoss() if of_ours else PeerSupConLoss(temperature=0.07)
        return lambda: function(rows, labels).backward()

    return make


def our_mining(size: int) -> Work:
    """Three hard negatives for each of N items."""
    ((rows, ids, _),) = clustered(size, identities=size // PER_IDENTITY, dim=DIM)
    return lambda: mine_hard_negatives(rows, ids, 3, search="exact")


def faiss_mining(size: int) -> Work:
    """The same from a flat index: as many nearest rows as leave three of other identities."""
    ((rows, _, _),) = clustered(size, identities=size // PER_IDENTITY, dim=DIM)

    def work() -> object:
        flat = faiss.IndexFlatIP(DIM)
        flat.add(rows.numpy())
        return flat.search(rows.numpy(), 2 * PER_IDENTITY + 3)

    return work


def our_search(size: int) -> Work:
    """The ten nearest of N rows, for some queries."""
    gallery, queries = search_rows(size)
    index = GalleryIndex.build(gallery, store=Path(tempfile.mkdtemp()) / "index")
    index.search(queries[:1], 10)  # reads the index
    return lambda: index.search(queries, 10)


def faiss_search(size: int) -> Work:
    """The same by faiss's flat index."""
    gallery, queries = search_rows(size)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(gallery)
    return lambda: flat.search(queries, 10)


def search_rows(size: int) -> tuple[np.ndarray, np.ndarray]:
    gallery, queries = clustered(size, NUM_QUERIES, identities=size // PER_IDENTITY, dim=DIM)
    return gallery[0].numpy(), queries[0].numpy()


PARTS = {
    "Evaluation": Part(
        "gallery rows, 200 queries",
        1,
        4_000,
        {
            OURS: evaluation(of_ours=True),
            "numpy, whole matrix": evaluation(of_ours=False),
            "torchmetrics": torchmetrics_evaluation,
        },
    ),
    "k-reciprocal re-ranking": Part(
        "images",
        2,
        1_000,
        {OURS: reranking(of_ours=True), "dense, as in CLIP-ReID": reranking(of_ours=False)},
    ),
    "P x K sampling": Part(
        "images",
        1,
        4_000,
        {
            f"{OURS}, epoch": our_epoch,
            f"{OURS}, first batch": first_batch,
            "pytorch-metric-learning, epoch": peer_epoch,
        },
    ),
    "SupCon": Part(
        "rows of a batch",
        2,
        250,
        {OURS: loss(of_ours=True), "pytorch-metric-learning": loss(of_ours=False)},
    ),
    "Hard negatives": Part(
        "items", 2, 1_000, {OURS: our_mining, "faiss flat, no identities": faiss_mining}
    ),
    "Exact search": Part(
        "gallery rows, 200 queries",
        1,
        4_000,
        {OURS: our_search, "faiss flat": faiss_search},
    ),
}


def curve(part: Part, make: Make, options: argparse.Namespace) -> Iterator[Point | str]:
    """Yield a point for each size, and last why the curve ends."""
    size = part.first
    while size <= options.largest:
        point = measure(make, size, options)
        yield point
        if isinstance(point, str):
            return
        if point.seconds * 2**part.order > 2 * options.seconds:
            yield "time"
            return
        size *= 2
    yield "largest size"


def measure(make: Make, size: int, options: argparse.Namespace) -> Point | str:
    """Measure one size in a process of its own; return what killed it if it died."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "point"
        child = os.fork()
        if child == 0:
            _work(make, size, options, target)
        _, status = os.waitpid(child, 0)

        if os.WIFSIGNALED(status):
            return "time"
        if os.WEXITSTATUS(status) == NO_MEMORY:
            return "memory"
        if not target.exists():
            raise RuntimeError(f"The measurement of N = {size} failed; see the error above.")
        found: Point | str = pickle.loads(target.read_bytes())
        return found


def _work(make: Make, size: int, options: argparse.Namespace, target: Path) -> None:
    """Measure in this process, and end it."""
    code = 1
    try:
        tempfile.tempdir = str(target.parent)  # removed by the parent
        work = make(size)
        held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        cap = held * resource.getpagesize() + int(options.memory * GB)
        resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
        used = time.process_time()
        limit = int(used + options.seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))

        memory = peak_memory(work)
        began = time.process_time()
        seconds = began - used
        if seconds < options.seconds / 20:  # the first run warmed up
            work()
            seconds = min(seconds, time.process_time() - began)
        target.write_bytes(pickle.dumps(Point(size, seconds, memory)))
        code = 0
    except Exception as error:  # noqa: BLE001 (the parent raises one that names the size)
        is_memory = isinstance(error, MemoryError) or "alloc" in str(error)
        code = NO_MEMORY if is_memory else 1
        if not is_memory:
            traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    """Write the curves of all parts, or of some, to a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/growth.json"))
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--memory", type=float, default=4.0, help="cap in GB, beside the input")
    parser.add_argument("--seconds", type=float, default=20.0, help="cap of processor time")
    parser.add_argument("--largest", type=int, default=4_000_000, help="largest N")
    options = parser.parse_args()

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    found = json.loads(options.out.read_text()) if options.out.exists() else {"parts": {}}
    found |= {"machine": machine("faiss-cpu", "pytorch-metric-learning", "torchmetrics")}
    found |= {"cap_gb": options.memory, "cap_seconds": options.seconds}

    for name in options.only:
        part = PARTS[name]
        curves = {}
        for contender, make in part.contenders.items():
            *points, end = curve(part, make, options)
            curves[contender] = {"points": points, "end": end}
            print(f"{name}, {contender}: to {points[-1] if points else 'nothing'}, {end}")
        found["parts"][name] = {"rows": part.rows, "order": part.order, "curves": curves}
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
