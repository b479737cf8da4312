"""Time the losses, forward and backward, against installed peers and restated algorithms."""

import argparse
import gc
import importlib
import time

import torch

from benchmarks.measure import Clock, Work, added_memory, interleaved, machine, peak_memory, show

FAMILIES = ("contrastive", "metric", "heads", "memory", "parts")


def main() -> None:
    """Run all cases: B in {64, 512, 4096}, D = 512, K = 4."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512, 4096])
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--repeats", type=int, default=None, help="steps; 30, and 5 above 512 rows")
    parser.add_argument("--device", default="cpu", help="device of the batches: cpu, cuda, cuda:1")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count seconds of the processor, where others load the machine",
    )
    options = parser.parse_args()

    torch.set_default_device(options.device)
    print(machine("pytorch-metric-learning", "open_clip_torch", device=options.device))

    for family in options.families:
        module = importlib.import_module(f"benchmarks.losses.{family}")

        for batch in options.batches:
            repeats = options.repeats or (30 if batch <= 512 else 5)

            for name, contenders in module.contenders(batch).items():
                if options.only in name:
                    clock = time.process_time if options.processor_time else time.perf_counter
                    measure(f"{name}, B = {batch}", contenders, repeats, options.device, clock)


def measure(
    title: str, contenders: dict[str, Work], repeats: int, device: str, clock: Clock
) -> None:
    """Print times and added memory of the contenders of one case."""
    seconds = interleaved(contenders, repeats, clock)

    memory = {}
    for contender, work in contenders.items():
        gc.collect()
        memory[contender] = added_memory(work) if device == "cpu" else peak_memory(work, device)

    show(f"{title}, forward + backward", seconds, memory=memory)


if __name__ == "__main__":
    main()
