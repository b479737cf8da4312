"""A learned vector for each camera, each view, or each pair of both."""

from typing import Final, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_choice,
    check_integer,
    check_positive,
    check_seed,
    describe,
    fail,
)
from clipreid_kit._fixed_options import fixed_options

_STD = 0.02
_OWNER = "CameraEmbedding"
_MAX_SHOWN = 5


class TokenOffset(NamedTuple):
    """Rows to add to the tokens of a ViT before the position table.

    Attributes:
        rows: (N, W), one for each image, or (W,), one for all.
        tokens: Whether they are added to the class token or to all tokens.
    """

    rows: Tensor
    tokens: Literal["class", "all"]


@fixed_options(not_kept=("seed",))
class CameraEmbedding(nn.Module):
    r"""Side information embedding (SIE): a learned vector for each camera, view, or pair of both.

    Use it if cameras differ in colour, height or distance, and the camera of an image is known.
    :class:`ClipTowers` holds one if it is built with ``num_cameras`` or ``num_views``, and adds its
    rows before the position embedding, as TransReID (eq. 3) and CLIP-ReID do:

    .. math::
        z_0 = [x_{cls} + \lambda \, S_{c V + v}; \; x_1; \dots; x_T] + P

    with :math:`c` the camera, :math:`v` one of :math:`V` views and :math:`\lambda` the scale.

    A camera or view that did not occur in training has no row of its own. In evaluation mode it
    gets the mean over those that did, the best estimate for a new camera; in training mode it is
    an error.

    Args:
        width: Width of the tokens that the rows are added to.
        num_cameras: Number of cameras; 0 if only views are distinguished.
        num_views: Number of views, such as front and rear; 0 if only cameras are distinguished.
        scale: :math:`\lambda > 0`, a factor on every row.
        tokens: ``class`` adds the rows to the class token only, as CLIP-ReID does; ``all`` adds
            them to every token, as TransReID does.
        seed: Seed of the rows, which are drawn from a normal distribution with a standard deviation
            of 0.02.

    Attributes:
        table: The rows, camera by camera; with both, the views of one camera are adjacent.

    Raises:
        ValueError: If both counts are 0, or an option is out of range.

    Example:
        >>> embedding = CameraEmbedding(4, num_cameras=2).eval()
        >>> rows = embedding(torch.tensor([0, 1, 7]))
        >>> torch.equal(rows[2], embedding.table.mean(dim=0))  # camera 7 is unseen
        True

    References:
        He et al., `TransReID: Transformer-based Object Re-Identification
        <https://arxiv.org/abs/2102.04378>`_, 2021, section 3.3.

    Relations:
        The code of CLIP-ReID and of TransReID indexes past its table at an unseen camera.
    """

    width: Final[int]
    num_cameras: Final[int]
    num_views: Final[int]

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
        check_seed(_OWNER, seed)
        if num_cameras == num_views == 0:
            raise ValueError(
                f"{_OWNER}: num_cameras and num_views are both 0; pass at least one of them, or "
                "leave the embedding out."
            )

        self.width = width
        self.num_cameras = num_cameras
        self.num_views = num_views
        self.scale = scale
        self.tokens = tokens

        rows = torch.empty(max(1, num_cameras) * max(1, num_views), width)
        nn.init.normal_(rows, std=_STD, generator=torch.Generator().manual_seed(seed))
        self.table = nn.Parameter(rows)

    def forward(
        self, cameras: Int[Tensor, " n"] | None = None, views: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n width"] | Float[Tensor, " width"]:
        """Look up one row for each image.

        Keep the ids on the CPU to avoid a device synchronisation.

        Args:
            cameras: Camera of each image, from 0. ``None`` means unknown, which only evaluation
                mode accepts.
            views: View of each image, likewise.

        Returns:
            One row for each image, times the scale; a single row for all images if neither is
            given.

        Raises:
            ValueError: If ids are given that the embedding does not distinguish; in training mode,
                also if ids are missing or out of range.
        """
        cameras = self._known_ids("cameras", cameras, self.num_cameras)
        views = self._known_ids("views", views, self.num_views)
        table = self.table.view(max(1, self.num_cameras), max(1, self.num_views), self.width)

        if cameras is None and views is None:
            mean: Tensor = self.scale * table.mean(dim=(0, 1))
            return mean

        # a last row and a last column of means, for ids that are not known
        table = torch.cat([table, table.mean(dim=0, keepdim=True)])
        table = torch.cat([table, table.mean(dim=1, keepdim=True)], dim=1)

        # without ids: the row of means, or the only row if the embedding does not distinguish them
        if cameras is None:
            cameras = torch.tensor(self.num_cameras, device="cpu")
        if views is None:
            views = torch.tensor(self.num_views, device="cpu")

        rows = (cameras * table.shape[1] + views).to(table.device)
        chosen: Tensor = self.scale * table.flatten(0, 1).index_select(0, rows)
        return chosen

    def extra_repr(self) -> str:
        """Show the sizes and options."""
        return (
            f"{self.width}, num_cameras={self.num_cameras}, num_views={self.num_views}, "
            f"scale={self.scale}, tokens={self.tokens!r}"
        )

    def _known_ids(self, name: str, ids: Tensor | None, count: int) -> Tensor | None:
        """Check the ids, and replace each unknown one by ``count``.

        Returns:
            The ids; ``None`` if the embedding does not distinguish them, or none are given.
        """
        if ids is not None and (ids.ndim != 1 or ids.is_floating_point() or ids.is_complex()):
            raise fail(_OWNER, f"{name} as one integer for each image", describe(ids))

        if count == 0:
            if ids is not None:
                raise ValueError(
                    f"{_OWNER}: This embedding does not distinguish {name}; build it with "
                    f"num_{name}, or leave {name} out."
                )
            return None

        if ids is None:
            if self.training:
                raise ValueError(
                    f"{_OWNER}: Training mode needs the {name} of the images; pass them, or call "
                    "eval() outside training."
                )
            return None

        unknown = (ids < 0) | (ids >= count)
        if self.training and bool(unknown.any()):
            wrong = sorted(set(ids[unknown].tolist()))
            raise fail(
                _OWNER,
                f"{name} in 0..{count - 1} in training",
                f"{wrong[:_MAX_SHOWN]}",
                f"Number the {name} from 0; only evaluation mode accepts unseen ones.",
            )
        return torch.where(unknown, count, ids)


def accepts_camera_embedding(visual: nn.Module) -> bool:
    """Return whether camera rows can be added to the tokens of an image tower."""
    return isinstance(visual, VisionTransformer)
