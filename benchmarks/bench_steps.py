"""Training steps on the CPU: of two methods, of the trainer, and what choices bring to a step.

Run from the repository: ``python -m benchmarks.bench_steps [PART ...] [--batch 8]``; the parts are

- ``clip_reid``: CLIP-ReID's second stage against its own recipe restated. The texts of all
  identities are encoded beforehand, as both do. The restated step has the losses, the optimiser
  (Adam, a group for each parameter) and the logging of CLIP-ReID's code; ours has one group for
  each learning rate and the fused optimiser.
- ``prompt_sg``: PromptSG against its step restated from the paper, in the same way.
- ``trainer``: images a second of the trainer, of a plain loop of its parts, and of the peers'.
- ``choices``: channels last, the fused optimiser, two threads, and with ``--compile`` a compiled
  step, each against the plain step; ``--cases`` names the towers.

The methods are ViT-B/16 at 256 x 128 in float32 with random weights, and their losses are compared
before anything is timed. Memory is the peak that a first step adds in a fresh process: activations,
gradients and the optimiser's state.
"""

import argparse
import time

import torch

from benchmarks import clip_reid_steps, prompt_sg_steps, step_choices, trainer_steps
from benchmarks.bench_towers import CLIP_REID, NAME, SIZE
from benchmarks.measure import OURS, interleaved, machine, memory_in_a_process, peak_memory, show

METHODS = {"clip_reid": clip_reid_steps.contenders, "prompt_sg": prompt_sg_steps.contenders}
PARTS = (*METHODS, "trainer", "choices")


def main() -> None:
    """Run all parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)}; defaults to all")
    parser.add_argument("--batch", type=int, default=8, help="a multiple of 4, at least 8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also a compiled step")
    parser.add_argument("--cases", nargs="+", choices=step_choices.CASES)
    parser.add_argument("--memory", choices=(OURS, CLIP_REID, prompt_sg_steps.PROMPT_SG))
    options = parser.parse_args()

    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}")

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    parts = options.parts or PARTS
    if options.memory:
        make = METHODS[parts[0]](options.batch)[options.memory]
        print(peak_memory(make()))
        return

    print(machine("open_clip_torch", "pytorch-metric-learning"))
    for part in parts:
        _run(part, options)


def _run(part: str, options: argparse.Namespace) -> None:
    """Measure one part."""
    if part == "trainer":
        trainer_steps.measure(options.repeats)
    elif part == "choices":
        cases = options.cases or list(step_choices.CASES)
        step_choices.measure(options.repeats, cases, compiles=options.compile)
    else:
        _measure_method(part, options)


def _measure_method(part: str, options: argparse.Namespace) -> None:
    """Show the steps of a method in processor time, and the memory of each."""
    contenders = METHODS[part](options.batch)
    sizes = ("--batch", str(options.batch), "--threads", str(options.threads))
    memory = {
        name: memory_in_a_process("benchmarks.bench_steps", name, part, *sizes)
        for name in contenders
    }

    steps = {name: make() for name, make in contenders.items()}
    seconds = interleaved(steps, options.repeats, time.process_time)
    size = f"{NAME} at {SIZE[0]} x {SIZE[1]}"
    show(f"step of {part}, {size}, batch {options.batch}, processor time", seconds, memory=memory)


if __name__ == "__main__":
    main()
