"""Losses, forward and backward, against the peers that pip installs and restated algorithms."""

import argparse
import gc
import importlib

from benchmarks.measure import added_memory, interleaved, machine, show

FAMILIES = ("contrastive", "metric", "heads", "memory")


def main() -> None:
    """B in {64, 512, 4096}, D 512, K 4."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512, 4096])
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--repeats", type=int, default=None, help="steps; 30, and 5 above 512 rows")
    options = parser.parse_args()
    print(machine("pytorch-metric-learning", "open_clip_torch"))
    for family in options.families:
        for batch in options.batches:
            for name, contenders in (
                importlib.import_module(f"benchmarks.losses.{family}").contenders(batch).items()
            ):
                if options.only in name:
                    repeats = options.repeats or (30 if batch <= 512 else 5)
                    seconds = interleaved(contenders, repeats)
                    memory = {}
                    for contender, work in contenders.items():
                        gc.collect()
                        memory[contender] = added_memory(work)
                    show(f"{name}, B = {batch}, forward + backward", seconds, memory=memory)


if __name__ == "__main__":
    main()
