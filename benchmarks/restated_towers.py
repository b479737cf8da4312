"""CLIP-ReID's model restated for timing, as its code runs it.

Tensors are sequence first, texts run at the full context, and every token runs through every block.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _LayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class _QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1 = _LayerNorm(width)
        self.ln_2 = _LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(width, 4 * width),
                "gelu": _QuickGELU(),
                "c_proj": nn.Linear(4 * width, width),
            }
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]

        hidden = self.mlp["gelu"](self.mlp["c_fc"](self.ln_2(x)))
        return x + self.mlp["c_proj"](hidden)


class _Blocks(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))


class RestatedVisual(nn.Module):
    """Class tokens after the last block but one, after ln_post, and projected."""

    def __init__(
        self, width: int, layers: int, heads: int, patch: int, num_patches: int, embed_dim: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(num_patches + 1, width))
        self.ln_pre = _LayerNorm(width)
        self.ln_post = _LayerNorm(width)
        self.transformer = _Blocks(width, layers, heads)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        previous, last, projected = self.all_tokens(images)
        return previous[:, 0], last[:, 0], projected[:, 0]

    def all_tokens(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same levels of every token."""
        x = self.conv1(images).flatten(2).permute(0, 2, 1)
        zeros = torch.zeros(x.shape[0], 1, x.shape[-1], dtype=x.dtype, device=x.device)
        x = torch.cat([self.class_embedding.to(x.dtype) + zeros, x], dim=1)
        x = self.ln_pre(x + self.positional_embedding.to(x.dtype)).permute(1, 0, 2)

        for block in self.transformer.resblocks[:-1]:
            x = block(x, None)
        previous = x.permute(1, 0, 2)

        x = self.transformer.resblocks[-1](x, None).permute(1, 0, 2)
        x = self.ln_post(x)
        return previous, x, x @ self.proj


class RestatedText(nn.Module):
    """Prompts at the full context, once for each row."""

    def __init__(self, width: int, layers: int, heads: int, context: int, embed_dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.transformer = _Blocks(width, layers, heads)
        self.ln_final = _LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))

        mask = torch.full((context, context), float("-inf")).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        x = (prompts + self.positional_embedding).permute(1, 0, 2)
        for block in self.transformer.resblocks:
            x = block(x, self.mask)

        x = self.ln_final(x.permute(1, 0, 2))
        ends = tokens.argmax(dim=-1)
        return x[torch.arange(x.shape[0]), ends] @ self.text_projection


class RestatedStageTwo(nn.Module):
    """Losses of the second stage: one-hot targets, masks for the hardest pairs, a plain sum."""

    def __init__(
        self, visual: RestatedVisual, widths: tuple[int, int], texts: Tensor, id_weight: float
    ) -> None:
        super().__init__()
        self.visual = visual
        self.necks = nn.ModuleList(nn.BatchNorm1d(width) for width in widths)
        self.classifiers = nn.ModuleList(
            nn.Linear(width, len(texts), bias=False) for width in widths
        )
        self.register_buffer("texts", texts)
        self.id_weight = id_weight

        for neck in self.necks:
            neck.bias.requires_grad_(requires_grad=False)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and the share of images whose nearest text is their own."""
        levels = self.visual(images)
        branches = zip(self.classifiers, self.necks, levels[1:], strict=True)
        logits = [classifier(neck(level)) for classifier, neck, level in branches]
        text_logits = levels[2] @ self.texts.t()

        identity = sum(smoothed_cross_entropy(each, labels) for each in logits)
        triplet = sum(triplet_of_masks(level, labels) for level in levels)
        loss = self.id_weight * identity + triplet + smoothed_cross_entropy(text_logits, labels)

        accuracy = (text_logits.max(1)[1] == labels).float().mean()
        return loss, accuracy


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, epsilon: float = 0.1) -> Tensor:
    """Cross-entropy with one-hot targets that are smoothed."""
    log_probabilities = torch.log_softmax(logits, dim=1)
    targets = torch.zeros(log_probabilities.size()).scatter_(1, labels.unsqueeze(1).cpu(), 1)
    targets = (1 - epsilon) * targets.to(logits.device) + epsilon / logits.shape[1]
    return (-targets * log_probabilities).mean(0).sum()


def triplet_of_masks(level: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Batch-hard triplets, with masks of all pairs."""
    count = len(level)
    squares = level.pow(2).sum(1, keepdim=True).expand(count, count)
    distances = squares + squares.t() - 2 * torch.matmul(level, level.t())
    distances = distances.clamp(min=1e-12).sqrt()

    same = labels.expand(count, count).eq(labels.expand(count, count).t())
    positive = distances[same].contiguous().view(count, -1).max(1)[0]
    negative = distances[~same].contiguous().view(count, -1).min(1)[0]
    return F.margin_ranking_loss(negative, positive, torch.ones_like(negative), margin=margin)


def identity_prompts(context: Tensor, words: Tensor, first: int) -> Tensor:
    """Insert learned rows (N, M, W) into the embeddings of a template (L, W), from ``first`` on."""
    count, length = context.shape[:2]
    prefix = words[:first].expand(count, -1, -1)
    suffix = words[first + length :].expand(count, -1, -1)
    return torch.cat([prefix, context, suffix], dim=1)


def squared(*levels: Tensor) -> Tensor:
    """Return a loss that depends on every level."""
    return sum((F.normalize(level, dim=1) - 0.1).square().sum() for level in levels)
