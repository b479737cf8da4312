"""Map each parameter to its tower and block depth."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.backbone import BackboneTower
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.trunk_blocks import trunk_depths

Tower = Literal["image", "text"]

_CAMERA_PREFIX = "camera_embedding."
_IMAGE_PREFIXES = ("model.visual.", _CAMERA_PREFIX, "patch_masking.")
_TRUNK_PREFIX = "model.visual.trunk."

_Depths = tuple[dict[str, int], int]  # depth of each parameter by name, and number of blocks


class ParameterDepth(NamedTuple):
    """Tower of a parameter, and its depth there.

    Attributes:
        tower: ``image`` or ``text``.
        depth: 0 for the embeddings, then 1 for the first block and so on, then the head.
        num_blocks: Number of blocks of that tower.
    """

    tower: Tower
    depth: int
    num_blocks: int

    @property
    def is_head(self) -> bool:
        """Whether it follows the last block: normalisation, projection, attention pool, scale."""
        return self.depth > self.num_blocks

    def __str__(self) -> str:
        """Name the tower and the part, such as ``image block 3``."""
        if self.depth == 0:
            return f"{self.tower} embeddings"
        if self.is_head:
            return f"{self.tower} head"
        return f"{self.tower} block {self.depth}"


class _NamePatterns(NamedTuple):
    """Patterns that the parameter names of one tower match from their beginning.

    Attributes:
        block: Names inside a block; the first group is its number.
        embeddings: Names before the first block.
    """

    block: re.Pattern[str]
    embeddings: re.Pattern[str]


_TEXT = _NamePatterns(
    block=re.compile(r"model\.(?:text\.)?transformer\.resblocks\.(\d+)\."),
    embeddings=re.compile(r"model\.(?:text\.)?(?:token_embedding|positional_embedding|cls_emb)\b"),
)
_VIT = _NamePatterns(
    block=re.compile(r"model\.visual\.transformer\.resblocks\.(\d+)\."),
    embeddings=re.compile(
        r"model\.visual\.(?:conv1|class_embedding|positional_embedding|ln_pre)\b"
        r"|camera_embedding\.|patch_masking\."
    ),
)
_RESNET = _NamePatterns(
    block=re.compile(r"model\.visual\.layer([1-4])\."),
    embeddings=re.compile(r"model\.visual\.(?:conv|bn)[123]\b"),
)


def parameter_depths(towers: ClipTowers) -> Iterator[tuple[str, nn.Parameter, ParameterDepth]]:
    """Iterate over the parameters of towers, with their names and depths.

    A parameter that two names share comes once.

    Raises:
        ValueError: If a tower's blocks are unknown (text towers of Hugging Face, some timm trunks).
    """
    depths = {"image": _image_depths(towers), "text": _text_depths(towers)}
    for name, parameter in towers.named_parameters():
        tower = _tower_of(name)
        depth_by_name, num_blocks = depths[tower]
        if num_blocks == 0:
            raise fail(
                "ClipTowers", f"a tower of {tower}s whose blocks are known", _kind(towers, tower)
            )
        yield name, parameter, ParameterDepth(tower, depth_by_name[name], num_blocks)


def _image_depths(towers: ClipTowers) -> _Depths:
    """Depth of each parameter of the image tower and the camera embedding."""
    visual = towers.model.visual
    names = [name for name, _ in towers.named_parameters() if _tower_of(name) == "image"]
    if isinstance(visual, TimmModel | BackboneTower):
        return _trunk_depths(visual.trunk, names)
    return _depths_by_pattern(names, _RESNET if isinstance(visual, ModifiedResNet) else _VIT)


def _text_depths(towers: ClipTowers) -> _Depths:
    names = [name for name, _ in towers.named_parameters() if _tower_of(name) == "text"]
    return _depths_by_pattern(names, _TEXT)


def _trunk_depths(trunk: nn.Module, names: Sequence[str]) -> _Depths:
    """Depths by the order of a trunk's modules; what is behind the trunk belongs to the head."""
    inside, num_blocks = trunk_depths(trunk)
    depths = {}
    for name in names:
        inner = name.removeprefix(_TRUNK_PREFIX)
        is_camera = name.startswith(_CAMERA_PREFIX)
        depths[name] = 0 if is_camera else inside.get(inner, num_blocks + 1)
    return depths, num_blocks


def _depths_by_pattern(names: Sequence[str], patterns: _NamePatterns) -> _Depths:
    """Depths by the names of parameters; blocks count in ascending order of their numbers."""
    blocks = {name: patterns.block.match(name) for name in names}
    numbers = sorted({int(match[1]) for match in blocks.values() if match is not None})

    depths = {}
    for name, match in blocks.items():
        if match is not None:
            depths[name] = numbers.index(int(match[1])) + 1
        else:
            depths[name] = 0 if patterns.embeddings.match(name) else len(numbers) + 1
    return depths, len(numbers)


def _tower_of(name: str) -> Tower:
    return "image" if name.startswith(_IMAGE_PREFIXES) else "text"


def _kind(towers: ClipTowers, tower: Tower) -> str:
    model = towers.model
    module = model.visual if tower == "image" else getattr(model, "text", model)
    return type(module).__name__
