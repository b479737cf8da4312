"""PromptSG's model restated for timing, from its paper and in torch's own modules.

Texts run at the full context, keys and values of all patches are computed, and the losses are those
of CLIP-ReID's code beside a SupCon of dense masks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.restated_towers import (
    RestatedText,
    RestatedVisual,
    identity_prompts,
    smoothed_cross_entropy,
    triplet_of_masks,
)
from clipreid_kit import MultiModalInteraction
from clipreid_kit.clip import PromptSG

TEMPLATE = "A photo of a X person."
PLACEHOLDER = "X"


class RestatedInteraction(nn.Module):
    """Attention of the text over the patches, then blocks over the text and the patches."""

    def __init__(self, dim: int, visual_dim: int, num_blocks: int, num_heads: int) -> None:
        super().__init__()
        self.query_norm, self.visual_norm = nn.LayerNorm(dim), nn.LayerNorm(visual_dim)
        self.attention = nn.MultiheadAttention(
            dim, num_heads, kdim=visual_dim, vdim=visual_dim, batch_first=True
        )
        self.projection = nn.Linear(visual_dim, dim)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                num_heads,
                4 * dim,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(num_blocks)
        )
        self.last_norm = nn.LayerNorm(dim)

    def forward(self, text: Tensor, patches: Tensor) -> Tensor:
        """Return the representation."""
        tokens = self.visual_norm(patches)
        query = self.query_norm(text)[:, None]
        attended, _ = self.attention(query, tokens, tokens)

        sequence = torch.cat([text[:, None] + attended, self.projection(tokens)], dim=1)
        for block in self.blocks:
            sequence = block(sequence)
        return self.last_norm(sequence[:, 0])

    @torch.no_grad()
    def copy_weights(self, ours: MultiModalInteraction) -> None:
        """Take over the weights of our module, which has no biases of keys."""
        there = ours.attention
        for name in ("query", "key", "value"):
            weight = getattr(self.attention, f"{name[0]}_proj_weight")
            weight.copy_(getattr(there, name).weight)
        self.attention.in_proj_bias.copy_(_biases(there))
        self.attention.out_proj.load_state_dict(there.out.state_dict())

        for name in ("query_norm", "visual_norm", "projection", "last_norm"):
            getattr(self, name).load_state_dict(getattr(ours, name).state_dict())
        for block, own in zip(self.blocks, ours.blocks, strict=True):
            weights = [own.query.weight, own.key.weight, own.value.weight]
            block.self_attn.in_proj_weight.copy_(torch.cat(weights))
            block.self_attn.in_proj_bias.copy_(_biases(own))
            block.self_attn.out_proj.load_state_dict(own.out.state_dict())
            block.linear1.load_state_dict(own.mlp[0].state_dict())
            block.linear2.load_state_dict(own.mlp[2].state_dict())
            block.norm1.load_state_dict(own.norm_1.state_dict())
            block.norm2.load_state_dict(own.norm_2.state_dict())


def _biases(attention: nn.Module) -> Tensor:
    """Biases of queries, keys and values in one."""
    query, value = attention.query.bias, attention.value.bias
    return torch.cat([query, torch.zeros_like(query), value])


class RestatedPromptSG(nn.Module):
    """PromptSG's step with the weights of ours."""

    def __init__(self, ours: PromptSG, visual: RestatedVisual, text: RestatedText) -> None:
        super().__init__()
        towers, interaction = ours.towers, ours.interaction
        dim, heads = interaction.dim, interaction.num_heads

        self.visual, self.text = visual, text
        self.inversion = nn.Sequential(
            nn.Linear(dim, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, towers.text_width, bias=False),
            nn.BatchNorm1d(towers.text_width),
        )
        blocks = len(interaction.blocks)
        self.interaction = RestatedInteraction(dim, interaction.visual_dim, blocks, heads)
        self.neck = nn.BatchNorm1d(dim)
        self.neck.bias.requires_grad_(requires_grad=False)
        self.classifier = nn.Linear(dim, ours.num_identities, bias=False)

        tokens = towers.tokenize([TEMPLATE])
        self.first = tokens[0].tolist().index(towers.token_ids(PLACEHOLDER)[0])
        self.register_buffer("tokens", tokens)
        self.register_buffer("words", towers.embed_tokens(tokens)[0].detach())
        self._copy_weights(ours)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor]:
        """Return the loss, which is all that is logged."""
        previous, last, projected = self.visual.all_tokens(images)
        image = projected[:, 0]

        words = self.inversion(image)[:, None]
        prompts = identity_prompts(words, self.words, self.first)
        text = self.text(prompts, self.tokens.expand(len(images), -1))
        representation = self.interaction(text, last[:, 1:])

        logits = self.classifier(self.neck(representation))
        levels = (previous[:, 0], last[:, 0], representation)
        triplet = sum(triplet_of_masks(level, labels) for level in levels)
        contrast = _supcon(image, text, labels) + _supcon(text, image, labels)
        return (smoothed_cross_entropy(logits, labels) + triplet + 0.5 * contrast,)

    @torch.no_grad()
    def _copy_weights(self, ours: PromptSG) -> None:
        layers = [*ours.inversion.layers, ours.inversion.norm]
        for layer, there in zip(self.inversion, layers, strict=True):
            layer.load_state_dict(there.state_dict())
        self.interaction.copy_weights(ours.interaction)
        self.classifier.weight.copy_(ours.identity_branches[0].classifier.weight)


def _supcon(rows: Tensor, others: Tensor, labels: Tensor, temperature: float = 0.07) -> Tensor:
    """SupCon of one direction by a dense mask."""
    cosines = F.normalize(rows, dim=1) @ F.normalize(others, dim=1).t()
    logarithms = torch.log_softmax(cosines / temperature, dim=1)
    mask = (labels[:, None] == labels[None]).float()
    return -((mask * logarithms).sum(1) / mask.sum(1)).mean()
