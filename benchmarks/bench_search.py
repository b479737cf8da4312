"""Exact search: GalleryIndex against faiss IndexFlatIP and torch's float32 product with topk.

Random unit rows by default; ``--features`` takes an .npz file with a gallery ``g`` and queries
``q``, and repeats the gallery with noise up to ``--rows``. ``--factory HNSW32`` adds approximate
search: ours, scored exactly, and faiss's index alone at the least effort with recall 0.99.
``--device cuda`` adds ours and torch's product on a GPU, with the gallery there.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.measure import (
    OURS,
    Work,
    interleaved,
    machine,
    memory_in_a_process,
    peak_memory,
    show,
)
from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex

Rows = npt.NDArray[np.float32]

FAISS = "faiss IndexFlatIP"
FAISS_GRAPH = "faiss HNSW alone"
TORCH = "torch float32 product, topk"
_BLOCK = 50_000  # rows that are generated at once


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="rows of the gallery")
    parser.add_argument("--dim", type=int, default=512, help="width of random rows")
    parser.add_argument("--features", type=Path, help="an .npz file with g and q")
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 64])
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--factory", help="an approximate structure of faiss, such as HNSW32")
    parser.add_argument("--device", help="a GPU to search on too, such as cuda")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--store", type=Path, help="an index that is there: measure its memory")
    parser.add_argument("--memory", help="print the memory of this contender alone")
    return parser.parse_args()


def unit(rows: Rows) -> Rows:
    """Scale rows to norm 1, in place."""
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def random_rows(count: int, dim: int, seed: int) -> Rows:
    """Unit rows without structure."""
    rng = np.random.default_rng(seed)
    rows = np.empty((count, dim), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        part = rows[start : start + _BLOCK]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    return unit(rows)


def real_rows(path: Path, count: int) -> tuple[Rows, Rows]:
    """Features of a file: its gallery, with noisy copies up to a number of rows; its queries."""
    with np.load(path) as arrays:
        gallery = unit(arrays["g"].astype(np.float32))
        queries = unit(arrays["q"].astype(np.float32))

    rng = np.random.default_rng(0)
    rows = np.empty((max(count, len(gallery)), gallery.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), len(gallery)):
        part = rows[start : start + len(gallery)]
        part[:] = gallery[: len(part)]
        if start > 0:
            spread = gallery.std(axis=0) / 2
            part += spread * rng.standard_normal(part.shape, dtype=np.float32)
    return unit(rows), queries


def data_of(options: argparse.Namespace) -> tuple[Rows, Rows]:
    """The gallery and the queries that the options ask for."""
    if options.features:
        return real_rows(options.features, options.rows)
    return random_rows(options.rows, options.dim, 0), random_rows(256, options.dim, 1)


def contenders_of(index: GalleryIndex, gallery: Rows, queries: Rows, k: int) -> dict[str, Work]:
    """The same search by everyone."""
    import faiss

    flat = faiss.IndexFlatIP(gallery.shape[1])
    flat.add(gallery)
    rows, wanted = torch.from_numpy(gallery), torch.from_numpy(queries)
    return {
        OURS: lambda: index.search(queries, k),
        FAISS: lambda: flat.search(queries, k),
        TORCH: lambda: (wanted @ rows.T).topk(k, dim=1),
    }


def contenders_on(
    device: str, store: Path, gallery: Rows, queries: Rows, k: int
) -> dict[str, Work]:
    """The same search with the gallery on a GPU, and the answer on the CPU."""
    index = GalleryIndex.open(store, device=device)
    rows = torch.from_numpy(gallery).to(device)
    wanted = torch.from_numpy(queries)

    def product() -> list[torch.Tensor]:
        found = (wanted.to(device) @ rows.T).topk(k, dim=1)
        return [part.cpu() for part in found]

    return {
        f"{OURS}, on {device}": lambda: index.search(queries, k),
        f"{TORCH}, on {device}": product,
    }


def time_index(gallery: Rows, store: Path) -> GalleryIndex:
    """Print how long an index takes to build with records, to open, and to answer first."""
    records = [
        ImageRecord(f"images/{i:08d}.jpg", identity=i // 20, camera=i % 6, split="gallery")
        for i in range(len(gallery))
    ]
    began = time.perf_counter()
    GalleryIndex.build(gallery, records, store=store)
    built = time.perf_counter()
    index = GalleryIndex.open(store)
    opened = time.perf_counter()
    index.search(gallery[0], 10)
    first = time.perf_counter()
    index.search(gallery[1], 10)
    second = time.perf_counter()

    print(f"build, durable, with records  {built - began:8.2f} s")
    print(f"open                          {1000 * (opened - built):8.1f} ms")
    print(f"first query, checks its parts {1000 * (first - opened):8.1f} ms")
    print(f"second query                  {1000 * (second - first):8.1f} ms")
    return index


def equal_outside_ties(index: GalleryIndex, gallery: Rows, queries: Rows, k: int) -> float:
    """Fraction of places where faiss's flat index has our row, or one as near in float32."""
    import faiss

    flat = faiss.IndexFlatIP(gallery.shape[1])
    flat.add(gallery)
    similarities, rows = flat.search(queries, k)
    ours = index.search(queries, k)
    as_near = np.abs(similarities - ours.similarities) < 1e-6
    return float(((rows == ours.rows) | as_near).mean())


def least_effort(search: Callable[[int], Rows], exact: Rows) -> int:
    """The least effort with which 99 % of the exact rows are found; the largest if none does."""
    for effort in (16, 32, 48, 64, 96, 128, 192, 256, 512):
        found = search(effort)
        shared = [len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
        if sum(shared) >= 0.99 * exact.size:
            break
    return effort


def time_approximate(
    index: GalleryIndex, gallery: Rows, queries: Rows, options: argparse.Namespace
) -> None:
    """Time approximate search beside faiss's own graph, both at a recall of 0.99."""
    import faiss

    alone = faiss.index_factory(gallery.shape[1], options.factory, faiss.METRIC_INNER_PRODUCT)
    alone.add(gallery)
    exact = index.search(queries, options.k).rows

    def by_faiss(effort: int) -> Rows:
        faiss.ParameterSpace().set_index_parameter(alone, "efSearch", effort)
        return alone.search(queries, options.k)[1]

    effort = least_effort(by_faiss, exact)
    index.build_approximate(options.factory, effort=effort)
    index.search(queries[:1], options.k, approximate=True)
    report = index.recall(queries, options.k).recall.mean
    print(f"recall@{options.k}: ours {report:.4f}; {FAISS_GRAPH} reaches 0.99 with effort {effort}")
    for count in options.queries:
        part = queries[:count]

        def search_alone(part: Rows = part) -> None:
            faiss.ParameterSpace().set_index_parameter(alone, "efSearch", effort)
            alone.search(part, options.k)

        contenders = {
            OURS: lambda part=part: index.search(part, options.k, approximate=True),
            FAISS_GRAPH: search_alone,
        }
        show(f"{count} queries, {options.factory}", interleaved(contenders, options.repeats))


def memory_of(options: argparse.Namespace) -> float:
    """Memory that opening and searching an index adds, without the pages of its file."""
    import faiss

    torch.set_num_threads(options.threads)
    queries = np.random.default_rng(1).standard_normal((64, options.dim), dtype=np.float32)
    if options.memory == FAISS:
        gallery = random_rows(options.rows, options.dim, 0)
        flat = faiss.IndexFlatIP(options.dim)
        return peak_memory(lambda: (flat.add(gallery), flat.search(queries, options.k)))

    def anonymous() -> float:
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        line = next(line for line in status if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024 / 1e6

    before = anonymous()
    index = GalleryIndex.open(options.store)
    index.search(queries, options.k)
    index.search(queries[0], options.k)
    return anonymous() - before


def main() -> None:
    """Run 50,000 random rows by default; --rows 1000000 for the size of the table."""
    options = parse_options()
    if options.memory:
        print(memory_of(options))
        return

    import faiss

    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    gallery, queries = data_of(options)
    print(machine("faiss-cpu"))
    print(f"{len(gallery)} x {gallery.shape[1]}, {options.features or 'random'}")

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "gallery.index"
        index = time_index(gallery, store)
        same = equal_outside_ties(index, gallery, queries[:64], options.k)
        print(f"rows equal to faiss's outside ties and rounding: {100 * same:.2f} %")

        for count in options.queries:
            contenders = contenders_of(index, gallery, queries[:count], options.k)
            if options.device:
                part = queries[:count]
                contenders |= contenders_on(options.device, store, gallery, part, options.k)
            title = f"{count} queries, the nearest {options.k}"
            show(title, interleaved(contenders, options.repeats))
            del contenders

        if options.factory:
            time_approximate(index, gallery, queries, options)

        if not options.no_memory:
            sizes = ["--rows", str(len(gallery)), "--dim", str(gallery.shape[1])]
            flags = [*sizes, "--store", str(store), "--threads", str(options.threads)]
            for name in (OURS, FAISS):
                added = memory_in_a_process("benchmarks.bench_search", name, *flags)
                print(f"memory of {name:20} {added:8.0f} MB")


if __name__ == "__main__":
    main()
