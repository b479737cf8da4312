"""Where in the towers a parameter stands: tower, part and block, told from its name."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import nn

from clipreid_kit._checks import fail

if TYPE_CHECKING:
    from clipreid_kit.clip.towers.clip_towers import ClipTowers

Tower = Literal["image", "text"]

_CAMERAS = "camera_embedding."
_TEXT_BLOCK = r"model\.(?:text\.)?transformer\.resblocks\.(\d+)\."
_TEXT_FIRST = r"model\.(?:text\.)?(?:token_embedding|positional_embedding|cls_emb)\b"
_IMAGE = {
    "vit": (
        r"model\.visual\.transformer\.resblocks\.(\d+)\.",
        r"model\.visual\.(?:conv1|class_embedding|positional_embedding|ln_pre)\b|camera_embedding\.",
    ),
    "resnet": (r"model\.visual\.layer([1-4])\.", r"model\.visual\.(?:conv|bn)[123]\b"),
    "timm": (
        r"model\.visual\.trunk\.(?:blocks|stages)\.(\d+)\.",
        r"model\.visual\.trunk\.(?:patch_embed|pos_embed|cls_token|reg_token|norm_pre|rope|stem)\b",
    ),
}


class ParameterDepth(NamedTuple):
    """Where a parameter stands.

    Attributes:
        tower: ``image`` or ``text``.
        depth: 0 for the embeddings, then the blocks from 1, then the head.
        num_blocks: Number of blocks of that tower.
    """

    tower: Tower
    depth: int
    num_blocks: int

    @property
    def is_head(self) -> bool:
        """Whether it comes after the last block: last normalisation, projection, attention pool, scale."""
        return self.depth > self.num_blocks

    def __str__(self) -> str:
        """Name the place."""
        part = (
            "embeddings" if self.depth == 0 else "head" if self.is_head else f"block {self.depth}"
        )
        return f"{self.tower} {part}"


def parameter_depths(towers: "ClipTowers") -> Iterator[tuple[str, nn.Parameter, ParameterDepth]]:
    """Go through the parameters of towers by name, each with its place; one shared by two names comes once.

    Raises:
        ValueError: If a tower's blocks are not known (text towers of Hugging Face, some trunks of timm).
    """
    patterns: dict[Tower, tuple[str, str]] = {
        "image": _patterns(towers.model.visual),
        "text": (_TEXT_BLOCK, _TEXT_FIRST),
    }
    found: list[tuple[str, nn.Parameter, Tower, int | None]] = []
    for name, parameter in towers.named_parameters():
        tower: Tower = "image" if name.startswith(("model.visual.", _CAMERAS)) else "text"
        match = re.match(patterns[tower][0], name)
        found.append((name, parameter, tower, int(match[1]) if match else None))
    numbers = {
        tower: sorted(
            {block for _, _, where, block in found if where == tower and block is not None}
        )
        for tower in patterns
    }
    for name, parameter, tower, block in found:
        own = numbers[tower]
        if not own:
            raise fail(
                "ClipTowers",
                f"a tower of {tower}s whose blocks are known",
                type(towers.model.visual).__name__,
            )
        outside = 0 if re.match(patterns[tower][1], name) else len(own) + 1
        yield (
            name,
            parameter,
            ParameterDepth(tower, outside if block is None else own.index(block) + 1, len(own)),
        )


def _patterns(visual: nn.Module) -> tuple[str, str]:
    if isinstance(visual, ModifiedResNet):
        return _IMAGE["resnet"]
    return _IMAGE["timm" if isinstance(visual, TimmModel) else "vit"]
