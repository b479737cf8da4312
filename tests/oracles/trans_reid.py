"""TransReID's ViT as its paper and the layout of its checkpoints describe it."""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        heads = [part.unflatten(2, (-1, 64)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2)]
        query, key, value = heads
        weights = torch.softmax(query @ key.transpose(2, 3) / 8, dim=-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)


class Base(nn.Module):
    def __init__(self, num_patches, num_cameras, width, depth, patch):
        super().__init__()
        self.patch_embed = PatchEmbed(width, patch)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + num_patches, width))
        if num_cameras:
            self.sie_embed = nn.Parameter(torch.randn(num_cameras, 1, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc = nn.Linear(width, 10)

    def tokens(self, images, rows):
        patches = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(images), -1, -1)
        return torch.cat([first, patches], dim=1) + self.pos_embed + rows


class TransReID(nn.Module):
    """The global feature, before its neck; the jigsaw branch only adds weights here."""

    def __init__(self, num_patches, num_cameras=0, jigsaw=False, width=64, depth=2, patch=16):
        super().__init__()
        self.base = Base(num_patches, num_cameras, width, depth, patch)
        self.bottleneck = nn.BatchNorm1d(width)
        self.classifier = nn.Linear(width, 5, bias=False)
        self.jigsaw = jigsaw
        if jigsaw:
            self.b1 = nn.Sequential(Block(width), nn.LayerNorm(width, eps=1e-6))
            self.b2 = nn.Sequential(Block(width), nn.LayerNorm(width, eps=1e-6))
            self.bottleneck_1 = nn.BatchNorm1d(width)
            self.classifier_1 = nn.Linear(width, 5, bias=False)

    def forward(self, images, rows=0.0):
        x = self.base.tokens(images, rows)
        blocks = list(self.base.blocks)
        last, norm = (self.b1[0], self.b1[1]) if self.jigsaw else (blocks[-1], self.base.norm)
        for block in [*blocks[:-1], last]:
            x = block(x)
        return norm(x)[:, 0]
