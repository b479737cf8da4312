"""Find the blocks of a trunk of timm or torchvision, and the depth of each of its parameters."""

import re
from collections.abc import Iterator

from torch import nn

# containers whose children are the blocks, in order of preference
_CONTAINERS = (
    "blocks",
    "stages",
    "layers",
    "levels",
    "transformers",
    "encoder.layers",
    "features",
    "trunk_output",
)

# stages that lie side by side, such as layer1, layer2 and so on
_NUMBERED = re.compile(r"([a-z]+)(\d+)$")
_STAGE_NAMES = ("layer", "stage", "level", "s")

# The first child of these containers is the stem, which counts to the embeddings.
_CONTAINERS_WITH_STEM = ("features",)


def trunk_blocks(trunk: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks of a trunk by name, from the input to the output.

    Args:
        trunk: A model of timm or torchvision.

    Returns:
        Transformer blocks, or the stages of a convolutional or hierarchical network; empty if they
        are unknown.

    Example:
        >>> from torchvision.models import resnet18
        >>> list(trunk_blocks(resnet18()))
        ['layer1', 'layer2', 'layer3', 'layer4']
    """
    for name in _CONTAINERS:
        blocks = _children_of(trunk, name)
        if len(blocks) > 1:
            return blocks
    return _numbered_stages(trunk)


def trunk_depths(trunk: nn.Module) -> tuple[dict[str, int], int]:
    """Map each parameter of a trunk to its depth.

    Modules are defined in the order in which they run: what comes before the first block belongs to
    the embeddings, what comes after the last one to the head, and what comes between two blocks to
    the later one.

    Args:
        trunk: A model of timm or torchvision.

    Returns:
        The depth of each parameter (0 for embeddings, then 1 for the first block and so on, then
        the head), and the number of blocks, which is 0 if they are unknown.
    """
    blocks = list(trunk_blocks(trunk))
    names = [name for name, _ in trunk.named_parameters()]
    numbers = [_block_number(name, blocks) for name in names]

    last = max((row for row, number in enumerate(numbers) if number), default=-1)
    depths = {}
    begun = 0
    for row, (name, number) in enumerate(zip(names, numbers, strict=True)):
        if number:
            begun = number
            depths[name] = number
        elif row > last:
            depths[name] = len(blocks) + 1
        else:
            depths[name] = 0 if begun == 0 else begun + 1
    return depths, len(blocks)


def _children_of(trunk: nn.Module, name: str) -> dict[str, nn.Module]:
    """Children of a container that have parameters, without its stem."""
    try:
        container = trunk.get_submodule(name)
    except AttributeError:
        return {}

    children = {
        f"{name}.{child}": module
        for child, module in container.named_children()
        if _has_parameters(module)
    }
    if name in _CONTAINERS_WITH_STEM and children:
        children.pop(next(iter(children)))
    return children


def _numbered_stages(trunk: nn.Module) -> dict[str, nn.Module]:
    """The longest series of children whose names differ in their number only."""
    series: dict[str, dict[str, nn.Module]] = {}
    for name, module in trunk.named_children():
        match = _NUMBERED.match(name)
        if match is not None and match[1] in _STAGE_NAMES and _has_parameters(module):
            series.setdefault(match[1], {})[name] = module

    longest = max(series.values(), key=len, default={})
    return longest if len(longest) > 1 else {}


def _block_number(name: str, blocks: list[str]) -> int:
    """Number of the block that a parameter belongs to, from 1; 0 for none."""
    inside = _numbers_of_blocks(name, blocks)
    return next(inside, 0)


def _numbers_of_blocks(name: str, blocks: list[str]) -> Iterator[int]:
    for number, block in enumerate(blocks, start=1):
        if name.startswith(f"{block}."):
            yield number


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
