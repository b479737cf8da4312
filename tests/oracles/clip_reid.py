"""CLIP-ReID's model as its paper and the layout of its checkpoints describe it, for random weights.

Modules have the names of the official checkpoints; nothing of ours is used.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

TEMPLATE = [49406, 320, 1125, 539, 320, 343, 343, 343, 343, 2533, 269, 49407]  # ... person .
CONTEXT_LENGTH = 77


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width, mask=None):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, width // 64)
        self.ln_2 = nn.LayerNorm(width)
        layers = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU())]
        self.mlp = nn.Sequential(OrderedDict([*layers, ("c_proj", nn.Linear(4 * width, width))]))
        self.mask = mask

    def forward(self, x):  # (length, batch, width)
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, attn_mask=self.mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, num_layers, mask=None):
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, mask) for _ in range(num_layers)))


class VisionTransformer(nn.Module):
    def __init__(self, grid, stride, patch=16, width=64, num_layers=2, dim=32):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, stride=stride, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(1 + grid[0] * grid[1], width) * 0.1)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, num_layers)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, dim) * width**-0.5)

    def forward(self, images, class_rows=None):
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(images), 1, -1)
        if class_rows is not None:
            first = first + class_rows[:, None]

        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        x = x.transpose(0, 1)
        for block in self.transformer.resblocks:
            previous, x = x, block(x)
        unprojected = self.ln_post(x[0])
        return previous[0], unprojected, unprojected @ self.proj


class Bottleneck(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * 4)
        self.stride = stride
        self.downsample = None
        if stride > 1 or in_channels != channels * 4:
            convolution = nn.Conv2d(in_channels, channels * 4, 1, bias=False)
            parts = [("-1", nn.AvgPool2d(stride)), ("0", convolution)]
            parts.append(("1", nn.BatchNorm2d(channels * 4)))
            self.downsample = nn.Sequential(OrderedDict(parts))

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(F.avg_pool2d(y, self.stride)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class AttentionPool(nn.Module):
    def __init__(self, grid, width, dim):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(1 + grid[0] * grid[1], width) * 0.1)
        self.k_proj, self.q_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, dim)

    def forward(self, x):
        positions = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([positions.mean(1, keepdim=True), positions], dim=1)
        tokens = tokens + self.positional_embedding
        heads = []
        for part in (self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens)):
            heads.append(part.unflatten(2, (-1, 64)).transpose(1, 2))
        query, key, value = heads
        weights = torch.softmax(query @ key.transpose(2, 3) / 8.0, dim=-1)
        return self.c_proj((weights @ value).transpose(1, 2).flatten(2))[:, 0]


class ResNet(nn.Module):
    """The last stage keeps the resolution, as in re-identification."""

    def __init__(self, grid, width=8, num_blocks=(1, 1, 1, 1), dim=32):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)

        in_channels = width
        for stage, count in enumerate(num_blocks):
            channels = width * 2**stage
            blocks = []
            for number in range(count):
                stride = 2 if number == 0 and stage in (1, 2) else 1
                blocks.append(Bottleneck(in_channels, channels, stride))
                in_channels = channels * 4
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.attnpool = AttentionPool(grid, in_channels, dim)

    def forward(self, images, class_rows=None):
        x = images
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = F.relu(norm(convolution(x)))
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        third = self.layer3(self.layer2(self.layer1(x)))
        fourth = self.layer4(third)
        return third.mean((2, 3)), fourth.mean((2, 3)), self.attnpool(fourth)


class TextEncoder(nn.Module):
    def __init__(self, width=64, num_layers=2, dim=32):
        super().__init__()
        mask = torch.full((CONTEXT_LENGTH, CONTEXT_LENGTH), float("-inf")).triu(1)
        self.transformer = Transformer(width, num_layers, mask)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT_LENGTH, width) * 0.1)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, dim) * width**-0.5)

    def forward(self, prompts):
        x = self.transformer.resblocks((prompts + self.positional_embedding).transpose(0, 1))
        return self.ln_final(x)[TEMPLATE.index(49407)] @ self.text_projection


class PromptLearner(nn.Module):
    def __init__(self, num_identities, token_table):
        super().__init__()
        ids = torch.tensor(TEMPLATE + [0] * (CONTEXT_LENGTH - len(TEMPLATE)))
        embedded = token_table[ids][None]
        self.cls_ctx = nn.Parameter(torch.randn(num_identities, 4, token_table.shape[1]) * 0.1)
        self.register_buffer("token_prefix", embedded[:, :5])
        self.register_buffer("token_suffix", embedded[:, 9:])

    def forward(self, labels):
        prefix = self.token_prefix.expand(len(labels), -1, -1)
        suffix = self.token_suffix.expand(len(labels), -1, -1)
        return torch.cat([prefix, self.cls_ctx[labels], suffix], dim=1)


class OfficialModel(nn.Module):
    """Towers, necks, classifiers and prompts; a ViT adds rows of cameras to its class token."""

    def __init__(
        self, image_encoder, widths, num_identities, token_table=None, num_cameras=0, scale=1.0
    ):
        super().__init__()
        self.image_encoder = image_encoder
        for name, width in zip(("", "_proj"), widths, strict=True):
            setattr(self, f"classifier{name}", nn.Linear(width, num_identities, bias=False))
            setattr(self, f"bottleneck{name}", nn.BatchNorm1d(width))
        self.scale = scale
        if num_cameras:
            self.cv_embed = nn.Parameter(torch.randn(num_cameras, widths[0]))
        if token_table is not None:
            self.prompt_learner = PromptLearner(num_identities, token_table)
            self.text_encoder = TextEncoder(token_table.shape[1], dim=widths[1])

    def levels(self, images, cameras=None):
        rows = None if cameras is None else self.scale * self.cv_embed[cameras]
        return self.image_encoder(images, rows)

    def descriptor(self, images, cameras=None):
        _, unprojected, projected = self.levels(images, cameras)
        return torch.cat([unprojected, projected], dim=1)

    def logits(self, images):
        _, unprojected, projected = self.levels(images)
        first = self.classifier(self.bottleneck(unprojected))
        return first, self.classifier_proj(self.bottleneck_proj(projected))

    def texts(self, labels):
        return self.text_encoder(self.prompt_learner(labels))
