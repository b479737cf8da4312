"""Stage 1 of CLIP-ReID against its algorithm restated, and the cross-attention of PromptSG.

Run from the repository: ``python -m benchmarks.bench_prompts [random | pk | bank | interaction]``.
Random weights; the values of all contenders are compared before anything is timed.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks.measure import OURS, interleaved, machine, show
from benchmarks.restated_towers import RestatedText, identity_prompts, squared
from clipreid_kit import MultiModalInteraction
from clipreid_kit.clip import ClipReIDPromptStage, ClipTowers, IdentityPromptLearner

NAME, PEER = "ViT-B-16-quickgelu", "CLIP-ReID, restated"
TEMPLATE = "A photo of a {tokens} person."
NUM_IDENTITIES, NUM_IMAGES = 751, 12_936  # of Market-1501
BATCH, NUM_INSTANCES = 32, 4


class _Restated(nn.Module):
    """Prompts of every row at the full context, then both directions of its contrastive loss."""

    def __init__(self, stage: ClipReIDPromptStage) -> None:
        super().__init__()
        towers = stage.towers
        self.text = RestatedText(512, 12, 8, 77, 512).requires_grad_(requires_grad=False)
        own = towers.model.state_dict()
        self.text.load_state_dict({name: own[name] for name in self.text.state_dict()})
        self.tokens = towers.tokenize([TEMPLATE.format(tokens="X X X X")])
        self.words = towers.embed_tokens(self.tokens)[0].detach()
        self.context = stage.prompts.identity_words

    def texts(self, labels: Tensor) -> Tensor:
        """Text features, a row for each label."""
        prompts = identity_prompts(self.context[labels], self.words, 5)
        features: Tensor = self.text(prompts, self.tokens.expand(len(labels), -1))
        return features

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        texts = self.texts(labels)
        mask = (labels[:, None] == labels[None, :]).float()
        return _supcon(images @ texts.T, mask) + _supcon(texts @ images.T, mask)


def _supcon(logits: Tensor, mask: Tensor) -> Tensor:
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    log_probability = logits - logits.exp().sum(dim=1, keepdim=True).log()
    return -((mask * log_probability).sum(dim=1) / mask.sum(dim=1)).mean()


def _stage() -> tuple[ClipReIDPromptStage, _Restated]:
    towers = ClipTowers.from_open_clip(NAME)
    towers.model.visual = nn.Identity()  # features are cached: the image tower is not used
    prompts = IdentityPromptLearner(towers, NUM_IDENTITIES, TEMPLATE)
    stage = ClipReIDPromptStage(towers, prompts)
    return stage, _Restated(stage)


def stage1(title: str, labels: Tensor) -> None:
    """One step, forward and backward into the prompts."""
    stage, restated = _stage()
    features = torch.randn(BATCH, 512)

    def ours() -> Tensor:
        return stage(features, labels).loss

    def peer() -> Tensor:
        loss: Tensor = restated(features, labels)
        return loss

    results = []
    for run in (ours, peer):
        stage.prompts.zero_grad()
        loss = run()
        loss.backward()
        results.append((loss.detach(), stage.prompts.identity_words.grad.clone()))
    assert_close(results[0], results[1], atol=1e-4, rtol=1e-3)

    seconds = interleaved({OURS: lambda: ours().backward(), PEER: lambda: peer().backward()}, 2)
    show(f"stage-1 step, {NUM_IDENTITIES} identities, batch {BATCH}, {title}", seconds)
    num_steps = NUM_IMAGES / BATCH
    hours = {name: num_steps * value / 3600 for name, value in seconds.items()}
    print(
        f"  an epoch of {NUM_IMAGES} images on this machine: {hours[OURS]:.2f} h, "
        f"restated {hours[PEER]:.2f} h"
    )


def random() -> None:
    """Random rows, as CLIP-ReID draws them: nearly as many identities as rows."""
    stage1("random rows", torch.randint(NUM_IDENTITIES, (BATCH,)))


def pk() -> None:
    """Rows of a PK sampler."""
    identities = torch.randperm(NUM_IDENTITIES)[: BATCH // NUM_INSTANCES]
    labels = identities.repeat_interleave(NUM_INSTANCES)
    stage1(f"PK with K = {NUM_INSTANCES}", labels)


def bank() -> None:
    """Texts of all identities, once and without gradient (measured on 48 of them)."""
    stage, restated = _stage()
    labels = torch.arange(48)

    @torch.no_grad()
    def ours() -> Tensor:
        return stage.prompts.encode(stage.towers, labels)

    @torch.no_grad()
    def peer() -> Tensor:
        return restated.texts(labels)

    assert_close(ours(), peer(), atol=1e-5, rtol=1e-4)
    seconds = interleaved({OURS: ours, PEER: peer}, 2)
    show(f"texts of {len(labels)} identities, no gradient", seconds)
    print(f"  of {NUM_IDENTITIES}: {NUM_IDENTITIES / len(labels) * seconds[OURS]:.1f} s")


def interaction() -> None:
    """One text over 128 patches of width 768: keys and values of all patches, or of none."""
    ours = MultiModalInteraction(
        512, 0, visual_dim=768, residual=False, norm="post", input_norm=False
    )
    ours.attended_norm = nn.Identity()
    peer = nn.MultiheadAttention(512, 8, kdim=768, vdim=768, batch_first=True)
    layers = ours.attention
    with torch.no_grad():
        peer.q_proj_weight.copy_(layers.query.weight)
        peer.k_proj_weight.copy_(layers.key.weight)
        peer.v_proj_weight.copy_(layers.value.weight)
        peer.in_proj_bias.copy_(torch.cat([layers.query.bias, torch.zeros(512), layers.value.bias]))
        peer.out_proj.load_state_dict(layers.out.state_dict())
    text = torch.randn(BATCH, 512)
    patches = torch.randn(BATCH, 128, 768).requires_grad_()

    def attend() -> Tensor:
        return ours(text, patches).embedding

    def attend_peer() -> Tensor:
        return peer(text[:, None], patches, patches, need_weights=False)[0][:, 0]

    assert_close(attend(), attend_peer(), atol=1e-5, rtol=1e-4)

    def step(run: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: squared(run()).backward()

    contenders = {OURS: step(attend), "torch.nn.MultiheadAttention": step(attend_peer)}
    seconds = interleaved(contenders, 15)
    title = f"cross-attention of one text over 128 patches, batch {BATCH}, forward + backward"
    show(title, seconds)


def main() -> None:
    """Run all parts, or those that are named."""
    parts = {"random": random, "pk": pk, "bank": bank, "interaction": interaction}
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
