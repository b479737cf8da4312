"""A learned vector for each camera, each view, or each pair of them."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_integer, check_positive, describe, fail

_STD = 0.02
_OWNER = "CameraEmbedding"


class Shift(NamedTuple):
    """What is added to the tokens before the position table: rows (N, W) or (W,), to one token or to all."""

    rows: Tensor
    tokens: Literal["class", "all"]


class CameraEmbedding(nn.Module):
    r"""Side information embedding (SIE): a learned vector for each camera, each view, or each pair of them.

    Use it where cameras differ in colour, height or distance, and the camera of a picture is known.
    :class:`ClipTowers` holds one if it is built with ``num_cameras`` or ``num_views``, and adds its rows
    before the position embedding, where TransReID (eq. 3) and CLIP-ReID add theirs:

    .. math::
        z_0 = [x_{cls} + \lambda \, S_{c V + v}; \; x_1; \dots; x_T] + P

    with :math:`c` the camera, :math:`v` one of :math:`V` views and :math:`\lambda` the scale.

    A camera or a view that was not there in training has no row of its own. In evaluation mode it gets the
    mean over those that were, which is what a new camera looks like as far as is known; in training mode it
    is an error.

    Args:
        width: Width of the tokens it is added to.
        num_cameras: Number of cameras; 0 where only views are told apart.
        num_views: Number of views, such as front and rear; 0 where only cameras are told apart.
        scale: :math:`\lambda > 0`, a factor on every row.
        tokens: ``class``: for the class token only, as CLIP-ReID has it; ``all``: for every token, as
            TransReID has it.
        seed: Seed of the rows, which are normal with a standard deviation of 0.02.

    Attributes:
        table: The rows, camera by camera; with both, the views of one camera lie side by side.

    Raises:
        ValueError: If there is neither a camera nor a view, or an option is out of range.

    Example:
        >>> embedding = CameraEmbedding(4, num_cameras=2).eval()
        >>> rows = embedding(torch.tensor([0, 1, 7]))
        >>> torch.equal(rows[2], embedding.table.mean(dim=0))  # nobody has seen camera 7
        True

    References:
        He et al., `TransReID: Transformer-based Object Re-Identification
        <https://arxiv.org/abs/2102.04378>`_, 2021, section 3.3.

    Relations:
        CLIP-ReID and TransReID index past their table at a camera that they have not seen.
    """

    def __init__(
        self,
        width: int,
        *,
        num_cameras: int = 0,
        num_views: int = 0,
        scale: float = 1.0,
        tokens: Literal["class", "all"] = "class",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "width", width, 1)
        check_integer(_OWNER, "num_cameras", num_cameras, 0)
        check_integer(_OWNER, "num_views", num_views, 0)
        check_positive(_OWNER, "scale", scale)
        check_choice(_OWNER, "tokens", tokens, ("class", "all"))
        if num_cameras == num_views == 0:
            raise fail(
                _OWNER, "num_cameras or num_views above 0", "neither", "Leave the embedding out."
            )
        self.width, self.num_cameras, self.num_views = width, num_cameras, num_views
        self.scale, self.tokens = scale, tokens
        rows = torch.empty(max(1, num_cameras) * max(1, num_views), width)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(rows, std=_STD, generator=generator)
        self.table = nn.Parameter(rows)

    def forward(
        self, cameras: Int[Tensor, " n"] | None = None, views: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n width"] | Float[Tensor, " width"]:
        """Look up one row for each picture.

        Leave the ids on the CPU and no device is waited for.

        Args:
            cameras: Camera of each picture, from 0. ``None``: unknown, which evaluation mode allows.
            views: View of each picture, likewise.

        Returns:
            One row for each picture, times the scale; a single row for all of them where nothing is given.

        Raises:
            ValueError: If ids are given for what the embedding does not tell apart; in training mode, if ids
                are missing or out of range.
        """
        known = [
            self._check("cameras", cameras, self.num_cameras),
            self._check("views", views, self.num_views),
        ]
        table = self.table.view(max(1, self.num_cameras), max(1, self.num_views), self.width)
        if known[0] is None and known[1] is None:
            mean: Tensor = self.scale * table.mean(dim=(0, 1))
            return mean
        # a last row and a last column of means, for whoever is not known
        table = torch.cat([table, table.mean(dim=0, keepdim=True)])
        table = torch.cat([table, table.mean(dim=1, keepdim=True)], dim=1)
        camera, view = (
            torch.tensor(0 if count == 0 else count) if ids is None else ids
            for ids, count in zip(known, (self.num_cameras, self.num_views), strict=True)
        )
        rows = (camera * table.shape[1] + view).to(table.device)
        chosen: Tensor = self.scale * table.flatten(0, 1).index_select(0, rows)
        return chosen

    def _check(self, name: str, ids: Tensor | None, count: int) -> Tensor | None:
        """Return the ids with every unknown one as ``count``; ``None`` where none is told apart or known."""
        if ids is not None and (ids.ndim != 1 or ids.is_floating_point() or ids.is_complex()):
            raise fail(_OWNER, f"{name} as one integer for each picture", describe(ids))
        if count == 0:
            if ids is not None:
                raise fail(_OWNER, f"no {name}", "some", f"Build it with num_{name}.")
            return None
        if ids is None:
            if self.training:
                raise fail(
                    _OWNER,
                    f"{name} in training",
                    "None",
                    "Pass them, or call eval() if this is no training.",
                )
            return None
        unknown = (ids < 0) | (ids >= count)
        if self.training and bool(unknown.any()):
            raise fail(
                _OWNER,
                f"{name} in 0..{count - 1} in training",
                f"{sorted(set(ids[unknown].tolist()))[:5]}",
                "Number them from 0; only evaluation mode takes unseen ones.",
            )
        return torch.where(unknown, count, ids)

    def extra_repr(self) -> str:
        """Name the sizes."""
        return (
            f"{self.width}, num_cameras={self.num_cameras}, num_views={self.num_views}, "
            f"scale={self.scale}, tokens={self.tokens}"
        )
