"""CLIP-ReID's model as its code runs it, restated for timing: sequence first, full context, every token to the end."""

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
        self.ln_1, self.ln_2 = _LayerNorm(width), _LayerNorm(width)
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
        return x + self.mlp["c_proj"](self.mlp["gelu"](self.mlp["c_fc"](self.ln_2(x))))


class _Blocks(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))


class RestatedVisual(nn.Module):
    """Gives the class tokens after block 11, after ln_post, and projected; every patch token goes all the way."""

    def __init__(
        self, width: int, layers: int, heads: int, patch: int, num_patches: int, embed_dim: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(num_patches + 1, width))
        self.ln_pre, self.ln_post = _LayerNorm(width), _LayerNorm(width)
        self.transformer = _Blocks(width, layers, heads)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.conv1(images).flatten(2).permute(0, 2, 1)
        zeros = torch.zeros(x.shape[0], 1, x.shape[-1], dtype=x.dtype, device=x.device)
        x = torch.cat([self.class_embedding.to(x.dtype) + zeros, x], dim=1)
        x = self.ln_pre(x + self.positional_embedding.to(x.dtype)).permute(1, 0, 2)
        for block in self.transformer.resblocks[:-1]:
            x = block(x, None)
        previous, x = x.permute(1, 0, 2), self.transformer.resblocks[-1](x, None).permute(1, 0, 2)
        x = self.ln_post(x)
        return previous[:, 0], x[:, 0], (x @ self.proj)[:, 0]


class RestatedText(nn.Module):
    """Runs prompts at the full context, once for each row."""

    def __init__(self, width: int, layers: int, heads: int, context: int, embed_dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.transformer = _Blocks(width, layers, heads)
        self.ln_final = _LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.register_buffer(
            "mask", torch.full((context, context), float("-inf")).triu(1), persistent=False
        )

    def forward(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        x = (prompts + self.positional_embedding).permute(1, 0, 2)
        for block in self.transformer.resblocks:
            x = block(x, self.mask)
        x = self.ln_final(x.permute(1, 0, 2))
        return x[torch.arange(x.shape[0]), tokens.argmax(dim=-1)] @ self.text_projection


class RestatedStageTwo(nn.Module):
    """The second stage's losses as its code has them: one-hot targets, masks for the hardest pairs, a plain sum."""

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
        """The loss, and how many images of the batch go to their text."""
        levels = self.visual(images)
        sides = zip(self.classifiers, self.necks, levels[1:], strict=True)
        scores = [classifier(neck(level)) for classifier, neck, level in sides]
        to_texts = levels[2] @ self.texts.t()
        identity = sum(_smoothed(score, labels) for score in scores)
        triplet = sum(_triplet(level, labels) for level in levels)
        hits = (to_texts.max(1)[1] == labels).float().mean()
        return self.id_weight * identity + triplet + _smoothed(to_texts, labels), hits


def _smoothed(logits: Tensor, labels: Tensor, epsilon: float = 0.1) -> Tensor:
    log_share = torch.log_softmax(logits, dim=1)
    targets = (
        torch.zeros(log_share.size()).scatter_(1, labels.unsqueeze(1).cpu(), 1).to(logits.device)
    )
    targets = (1 - epsilon) * targets + epsilon / logits.shape[1]
    return (-targets * log_share).mean(0).sum()


def _triplet(level: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    count = len(level)
    squares = level.pow(2).sum(1, keepdim=True).expand(count, count)
    distances = (squares + squares.t() - 2 * torch.matmul(level, level.t())).clamp(min=1e-12).sqrt()
    same = labels.expand(count, count).eq(labels.expand(count, count).t())
    far = distances[same].contiguous().view(count, -1).max(1)[0]
    near = distances[~same].contiguous().view(count, -1).min(1)[0]
    return F.margin_ranking_loss(near, far, torch.ones_like(near), margin=margin)


def identity_prompts(context: Tensor, words: Tensor, first: int) -> Tensor:
    """Put learned rows (N, M, W) into the word embeddings of one template (L, W), from a position on."""
    count, length = context.shape[:2]
    prefix, suffix = (
        words[:first].expand(count, -1, -1),
        words[first + length :].expand(count, -1, -1),
    )
    return torch.cat([prefix, context, suffix], dim=1)


def squared(*levels: Tensor) -> Tensor:
    """A loss that every level takes part in."""
    return sum((F.normalize(level, dim=1) - 0.1).square().sum() for level in levels)
