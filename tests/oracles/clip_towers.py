"""Image towers of CLIP at the levels of CLIP-ReID, from a state dict, one attention head at a time.

Written from the papers.
"""

import torch
import torch.nn.functional as F


def layer_norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attend(query, key, value, num_heads):
    """Attention of (L, W) matrices: softmax(q k / sqrt(d)) v for every head."""
    width = query.shape[1] // num_heads
    outs = []
    for head in range(num_heads):
        part = slice(head * width, (head + 1) * width)
        weights = torch.softmax(query[:, part] @ key[:, part].T / width**0.5, dim=1)
        outs.append(weights @ value[:, part])
    return torch.cat(outs, dim=1)


def vit_block(state, name, x, num_heads):
    normed = layer_norm(state, f"{name}.ln_1", x)
    packed = normed @ state[f"{name}.attn.in_proj_weight"].T + state[f"{name}.attn.in_proj_bias"]
    query, key, value = packed.chunk(3, dim=1)
    x = x + linear(state, f"{name}.attn.out_proj", attend(query, key, value, num_heads))

    hidden = linear(state, f"{name}.mlp.c_fc", layer_norm(state, f"{name}.ln_2", x))
    return x + linear(state, f"{name}.mlp.c_proj", F.gelu(hidden))


def vit_levels(state, image, num_heads, stride, class_rows=0.0, all_rows=0.0):
    """The five levels of one image (3, H, W); rows are added before the position table."""
    tokens = [state["class_embedding"] + class_rows, *embedded_patches(state, image, stride)]
    x = torch.stack(tokens) + all_rows
    x = layer_norm(state, "ln_pre", x + state["positional_embedding"])

    for block in block_numbers(state, "transformer.resblocks.", 2):
        previous = x
        x = vit_block(state, f"transformer.resblocks.{block}", x, num_heads)

    x = layer_norm(state, "ln_post", x)
    projected = x @ state["proj"]
    return {
        "previous": previous[0],
        "unprojected": x[0],
        "projected": projected[0],
        "patches": x[1:],
        "projected_patches": projected[1:],
    }


def embedded_patches(state, image, stride):
    kernel = state["conv1.weight"]
    size = kernel.shape[-1]
    patches = []
    for top in range(0, image.shape[1] - size + 1, stride[0]):
        for left in range(0, image.shape[2] - size + 1, stride[1]):
            patch = image[:, top : top + size, left : left + size]
            patches.append((kernel * patch).sum(dim=(1, 2, 3)))
    return patches


def block_numbers(state, prefix, position):
    """Numbers of the blocks below a prefix, which are at that position of the dotted names."""
    names = [name for name in state if name.startswith(prefix)]
    return sorted({int(name.split(".")[position]) for name in names})


def batch_norm(state, name, x):
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / torch.sqrt(var + 1e-5)
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][:, None, None]


def conv(state, name, x, **options):
    return F.conv2d(x[None], state[f"{name}.weight"], **options)[0]


def average(x, size):
    return F.avg_pool2d(x[None], size)[0] if size > 1 else x


def bottleneck(state, name, x, stride):
    out = torch.relu(batch_norm(state, f"{name}.bn1", conv(state, f"{name}.conv1", x)))
    out = torch.relu(batch_norm(state, f"{name}.bn2", conv(state, f"{name}.conv2", out, padding=1)))
    out = batch_norm(state, f"{name}.bn3", conv(state, f"{name}.conv3", average(out, stride)))

    if f"{name}.downsample.0.weight" in state:
        x = conv(state, f"{name}.downsample.0", average(x, stride))
        x = batch_norm(state, f"{name}.downsample.1", x)
    return torch.relu(out + x)


def resnet_levels(state, image, num_heads, last_stride):
    """The five levels of one image (3, H, W), in evaluation mode."""
    x = image
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = conv(state, f"conv{number}", x, stride=stride, padding=1)
        x = torch.relu(batch_norm(state, f"bn{number}", x))
    x = average(x, 2)

    for stage, stride in ((1, 1), (2, 2), (3, 2), (4, last_stride)):
        previous = x
        for block in block_numbers(state, f"layer{stage}.", 1):
            x = bottleneck(state, f"layer{stage}.{block}", x, stride if block == 0 else 1)

    positions = x.flatten(1).T
    tokens = torch.cat([positions.mean(dim=0, keepdim=True), positions])
    tokens = tokens + state["attnpool.positional_embedding"]
    query, key, value = (linear(state, f"attnpool.{part}_proj", tokens) for part in "qkv")
    pooled = linear(state, "attnpool.c_proj", attend(query, key, value, num_heads))
    return {
        "previous": previous.mean(dim=(1, 2)),
        "unprojected": positions.mean(dim=0),
        "projected": pooled[0],
        "patches": positions,
        "projected_patches": pooled[1:],
    }
