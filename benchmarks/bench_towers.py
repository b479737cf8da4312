"""Towers against open_clip and CLIP-ReID: prompts, images, kept activations, a training step.

Run from the repository: ``python -m benchmarks.bench_towers PART ...``, where a part is ``text``,
``image``, ``precision``, ``memory`` or ``step``. Weights are random; the outputs of all contenders
are compared before anything is timed. ``step`` is a step of CLIP-ReID's second stage with its
optimiser, on a GPU; ``step --tiny`` runs the same code on a CPU, to see that it works.
"""

import argparse
import gc
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import open_clip
import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks.measure import OURS, interleaved, machine, show
from benchmarks.restated_towers import (
    RestatedStageTwo,
    RestatedText,
    RestatedVisual,
    identity_prompts,
    squared,
)
from clipreid_kit.clip import ClipReID, ClipTowers, freeze, layerwise_lr_groups

NAME = "ViT-B-16-quickgelu"
SIZE = (256, 128)
BATCH = 8
LEVELS = ("previous", "unprojected", "projected")

TEMPLATE = "A photo of a X X X X person."
PLACEHOLDER = "X"
NUM_WORDS = 4
NUM_IDENTITIES = 16
NUM_INSTANCES = 4
NUM_MARKET_IDENTITIES = 751  # training identities of Market-1501

OPEN_CLIP = "open_clip, embedding alone"
CLIP_REID = "CLIP-ReID, restated"

Encode = Callable[[Tensor, Tensor], Tensor]
Loss = Callable[[], Tensor]
Step = Callable[[], Tensor]


def text() -> None:
    """Time identity prompts through the frozen text tower, with gradients of their contexts."""
    ours, peer, num_run = text_contenders()
    contexts = torch.randn(NUM_IDENTITIES, NUM_WORDS, 512).mul(0.02).requires_grad_()
    batches = {
        f"{NUM_IDENTITIES} identities": torch.arange(NUM_IDENTITIES),
        "PK batch of 8 x 4": torch.arange(8).repeat_interleave(NUM_INSTANCES),
    }

    for title, labels in batches.items():
        check_same_texts(ours, peer, contexts, labels)
        steps = {
            OURS: partial(text_step, ours, contexts, labels),
            CLIP_REID: partial(text_step, peer, contexts, labels),
        }
        seconds = interleaved(steps, 3)
        show(f"identity prompts, forward + backward, {title}, {num_run} of 77 tokens", seconds)

        each = seconds[OURS] / len(labels.unique())
        total = NUM_MARKET_IDENTITIES * each
        print(f"  stage 1 over {NUM_MARKET_IDENTITIES} identities, once: {total:.1f} s here")


def text_contenders() -> tuple[Encode, Encode, int]:
    """Encoders of prompts with the same weights, and the number of tokens that ours runs."""
    towers = ClipTowers.from_open_clip(NAME)
    freeze(towers)
    towers.model.visual = torch.nn.Identity()

    restated = RestatedText(512, 12, 8, 77, 512).requires_grad_(requires_grad=False)
    own = towers.model.state_dict()
    restated.load_state_dict({name: own[name] for name in restated.state_dict()})

    tokens = towers.tokenize([TEMPLATE])
    first = tokens[0].tolist().index(towers.token_ids(PLACEHOLDER)[0])
    words = towers.embed_tokens(tokens)[0].detach()
    eot = towers.end_of_text(tokens)
    num_run = int(eot) + 1

    def ours(contexts: Tensor, labels: Tensor) -> Tensor:
        distinct, inverse = labels.unique(return_inverse=True)
        prompts = identity_prompts(contexts[distinct], words[:num_run], first)
        return towers.encode_text_embeddings(prompts, eot.expand(len(distinct)))[inverse]

    def peer(contexts: Tensor, labels: Tensor) -> Tensor:
        prompts = identity_prompts(contexts[labels], words, first)
        return restated(prompts, tokens.expand(len(labels), -1))

    return ours, peer, num_run


def check_same_texts(ours: Encode, peer: Encode, contexts: Tensor, labels: Tensor) -> None:
    """Require equal embeddings and equal gradients of the contexts."""
    embeddings, gradients = [], []
    for encode in (ours, peer):
        contexts.grad = None
        texts = encode(contexts, labels)
        squared(texts).backward()
        embeddings.append(texts.detach())
        gradients.append(contexts.grad.clone())

    assert_close(embeddings[0], embeddings[1], atol=1e-5, rtol=1e-5)
    assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)


def text_step(encode: Encode, contexts: Tensor, labels: Tensor) -> None:
    """Run prompts forward and backward."""
    squared(encode(contexts, labels)).backward()


def image_contenders(batch: int = BATCH) -> tuple[dict[str, Loss], list[torch.nn.Module]]:
    """Losses of one batch by models with the same weights, and their image towers."""
    towers = ClipTowers.from_open_clip(NAME, image_size=SIZE)
    peer = open_clip.create_model(NAME, force_image_size=SIZE)
    peer.load_state_dict(towers.model.state_dict())
    restated = RestatedVisual(768, 12, 12, 16, 128, 512)
    restated.load_state_dict(towers.model.visual.state_dict())

    images = torch.randn(batch, 3, *SIZE)
    with torch.no_grad():
        levels = towers.encode_image_levels(images, LEVELS)
        for level, expected in zip(LEVELS, restated(images), strict=True):
            assert_close(getattr(levels, level), expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(towers.encode_image(images), peer.encode_image(images))

    def three_levels() -> Tensor:
        levels = towers.encode_image_levels(images, LEVELS)
        return squared(levels.previous, levels.unprojected, levels.projected)

    losses = {
        OURS: three_levels,
        OPEN_CLIP: lambda: squared(peer.encode_image(images)),
        CLIP_REID: lambda: squared(*restated(images)),
    }
    return losses, [towers.model.visual, peer.visual, restated]


def image() -> None:
    """Time images through ViT-B/16, with gradients of every weight."""
    losses, _ = image_contenders()
    steps = {name: partial(image_step, loss) for name, loss in losses.items()}
    title = f"{NAME} at {SIZE[0]} x {SIZE[1]}, batch {BATCH}, forward + backward"
    show(title, interleaved(steps, 2))


def image_step(loss: Loss) -> None:
    """Run a loss forward and backward."""
    loss().backward()


def precision() -> None:
    """Time an image forward and backward in float32 and under autocast to bfloat16."""
    losses, _ = image_contenders(batch=1)
    steps = {}
    for name in (OURS, OPEN_CLIP):
        steps[f"{name}, float32"] = partial(image_step, losses[name])
        steps[f"{name}, bfloat16"] = partial(image_step, partial(in_bfloat16, losses[name]))

    seconds = interleaved(steps, 2, time.process_time)
    title = f"{NAME} at {SIZE[0]} x {SIZE[1]}, one image, forward + backward, processor time"
    show(title, seconds, ours=f"{OURS}, float32")


def in_bfloat16(loss: Loss) -> Tensor:
    """Compute a loss under autocast to bfloat16."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return loss()


def kept_bytes(loss: Loss, modules: list[torch.nn.Module]) -> int:
    """Count the bytes of activations that autograd keeps for one backward pass, without weights."""
    weights = {
        parameter.untyped_storage().data_ptr()
        for module in modules
        for parameter in module.parameters()
    }
    sizes: dict[int, int] = {}
    alive = []  # so that no address is reused

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        loss()
    return sum(sizes.values())


def memory() -> None:
    """Print the activations kept for the backward pass, and the parameters."""
    losses, modules = image_contenders()
    kept = {name: kept_bytes(loss, modules) for name, loss in losses.items()}

    print(f"\nkept for the backward pass, {NAME} at {SIZE[0]} x {SIZE[1]}, batch {BATCH}")
    for name, count in kept.items():
        ratio = count / kept[OPEN_CLIP]
        print(f"  {name:42}{count / 1e6:10.1f} MB  {ratio:.4f} of open_clip's")

    for name, module in zip((OURS, "open_clip", CLIP_REID), modules, strict=True):
        num_parameters = sum(parameter.numel() for parameter in module.parameters())
        print(f"  {name:42}{num_parameters:12d} parameters")


class Training(NamedTuple):
    """Model, batch and number of steps of the training benchmark."""

    name: str
    size: tuple[int, int]
    batch: int
    num_steps: int


FULL_TRAINING = Training(NAME, SIZE, 64, 10)
TINY_TRAINING = Training("ViT-B-32-quickgelu", (64, 32), 8, 1)


def stage_two(
    name: str, size: tuple[int, int], batch: int, device: str
) -> tuple[ClipReID, RestatedStageTwo]:
    """Both methods with the same weights, and the number of identities of Market-1501."""
    texts = torch.randn(NUM_MARKET_IDENTITIES, 512)
    model = ClipReID(ClipTowers.from_open_clip(name, image_size=size), texts)
    towers = model.towers
    rows, columns = towers.grid
    visual = RestatedVisual(768, 12, 12, size[0] // rows, rows * columns, 512)
    visual.load_state_dict(towers.model.visual.state_dict())
    restated = RestatedStageTwo(visual, (768, 512), texts.clone(), 0.25)
    for branch, there in zip(model.identity_branches, restated.classifiers, strict=True):
        there.weight.data.copy_(branch.classifier.weight)

    model, restated = model.to(device), restated.to(device)
    images, labels = random_batch(size, batch, device)
    with torch.no_grad():
        found = model(images, labels).loss
        expected, _ = restated(images, labels.to(device))
    assert_close(found, expected, rtol=1e-3, atol=1e-3)
    return model, restated


def random_batch(size: tuple[int, int], batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Images of four for each identity on the device, and their labels on the CPU."""
    return torch.randn(batch, 3, *size, device=device), torch.arange(batch) // 4


def ours_step(model: ClipReID, images: Tensor, labels: Tensor, *, compiled: bool = False) -> Step:
    """Step in bfloat16, with one group for each learning rate and no wait for the device."""
    groups = layerwise_lr_groups(model, 5e-6, weight_decay=1e-4, bias_lr_factor=2.0, no_decay=())
    optimizer = torch.optim.Adam(groups, fused=True)
    run = torch.compile(model) if compiled else model

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            loss: Tensor = run(images, labels).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def peer_step(model: RestatedStageTwo, images: Tensor, labels: Tensor) -> Step:
    """Step in float16 with a scaler, a group for each parameter, and logging at every step."""
    groups = [
        {"params": [parameter], "lr": 1e-5 if "bias" in name else 5e-6, "weight_decay": 1e-4}
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    device = images.device.type
    optimizer = torch.optim.Adam(groups)
    scaler = torch.amp.GradScaler(device)

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            loss, accuracy = model(images, labels.to(images.device))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

        # the log waits for the device
        loss.item()
        accuracy.item()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss.detach()

    return step


def run_steps(step: Step, num_steps: int) -> None:
    """Run some steps, and wait for the last one."""
    for _ in range(num_steps):
        last = step()

    if not bool(last.isfinite()):  # also waits for the device
        raise RuntimeError("a loss is not finite")


def training(setting: Training) -> None:
    """Print images per second, and on a GPU the peak memory, of a step with its optimiser."""
    name, size, batch, num_steps = setting
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels = random_batch(size, batch, device)

    def ours(compiled: bool) -> Step:
        model, _ = stage_two(name, size, batch, device)
        return ours_step(model, images, labels, compiled=compiled)

    def peer() -> Step:
        _, restated = stage_two(name, size, batch, device)
        return peer_step(restated, images, labels)

    makers: dict[str, Callable[[], Step]] = {OURS: partial(ours, compiled=False)}
    if device == "cuda":
        makers[f"{OURS}, compiled"] = partial(ours, compiled=True)
    makers[CLIP_REID] = peer

    peaks = {}
    if device == "cuda":
        peaks = {title: peak_megabytes(make, num_steps) for title, make in makers.items()}

    contenders = {title: partial(run_steps, make(), num_steps) for title, make in makers.items()}
    seconds = interleaved(contenders, 5 if device == "cuda" else 1)

    place = f"{name} at {size[0]} x {size[1]}, batch {batch}, {device}"
    show(f"{num_steps} steps of stage 2, {place}", seconds)
    for title, value in seconds.items():
        peak = f", peak {peaks[title]:.0f} MB" if title in peaks else ""
        print(f"  {title:42}{num_steps * batch / value:10.1f} images/s{peak}")


def peak_megabytes(make: Callable[[], Step], num_steps: int) -> float:
    """Peak memory of a GPU during warmed-up steps, in MB."""
    step = make()
    run_steps(step, num_steps)
    torch.cuda.reset_peak_memory_stats()
    run_steps(step, num_steps)
    peak = torch.cuda.max_memory_allocated() / 1e6

    del step
    gc.collect()
    return peak


def main() -> None:
    """Run all parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="run step at a size for a CPU")
    parser.add_argument(
        "parts",
        nargs="*",
        help="any of text, image, precision, memory and step; defaults to text, image and memory, "
        "and on a GPU all",
    )
    options = parser.parse_args()

    setting = TINY_TRAINING if options.tiny else FULL_TRAINING
    parts: dict[str, Callable[[], None]] = {
        "text": text,
        "image": image,
        "precision": precision,
        "memory": memory,
        "step": partial(training, setting),
    }
    chosen = options.parts
    if not chosen:
        chosen = list(parts) if torch.cuda.is_available() else ["text", "image", "memory"]

    unknown = sorted(set(chosen) - set(parts))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}")

    torch.manual_seed(0)
    print(machine("open_clip_torch"))
    for name in chosen:
        parts[name]()


if __name__ == "__main__":
    main()
