"""Towers against open_clip and CLIP-ReID's model: identity prompts, images, kept activations.

Run from the repository: ``python -m benchmarks.bench_towers [text | image | memory]``. Random weights; the values of
all contenders are compared before anything is timed.
"""

import argparse
from collections.abc import Callable

import open_clip
import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks.measure import OURS, interleaved, machine, show
from benchmarks.restated_towers import RestatedText, RestatedVisual, identity_prompts, squared
from clipreid_kit.clip import ClipTowers, freeze

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
        return restated(identity_prompts(contexts[labels], words, first), tokens.expand(len(labels), -1))

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

        def step(run: Callable[[Tensor, Tensor], Tensor], labels: Tensor = labels) -> Callable[[], None]:
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
    show(f"{NAME} at {SIZE[0]} x {SIZE[1]}, batch {BATCH}, forward + backward", interleaved(steps, 2))


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
        print(f"  {name:42}{count / 1e6:10.1f} MB  {count / kept['open_clip, embedding alone']:.4f} of open_clip's")
    for name, module in zip((OURS, "open_clip", "CLIP-ReID, restated"), modules, strict=True):
        print(f"  {name:42}{sum(p.numel() for p in module.parameters()):12d} parameters")


def main() -> None:
    """Run all parts, or those that are named."""
    parts = {"text": text, "image": image, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all if none is named")
    chosen = parser.parse_args().parts or list(parts)
    if wrong := set(chosen) - set(parts):
        parser.error(f"no part {', '.join(sorted(wrong))}")
    torch.manual_seed(0)
    print(machine("open_clip_torch"))
    for name in chosen:
        parts[name]()


if __name__ == "__main__":
    main()
