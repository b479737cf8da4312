"""Layout of a ViT: its attention layers, and the tokens that its embedding is read from."""

from typing import Any, NamedTuple

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import VisionTransformer as TorchvisionViT

from clipreid_kit.clip.towers.backbone import BackboneTower


class VitLayout(NamedTuple):
    """Layout of a ViT.

    Attributes:
        layers: Attention layers, in the order in which they run.
        num_prefix: Number of tokens before the patches, such as the class token.
        reads_class_token: Whether the embedding is the class token, or the mean of the patches.
    """

    layers: list[nn.Module]
    num_prefix: int
    reads_class_token: bool

    def readout(self, relevance: Tensor, grid: tuple[int, int]) -> Tensor:
        """Relevance of the patches for what is read, (N, rows, columns).

        Args:
            relevance: (N, L', L) of each token for each token; L' is 1 if the last block ran for
                the class token alone.
            grid: (rows, columns) of the patches.
        """
        if self.reads_class_token:
            row = relevance[:, 0]
        else:
            row = relevance[:, self.num_prefix :].mean(dim=1)
        return row[:, self.num_prefix :].reshape(-1, *grid).detach()


def vit_layout(visual: nn.Module) -> VitLayout | None:
    """Return the layout of an image tower; ``None`` if it is no ViT, or pools by attention."""
    tower: Any = visual
    if isinstance(visual, VisionTransformer):
        if tower.attn_pool is not None or tower.pool_type not in ("tok", "avg"):
            return None
        layers = [block.attn for block in tower.transformer.resblocks]
        return VitLayout(layers, 1, tower.pool_type == "tok")

    if not isinstance(visual, TimmModel | BackboneTower):
        return None

    trunk = tower.trunk
    if isinstance(trunk, TorchvisionViT):
        layers = [block.self_attention for block in trunk.encoder.layers]
        return VitLayout(layers, 1, reads_class_token=True)

    layers = [getattr(block, "attn", None) for block in getattr(trunk, "blocks", [])]
    pool = getattr(trunk, "global_pool", "")
    if not layers or None in layers or pool not in ("token", "avg"):
        return None
    return VitLayout(layers, int(trunk.num_prefix_tokens), pool == "token")
