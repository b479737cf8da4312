"""Map each parameter to its tower and block depth."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.clip_towers import ClipTowers

Tower = Literal["image", "text"]

_IMAGE_PREFIXES = ("model.visual.", "camera_embedding.")


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
        r"|camera_embedding\."
    ),
)
_RESNET = _NamePatterns(
    block=re.compile(r"model\.visual\.layer([1-4])\."),
    embeddings=re.compile(r"model\.visual\.(?:conv|bn)[123]\b"),
)
_TIMM = _NamePatterns(
    block=re.compile(r"model\.visual\.trunk\.(?:blocks|stages)\.(\d+)\."),
    embeddings=re.compile(
        r"model\.visual\.trunk\."
        r"(?:patch_embed|pos_embed|cls_token|reg_token|norm_pre|rope|stem)\b"
    ),
)


def parameter_depths(towers: ClipTowers) -> Iterator[tuple[str, nn.Parameter, ParameterDepth]]:
    """Iterate over the parameters of towers, with their names and depths.

    A parameter that two names share comes once.

    Raises:
        ValueError: If a tower's blocks are unknown (text towers of Hugging Face, some timm trunks).
    """
    patterns: dict[Tower, _NamePatterns] = {
        "image": _image_patterns(towers.model.visual),
        "text": _TEXT,
    }
    block_numbers = _block_numbers(towers, patterns)

    for name, parameter in towers.named_parameters():
        tower = _tower_of(name)
        numbers = block_numbers[tower]
        if not numbers:
            raise fail(
                "ClipTowers", f"a tower of {tower}s whose blocks are known", _kind(towers, tower)
            )

        block = patterns[tower].block.match(name)
        if block is not None:
            depth = numbers.index(int(block[1])) + 1
        elif patterns[tower].embeddings.match(name):
            depth = 0
        else:
            depth = len(numbers) + 1

        yield name, parameter, ParameterDepth(tower, depth, len(numbers))


def _tower_of(name: str) -> Tower:
    return "image" if name.startswith(_IMAGE_PREFIXES) else "text"


def _kind(towers: ClipTowers, tower: Tower) -> str:
    model = towers.model
    module = model.visual if tower == "image" else getattr(model, "text", model)
    return type(module).__name__


def _image_patterns(visual: nn.Module) -> _NamePatterns:
    if isinstance(visual, ModifiedResNet):
        return _RESNET
    if isinstance(visual, TimmModel):
        return _TIMM
    return _VIT


def _block_numbers(
    towers: ClipTowers, patterns: dict[Tower, _NamePatterns]
) -> dict[Tower, list[int]]:
    """Numbers of the blocks that have parameters, in ascending order, for each tower."""
    found: dict[Tower, set[int]] = {tower: set() for tower in patterns}
    for name, _ in towers.named_parameters():
        tower = _tower_of(name)
        block = patterns[tower].block.match(name)
        if block is not None:
            found[tower].add(int(block[1]))

    return {tower: sorted(numbers) for tower, numbers in found.items()}
