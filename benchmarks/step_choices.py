"""What each choice brings to a training step: memory format, optimiser, compilation, threads.

Each choice is compared with the plain step (contiguous, torch's default optimiser, eager, one
thread) in processor time, and two threads also by the clock. Only the image tower runs, under
SupCon.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.measure import Work, interleaved
from clipreid_kit import SupConLoss
from clipreid_kit.clip import ClipTowers

PLAIN = "plain"


class Case(NamedTuple):
    """A tower and its batch."""

    name: str
    size: tuple[int, int]
    batch: int


CASES = {
    "resnet": Case("reid-tiny-resnet", (128, 64), 64),
    "vit": Case("ViT-B-16-quickgelu", (256, 128), 4),
}


def step_of(
    case: Case,
    *,
    channels_last: bool = False,
    fused: bool = False,
    compiled: bool = False,
    threads: int = 1,
) -> Work:
    """A step of a tower with a choice; every step sets the number of threads."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    towers = ClipTowers.from_open_clip(case.name, image_size=case.size).to(memory_format=layout)
    images = torch.randn(case.batch, 3, *case.size).to(memory_format=layout)
    labels = torch.arange(case.batch) // 2

    loss = SupConLoss(0.07)
    optimizer = torch.optim.AdamW(towers.image_parameters(), lr=1e-4, fused=fused or None)
    encode = torch.compile(towers.encode_image) if compiled else towers.encode_image

    def step() -> None:
        torch.set_num_threads(threads)
        optimizer.zero_grad()
        loss(encode(images), labels).backward()
        optimizer.step()

    return step


def choices(case: Case, *, compiles: bool) -> dict[str, Callable[[], Work]]:
    """Makers of the steps, by name; a compiled step takes minutes to make."""
    makers: dict[str, Callable[[], Work]] = {
        PLAIN: lambda: step_of(case),
        "channels last": lambda: step_of(case, channels_last=True),
        "fused optimiser": lambda: step_of(case, fused=True),
    }
    if compiles:
        makers["compiled"] = lambda: step_of(case, compiled=True)
    return makers


def measure(repeats: int, cases: list[str], *, compiles: bool) -> None:
    """Show what each choice brings."""
    for name in cases:
        case = CASES[name]
        size = f"{case.size[0]} x {case.size[1]}"
        steps = {title: make() for title, make in choices(case, compiles=compiles).items()}
        seconds = interleaved(steps, repeats, time.process_time)
        _show(f"step of {case.name} at {size}, batch {case.batch}, processor time", seconds)

        threads = {PLAIN: steps[PLAIN], "two threads": step_of(case, threads=2)}
        for clock, title in ((time.process_time, "processor time"), (time.perf_counter, "clock")):
            _show(f"the same, {title}", interleaved(threads, repeats, clock))
        torch.set_num_threads(1)


def _show(title: str, seconds: dict[str, float]) -> None:
    """Print a table: milliseconds, and the plain step's time divided by each."""
    print(f"\n{title}")
    for name, value in seconds.items():
        print(f"  {name:42}{1000 * value:12.2f} ms {seconds[PLAIN] / value:6.2f} times as fast")
