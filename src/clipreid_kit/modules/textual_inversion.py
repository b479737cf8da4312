"""Textual inversion: a pseudo word that describes an image, from its embedding."""

from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_embeddings, check_integer, check_positive, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distributed import errors_on_all_ranks
from clipreid_kit.modules._cross_rank_batch_norm import CrossRankBatchNorm1d

_OWNER = "TextualInversionMLP"


@fixed_options(not_kept=("token_std", "distributed"))
class TextualInversionMLP(nn.Module):
    r"""Inversion network (PromptSG): an MLP that maps an image embedding to a pseudo token.

    Use it with :class:`PromptComposer` or :func:`insert_pseudo_token`: its output belongs among the
    word embeddings of a prompt, before the text tower. Its width is therefore that of the text
    tower (512 for ViT-B/16 and RN50), whatever the width of the image embeddings.

    .. math:: s_* = \operatorname{BN}\big( W_3\, \sigma( W_2\, \sigma( W_1 v ) ) \big)
        \quad\text{(paper)}, \qquad s_* = W_2\, \sigma( W_1 v ) \quad\text{(basic)}

    with biases, and :math:`\sigma` a ReLU.

    Args:
        in_dim: Width of the image embeddings, at least 1.
        token_dim: Width of the word embeddings, at least 1.
        variant: ``"paper"``: three layers and a BatchNorm; ``"basic"``: two layers, without
            BatchNorm.
        hidden_dim: Width between the layers, at least 1.
        affine: Whether the BatchNorm learns a scale and a shift, which the paper leaves open;
            ``"paper"`` only.
        token_std: Standard deviation of the initial pseudo tokens' entries, above 0; ``"paper"``
            only. 1 is that of a BatchNorm. The words of CLIP have about 0.01 to 0.02, so 1 is a
            very loud word; with a value like theirs the prompt starts as a sentence.
        distributed: Take the mean and the variance of the BatchNorm over the rows of all ranks, as
            :class:`BNNeck` does; ``"paper"`` only.

    Raises:
        ValueError: If a width is below 1 or an option is out of its range; in ``forward``, if the
            embeddings have another width, or for a batch of one row in training mode with
            ``variant="paper"``.

    Example:
        >>> inversion = TextualInversionMLP(in_dim=512, token_dim=512)
        >>> inversion(torch.randn(4, 512)).shape
        torch.Size([4, 512])

    References:
        Yang et al., A Pedestrian is Worth One Prompt (PromptSG), CVPR 2024, section 3.2.
    """

    in_dim: Final[int]
    token_dim: Final[int]
    variant: Final[Literal["paper", "basic"]]
    hidden_dim: Final[int]
    affine: Final[bool]

    def __init__(
        self,
        in_dim: int,
        token_dim: int,
        *,
        variant: Literal["paper", "basic"] = "paper",
        hidden_dim: int = 512,
        affine: bool = True,
        token_std: float = 1.0,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "in_dim", in_dim, 1)
        check_integer(_OWNER, "token_dim", token_dim, 1)
        check_integer(_OWNER, "hidden_dim", hidden_dim, 1)
        check_choice(_OWNER, "variant", variant, ("paper", "basic"))
        check_positive(_OWNER, "token_std", token_std)
        if variant == "basic" and (token_std != 1.0 or not affine or distributed):
            raise ValueError(
                f"{_OWNER}: affine, token_std and distributed are options of the BatchNorm; leave "
                'them out with variant="basic", which has none.'
            )

        self.in_dim = in_dim
        self.token_dim = token_dim
        self.variant = variant
        self.hidden_dim = hidden_dim
        self.affine = affine
        self.layers = _layers(in_dim, hidden_dim, token_dim, variant)

        self.norm: nn.BatchNorm1d | None = None
        self.fixed_std = 1.0
        if variant == "paper":
            if distributed:
                self.norm = CrossRankBatchNorm1d(token_dim, affine=affine, owner=_OWNER)
            else:
                self.norm = nn.BatchNorm1d(token_dim, affine=affine)
            if affine:
                nn.init.constant_(self.norm.weight, token_std)
            else:
                self.fixed_std = token_std

    def forward(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n w"]:
        """Return a pseudo token for each embedding."""
        with errors_on_all_ranks(_OWNER, 1, distributed=self._gathers()):
            self._check_rows(embeddings)

        tokens: Tensor = self.layers(embeddings)
        if self.norm is None:
            return tokens

        # In half precision a normalised token would lose what distinguishes two images.
        with torch.autocast(embeddings.device.type, enabled=False):
            tokens = self.norm(tokens.to(next(self.layers.parameters()).dtype))
        return tokens * self.fixed_std

    def _check_rows(self, embeddings: Tensor) -> None:
        """Raise ValueError for rows of another width, or a single row whose variance is asked."""
        check_embeddings(_OWNER, "embeddings", embeddings)
        if embeddings.shape[1] != self.in_dim:
            raise fail(_OWNER, f"embeddings of width {self.in_dim}", embeddings.shape[1])

        normalises = self.norm is not None and self.training and not self._gathers()
        if normalises and embeddings.shape[0] == 1:
            raise ValueError(
                f"{_OWNER}: training mode needs at least two rows, as one row has no variance; "
                "drop the last batch of one, or call eval() to use the running statistics."
            )

    def _gathers(self) -> bool:
        """Whether the statistics come from several ranks, which may have a single row each."""
        return isinstance(self.norm, CrossRankBatchNorm1d) and self.norm.gathers()

    def extra_repr(self) -> str:
        """Return the option that no submodule shows, for ``print(module)``."""
        return f"variant={self.variant!r}"


def _layers(in_dim: int, hidden_dim: int, token_dim: int, variant: str) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    if variant == "basic":
        return nn.Sequential(
            nn.Linear(in_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, token_dim),
        )
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.ReLU(),
        # The BatchNorm would subtract a bias again, so it would never learn.
        nn.Linear(hidden_dim, token_dim, bias=False),
    )
