"""SIGKILL at random instants while images are added: what was acknowledged is in the index."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# One process imports the library and forks a writer for each kill. The writer says over a pipe how
# many adds it was told are done; the parent kills it, opens the index and compares.
SCRIPT = """
    import os, random, signal, struct, sys, time
    import numpy as np
    import torch
    from clipreid_kit.data import ImageRecord
    from clipreid_kit.retrieval import GalleryIndex

    torch.set_num_threads(1)
    store, kills = sys.argv[1], int(sys.argv[2])
    rng = random.Random(0)

    def row(key):
        return np.random.default_rng(key).standard_normal((1, 8)).astype(np.float32)

    def write(out):
        index = GalleryIndex.open(store)
        while True:
            key = len(index)
            added = index.add(row(key), [ImageRecord(f"{key}.jpg", key)])
            os.write(out, struct.pack("<q", int(added[0])))
            if key % 5 == 4:
                index.compact()

    GalleryIndex.build(row(0), [ImageRecord("0.jpg", 0)], store=store)
    acknowledged = 0
    for _ in range(kills):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            write(writing)
        os.close(writing)
        first = os.read(reading, 8)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

        told = first
        while piece := os.read(reading, 1 << 16):
            told += piece
        os.close(reading)
        acknowledged = struct.unpack("<q", told[-8:])[0]

        index = GalleryIndex.open(store)
        index.verify()
        assert len(index) in (acknowledged + 1, acknowledged + 2), (len(index), acknowledged)
        keys = list(range(len(index)))
        assert [record.path for record in index.records(keys)] == [f"{key}.jpg" for key in keys]
        nearest = index.search(np.concatenate([row(key) for key in keys]), 1)
        assert nearest.keys[:, 0].tolist() == keys
    index.compact()
    print("kept", len(index), sorted(os.listdir(store)))
"""


def kill_writers(store, kills, timeout):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(store), str(kills)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.startswith("kept"), done.stdout + done.stderr
    files = {path.name for path in Path(store).iterdir()}
    segments = {name for name in files if name.startswith("segment-")}
    assert len(segments) == 1
    assert files - segments == {"manifest.json", "writer.lock"}  # nothing is left behind


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork and SIGKILL are POSIX")
def test_twenty_kills(tmp_path):
    kill_writers(tmp_path / "index", 20, timeout=600)
