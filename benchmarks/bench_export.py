"""What each precision of an exported file costs in mAP, on identities that nothing was fitted to.

Run from the repository, with a run of Omniglot and its images:
``python -m benchmarks.bench_export RUN omniglot-reid.zip``.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.measure import machine
from clipreid_kit import evaluate_reid
from clipreid_kit.clip import (
    ClipTowers,
    TrainingCheckpoints,
    export_for_tracker,
    load_towers,
    read_card,
)
from clipreid_kit.data import ImageRecord, ReidDataset, read_omniglot, records_of

PRECISIONS: tuple[Literal["float32", "float16", "int8"], ...] = ("float32", "float16", "int8")
CALIBRATION = 256  # training images, evenly spread
BATCH = 128


def crops_of(records: Sequence[ImageRecord], size: tuple[int, int]) -> Tensor:
    """Images as bytes of one size, as a tracker's crops are."""
    to_bytes = v2.Compose([v2.PILToTensor(), v2.Resize(list(size), antialias=True)])
    return torch.stack([item.image for item in ReidDataset(records, to_bytes)])


def embed(file: Path, crops: Tensor) -> Tensor:
    """Embeddings of crops by a file, in onnxruntime."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    batches = []
    for batch in crops.split(BATCH):
        fed = (batch.float() / 255).numpy()
        batches.append(session.run(["embeddings"], {"images": fed})[0])
    return torch.from_numpy(np.concatenate(batches))


def measure(towers: ClipTowers, spec: Any, records: Sequence[ImageRecord]) -> None:  # noqa: ANN401
    """Print a row of a table for each precision."""
    train, query, gallery = (records_of(records, name) for name in ("train", "query", "gallery"))
    calibration = crops_of(train[:: -(-len(train) // CALIBRATION)], towers.image_size)
    sides = [crops_of(side, towers.image_size) for side in (query, gallery)]
    ids = [[record.identity for record in side] for side in (query, gallery)]

    print("| precision | file | mAP | Rank-1 |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            file = Path(folder, f"{precision}.onnx")
            colours = {"mean": spec["mean"], "std": spec["std"]}
            export_for_tracker(towers, file, precision=precision, images=calibration, **colours)

            found = [embed(file, side) for side in sides]
            result = evaluate_reid(*found, query_ids=ids[0], gallery_ids=ids[1])
            size = file.stat().st_size / 1e6
            print(
                f"| {precision} | {size:.2f} MB | {100 * result.mean_ap:.2f} "
                f"| {100 * result.rank(1):.2f} |"
            )


def main() -> None:
    """Measure the best checkpoint of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    options = parser.parse_args()

    print(machine("onnxruntime"))
    checkpoint = TrainingCheckpoints(options.run / "checkpoints").path("best")
    spec = read_card(checkpoint)["image_spec"]
    measure(load_towers(checkpoint), spec, read_omniglot(options.images))


if __name__ == "__main__":
    main()
