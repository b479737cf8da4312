"""A training step of CLIP-ReID's second stage on the CPU, against its own recipe restated.

Run from the repository: ``python -m benchmarks.bench_steps [--batch 8]``. ViT-B/16 at 256 x 128 in
float32 with random weights; the texts of all identities are encoded beforehand, as both do. The
restated step has the losses, the optimiser (Adam, a group for each parameter) and the logging of
CLIP-ReID's code; ours has one group for each learning rate and the fused optimiser. Losses are
compared before anything is timed. Memory is the peak that a first step adds in a fresh process:
activations, gradients and the optimiser's state.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.bench_towers import (
    CLIP_REID,
    NAME,
    SIZE,
    random_batch,
    stage_two,
)
from benchmarks.measure import (
    OURS,
    Work,
    interleaved,
    machine,
    memory_in_a_process,
    peak_memory,
    show,
)
from benchmarks.restated_towers import RestatedStageTwo
from clipreid_kit.clip import ClipReID, layerwise_lr_groups


def ours_step(model: ClipReID, images: Tensor, labels: Tensor) -> Work:
    """Step with one group for each learning rate, fused."""
    groups = layerwise_lr_groups(model, 5e-6, weight_decay=1e-4, bias_lr_factor=2.0, no_decay=())
    optimizer = torch.optim.Adam(groups, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        model(images, labels).loss.backward()
        optimizer.step()

    return step


def peer_step(model: RestatedStageTwo, images: Tensor, labels: Tensor) -> Work:
    """Step with a group for each parameter, and the loss and the accuracy read for the log."""
    groups = [
        {"params": [parameter], "lr": 1e-5 if "bias" in name else 5e-6, "weight_decay": 1e-4}
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    optimizer = torch.optim.Adam(groups)

    def step() -> None:
        optimizer.zero_grad()
        loss, accuracy = model(images, labels)
        loss.backward()
        optimizer.step()
        loss.item()
        accuracy.item()

    return step


def contenders(batch: int) -> dict[str, Callable[[], Work]]:
    """Makers of the steps, on the same weights and images."""
    images, labels = random_batch(SIZE, batch, "cpu")

    def ours() -> Work:
        model, _ = stage_two(NAME, SIZE, batch, "cpu")
        return ours_step(model, images, labels)

    def peer() -> Work:
        _, restated = stage_two(NAME, SIZE, batch, "cpu")
        return peer_step(restated, images, labels)

    return {OURS: ours, CLIP_REID: peer}


def main() -> None:
    """Time the steps in turns, and measure the memory of each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8, help="a multiple of 4, at least 8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", choices=(OURS, CLIP_REID))
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    makers = contenders(options.batch)
    if options.memory:
        print(peak_memory(makers[options.memory]()))
        return

    print(machine("open_clip_torch"))
    sizes = ("--batch", str(options.batch), "--threads", str(options.threads))
    memory = {name: memory_in_a_process("benchmarks.bench_steps", name, *sizes) for name in makers}
    seconds = interleaved({name: make() for name, make in makers.items()}, options.repeats)
    title = f"step of stage 2, {NAME} at {SIZE[0]} x {SIZE[1]}, batch {options.batch}"
    show(title, seconds, memory=memory)


if __name__ == "__main__":
    main()
