"""Random masking of the patch tokens of a ViT in training."""

from typing import Final, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_integer, check_number, check_seed, fail
from clipreid_kit._fixed_options import fixed_options

PatchMaskKind = Literal["drop", "zeros", "learned"]

_OWNER = "PatchMasking"
_STD = 0.02


@fixed_options(not_kept=("width", "seed"))
class PatchMasking(nn.Module):
    r"""Hide random patches of each image from a ViT, in training mode only.

    :func:`mask_patches` gives one to towers. Of :math:`T` patch tokens,
    :math:`\operatorname{round}(s T)` are masked in every image, drawn anew in every forward; the
    class token never is. A model that has seen objects in part relies on no single part of them.

    The masks come from torch's generator of the images' device, as those of dropout do: after
    ``torch.manual_seed`` they are the same, and checkpoints that keep the states of generators
    resume them.

    Args:
        width: Width of the tokens.
        share: Share :math:`s` of the patch tokens that is masked, in (0, 1).
        kind: ``"drop"`` leaves the tokens out, so that the sequence is shorter and a step faster
            (FLIP); there is no grid of patches then. ``"zeros"`` replaces the embedding of a patch
            by zeros, and ``"learned"`` by a vector that is learned (BEiT), both before positions
            and cameras are added.
        seed: Seed of the learned vector, which is drawn from a normal distribution with a standard
            deviation of 0.02.

    Attributes:
        token: The learned vector (width,); ``None`` for the other kinds.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> masking = PatchMasking(4, share=0.5)
        >>> patches = torch.zeros(2, 6, 4)
        >>> masked = masking.draw(patches)
        >>> masked.sum(dim=1), masking.drop(patches, masked).shape
        (tensor([3, 3]), torch.Size([2, 3, 4]))

    References:
        Li et al., `Scaling Language-Image Pre-training via Masking
        <https://arxiv.org/abs/2212.00794>`_, 2023, section 3 (FLIP).

        Bao et al., `BEiT: BERT Pre-Training of Image Transformers
        <https://arxiv.org/abs/2106.08254>`_, 2022, section 2.3.
    """

    kind: Final[PatchMaskKind]

    def __init__(
        self, width: int, share: float, kind: PatchMaskKind = "drop", *, seed: int = 0
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "width", width, 1)
        check_number(_OWNER, "share", share)
        if not 0 < share < 1:
            raise fail(_OWNER, "share in (0, 1)", share)
        check_choice(_OWNER, "kind", kind, ("drop", "zeros", "learned"))
        check_seed(_OWNER, seed)

        self.share = share
        self.kind = kind
        self.token: nn.Parameter | None = None
        if kind == "learned":
            generator = torch.Generator().manual_seed(seed)
            drawn = _STD * torch.randn(width, generator=generator, device="cpu")
            self.token = nn.Parameter(drawn.to(torch.get_default_device()))

    def draw(self, patches: Float[Tensor, "n t w"]) -> Bool[Tensor, "n t"]:
        """Draw the masked patches of each image, the same number in all.

        Raises:
            ValueError: If no patch would be left.
        """
        num_images, num_patches = patches.shape[:2]
        num_masked = round(self.share * num_patches)
        if num_masked == num_patches:
            raise fail(_OWNER, f"a share that leaves one of {num_patches} patches", self.share)

        draws = torch.rand(num_images, num_patches, dtype=torch.float32, device=patches.device)
        first = draws.argsort(dim=1)[:, :num_masked]
        return torch.zeros_like(draws, dtype=torch.bool).scatter_(1, first, value=True)

    def replace(
        self, patches: Float[Tensor, "n t w"], masked: Bool[Tensor, "n t"]
    ) -> Float[Tensor, "n t w"]:
        """Return the patches with the masked ones replaced; unchanged for ``"drop"``."""
        if self.kind == "drop":
            return patches
        if self.token is None:
            return patches.masked_fill(masked[:, :, None], 0)
        return torch.where(masked[:, :, None], self.token.to(patches.dtype), patches)

    def drop(
        self, tokens: Float[Tensor, "n t w"], masked: Bool[Tensor, "n t"]
    ) -> Float[Tensor, "n kept w"]:
        """Return the tokens without the masked ones, in their order; all for the other kinds."""
        if self.kind != "drop":
            return tokens

        # a stable sort of booleans puts the tokens that stay first
        num_kept = tokens.shape[1] - round(self.share * tokens.shape[1])
        kept = masked.to(torch.uint8).argsort(dim=1, stable=True)[:, :num_kept]
        return tokens.gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))

    def extra_repr(self) -> str:
        """Show the options."""
        return f"share={self.share}, kind={self.kind!r}"
