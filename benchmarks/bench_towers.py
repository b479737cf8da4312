"""Towers against open_clip and CLIP-ReID's model: identity prompts, images, kept activations, a step of training.

Run from the repository: ``python -m benchmarks.bench_towers [text | image | memory | step]``. Random weights; the
values of all contenders are compared before anything is timed. ``step`` is a step of CLIP-ReID's second stage with its
optimiser, on a GPU; ``step --tiny`` runs the same code on a CPU, to see that it does.
"""

import argparse
import gc
from collections.abc import Callable
from functools import partial

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

NAME, SIZE, BATCH = "ViT-B-16-quickgelu", (256, 128), 8
TEMPLATE, PLACEHOLDER = "A photo of a X X X X person.", "X"
NUM_IDENTITIES, NUM_INSTANCES, NUM_WORDS = 16, 4, 4
LEVELS = ("previous", "unprojected", "projected")


def text() -> None:
    """Prompts of identities through the frozen text tower, forward and backward into their contexts."""
    towers = ClipTowers.from_open_clip(NAME)
    freeze(towers)
    towers.model.visual = torch.nn.Identity()
    restated = RestatedText(512, 12, 8, 77, 512).requires_grad_(requires_grad=False)
    own = towers.model.state_dict()
    restated.load_state_dict({name: own[name] for name in restated.state_dict()})
    tokens = towers.tokenize([TEMPLATE])
    first = tokens[0].tolist().index(towers.token_ids(PLACEHOLDER)[0])
    words = towers.embed_tokens(tokens)[0].detach()
    cut, eot = int(towers.end_of_text(tokens)) + 1, towers.end_of_text(tokens)

    def peer(contexts: Tensor, labels: Tensor) -> Tensor:
        return restated(
            identity_prompts(contexts[labels], words, first), tokens.expand(len(labels), -1)
        )

    def ours(contexts: Tensor, labels: Tensor) -> Tensor:
        distinct, inverse = labels.unique(return_inverse=True)
        prompts = identity_prompts(contexts[distinct], words[:cut], first)
        return towers.encode_text_embeddings(prompts, eot.expand(len(distinct)))[inverse]

    contexts = torch.randn(NUM_IDENTITIES, NUM_WORDS, 512).mul(0.02).requires_grad_()
    every, pk = torch.arange(NUM_IDENTITIES), torch.arange(8).repeat_interleave(NUM_INSTANCES)
    for title, labels in ((f"{NUM_IDENTITIES} identities", every), ("PK batch of 8 x 4", pk)):
        found, gradients = [], []
        for run in (ours, peer):
            contexts.grad = None
            features = run(contexts, labels)
            squared(features).backward()
            found.append(features.detach())
            gradients.append(contexts.grad.clone())
        assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)
        assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)

        def step(
            run: Callable[[Tensor, Tensor], Tensor], labels: Tensor = labels
        ) -> Callable[[], None]:
            return lambda: squared(run(contexts, labels)).backward()

        seconds = interleaved({OURS: step(ours), "CLIP-ReID, restated": step(peer)}, 3)
        show(f"identity prompts, forward + backward, {title}, {cut} of 77 tokens", seconds)
        each = seconds[OURS] / len(labels.unique())
        print(f"  stage 1 over 751 identities, once: {751 * each:.1f} s here")


def image_contenders() -> tuple[dict[str, Callable[[], Tensor]], list[torch.nn.Module]]:
    """Losses of one batch; all have the same weights."""
    towers = ClipTowers.from_open_clip(NAME, image_size=SIZE)
    peer = open_clip.create_model(NAME, force_image_size=SIZE)
    peer.load_state_dict(towers.model.state_dict())
    restated = RestatedVisual(768, 12, 12, 16, 128, 512)
    restated.load_state_dict(towers.model.visual.state_dict())
    images = torch.randn(BATCH, 3, *SIZE)
    with torch.no_grad():
        levels = towers.encode_image_levels(images, LEVELS)
        for level, expected in zip(LEVELS, restated(images), strict=True):
            assert_close(getattr(levels, level), expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(towers.encode_image(images), peer.encode_image(images))

    def three_levels() -> Tensor:
        levels = towers.encode_image_levels(images, LEVELS)
        return squared(levels.previous, levels.unprojected, levels.projected)

    contenders = {
        OURS: three_levels,
        "open_clip, embedding alone": lambda: squared(peer.encode_image(images)),
        "CLIP-ReID, restated": lambda: squared(*restated(images)),
    }
    return contenders, [towers.model.visual, peer.visual, restated]


def image() -> None:
    """Images through ViT-B/16, forward and backward into every weight."""
    contenders, _ = image_contenders()
    steps = {name: (lambda loss=loss: loss().backward()) for name, loss in contenders.items()}
    show(
        f"{NAME} at {SIZE[0]} x {SIZE[1]}, batch {BATCH}, forward + backward", interleaved(steps, 2)
    )


def kept_bytes(loss: Callable[[], Tensor], modules: list[torch.nn.Module]) -> int:
    """Bytes of activations that autograd keeps for one backward, weights left out."""
    weights = {p.untyped_storage().data_ptr() for module in modules for p in module.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    return sum(kept.values())


def memory() -> None:
    """Activations kept for the backward pass, and parameters."""
    contenders, modules = image_contenders()
    print(f"\nkept for the backward pass, {NAME} at {SIZE[0]} x {SIZE[1]}, batch {BATCH}")
    kept = {name: kept_bytes(loss, modules) for name, loss in contenders.items()}
    for name, count in kept.items():
        print(
            f"  {name:42}{count / 1e6:10.1f} MB  {count / kept['open_clip, embedding alone']:.4f} of open_clip's"
        )
    for name, module in zip((OURS, "open_clip", "CLIP-ReID, restated"), modules, strict=True):
        print(f"  {name:42}{sum(p.numel() for p in module.parameters()):12d} parameters")


Step = Callable[[], Tensor]
STEP, SMALL_STEP = (NAME, SIZE, 64, 10), ("ViT-B-32-quickgelu", (64, 32), 8, 1)


def stage_two(
    name: str, size: tuple[int, int], batch: int, device: str
) -> tuple[ClipReID, RestatedStageTwo]:
    """Both methods with the same weights, and as many identities as Market-1501 trains with."""
    texts = torch.randn(751, 512)
    model = ClipReID(ClipTowers.from_open_clip(name, image_size=size), texts)
    towers = model.towers
    rows, columns = towers.grid
    visual = RestatedVisual(768, 12, 12, size[0] // rows, rows * columns, 512)
    visual.load_state_dict(towers.model.visual.state_dict())
    restated = RestatedStageTwo(visual, (768, 512), texts.clone(), 0.25)
    for branch, there in zip(model.identity_branches, restated.classifiers, strict=True):
        there.weight.data.copy_(branch.classifier.weight)
    model, restated = model.to(device), restated.to(device)
    images, labels = torch.randn(batch, 3, *size, device=device), torch.arange(batch) // 4
    with torch.no_grad():
        found, expected = model(images, labels).loss, restated(images, labels.to(device))[0]
    assert_close(found, expected, rtol=1e-3, atol=1e-3)
    return model, restated


def ours_step(model: ClipReID, images: Tensor, labels: Tensor, *, compiled: bool = False) -> Step:
    """In bfloat16, with one group for each rate and nothing that waits for the device."""
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
    """In float16 with a scaler, a group for each parameter, and numbers for the log at every step."""
    groups = [
        {"params": [p], "lr": 1e-5 if "bias" in name else 5e-6, "weight_decay": 1e-4}
        for name, p in model.named_parameters()
        if p.requires_grad
    ]
    device = images.device.type
    optimizer, scaler = torch.optim.Adam(groups), torch.amp.GradScaler(device)

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            loss, hits = model(images, labels.to(images.device))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item(), hits.item()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss.detach()

    return step


def training(name: str, size: tuple[int, int], batch: int, steps: int) -> None:
    """Images per second and peak memory of a step with its optimiser."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels = torch.randn(batch, 3, *size, device=device), torch.arange(batch) // 4
    makers = {
        OURS: (0, ours_step),
        f"{OURS}, compiled": (0, partial(ours_step, compiled=True)),
        "CLIP-ReID, restated": (1, peer_step),
    }
    if device == "cpu":
        del makers[f"{OURS}, compiled"]

    def several(step: Step) -> None:
        for _ in range(steps):
            last = step()
        if not bool(last.isfinite()):  # also waits for the device
            raise RuntimeError("a loss is not finite")

    peaks = {}
    for title, (which, make) in makers.items() if device == "cuda" else ():
        step = make(stage_two(name, size, batch, device)[which], images, labels)
        several(step)
        torch.cuda.reset_peak_memory_stats()
        several(step)
        peaks[title] = torch.cuda.max_memory_allocated() / 1e6
        del step
        gc.collect()
    contenders = {
        title: partial(several, make(stage_two(name, size, batch, device)[which], images, labels))
        for title, (which, make) in makers.items()
    }
    seconds = interleaved(contenders, 5 if device == "cuda" else 1)
    show(
        f"{steps} steps of stage 2, {name} at {size[0]} x {size[1]}, batch {batch}, {device}",
        seconds,
    )
    for title, value in seconds.items():
        peak = f", peak {peaks[title]:.0f} MB" if title in peaks else ""
        print(f"  {title:42}{steps * batch / value:10.1f} images/s{peak}")


def main() -> None:
    """Run all parts, or those that are named."""
    names = ("text", "image", "memory", "step")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", help=f"of {', '.join(names)}; all if none is named, step on a GPU only"
    )
    parser.add_argument("--tiny", action="store_true", help="step at a size that a CPU manages")
    options = parser.parse_args()
    chosen = options.parts or [
        name for name in names if name != "step" or torch.cuda.is_available()
    ]
    if wrong := set(chosen) - set(names):
        parser.error(f"no part {', '.join(sorted(wrong))}")
    step = partial(training, *(SMALL_STEP if options.tiny else STEP))
    parts = {"text": text, "image": image, "memory": memory, "step": step}
    torch.manual_seed(0)
    print(machine("open_clip_torch"))
    for name in chosen:
        parts[name]()


if __name__ == "__main__":
    main()
