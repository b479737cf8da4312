"""Textual inversion: from the embedding of an image to a pseudo word that describes it."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_embeddings, check_integer, check_positive, fail


class TextualInversionMLP(nn.Module):
    r"""Inversion network (PromptSG): turns an image embedding into a pseudo token; holds an MLP and a BatchNorm.

    Its output belongs into the word embeddings of a prompt, before the text tower, and nowhere else: see
    :func:`insert_pseudo_token`. So its width is the text tower's (512 for ViT-B/16 and RN50), whatever the image's is.

    .. math:: s_* = \operatorname{BN}\big( W_3\, \sigma( W_2\, \sigma( W_1 v ) ) \big)
        \quad\text{(paper)}, \qquad s_* = W_2\, \sigma( W_1 v ) \quad\text{(basic)}

    with biases, and :math:`\sigma` a ReLU.

    Args:
        in_dim: Width of the image embeddings.
        token_dim: Width of the word embeddings.
        form: ``"paper"``: three layers and a BatchNorm; ``"basic"``: two layers and none.
        hidden_dim: Width between the layers.
        affine: Whether the BatchNorm learns a scale and a shift, which the paper leaves open; ``"paper"`` only.
        token_std: Standard deviation of the first pseudo tokens' entries, above 0; ``"paper"`` only. 1 is a
            BatchNorm's own. CLIP's words have about 0.01 to 0.02, so 1 is a very loud word; a value like theirs starts
            the prompt as a sentence.

    Raises:
        ValueError: If a width is below 1 or an option is out of its range; in ``forward``, if the embeddings have
            another width, or if a single row comes in training mode with ``form="paper"``.

    Example:
        >>> inversion = TextualInversionMLP(in_dim=512, token_dim=512)
        >>> inversion(torch.randn(4, 512)).shape
        torch.Size([4, 512])

    References:
        Yang et al., A Pedestrian is Worth One Prompt (PromptSG), CVPR 2024, section 3.2.
    """

    def __init__(
        self,
        in_dim: int,
        token_dim: int,
        *,
        form: Literal["paper", "basic"] = "paper",
        hidden_dim: int = 512,
        affine: bool = True,
        token_std: float = 1.0,
    ) -> None:
        super().__init__()
        owner = "TextualInversionMLP"
        for name, value in {
            "in_dim": in_dim,
            "token_dim": token_dim,
            "hidden_dim": hidden_dim,
        }.items():
            check_integer(owner, name, value, 1)
        check_choice(owner, "form", form, ("paper", "basic"))
        check_positive(owner, "token_std", token_std)
        if form == "basic" and (token_std != 1.0 or not affine):
            raise fail(
                owner,
                'affine and token_std with form="paper" only',
                f"affine={affine}, token_std={token_std}",
            )
        self.in_dim = in_dim
        self.form = form
        layers: list[nn.Module] = [nn.Linear(in_dim, hidden_dim), nn.ReLU()]
        if form == "paper":
            layers += [nn.Linear(hidden_dim, hidden_dim), nn.ReLU()]
        # a bias before a BatchNorm is taken off again by it, and would never learn
        self.layers = nn.Sequential(*layers, nn.Linear(hidden_dim, token_dim, bias=form == "basic"))
        self.norm = nn.BatchNorm1d(token_dim, affine=affine) if form == "paper" else None
        self.fixed_std = 1.0 if affine else token_std
        if self.norm is not None and affine:
            nn.init.constant_(self.norm.weight, token_std)

    def forward(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n w"]:
        """Pseudo tokens, one for each embedding."""
        check_embeddings("TextualInversionMLP", "embeddings", embeddings)
        if embeddings.shape[1] != self.in_dim:
            raise fail(
                "TextualInversionMLP", f"embeddings of width {self.in_dim}", embeddings.shape[1]
            )
        tokens: Tensor = self.layers(embeddings)
        if self.norm is None:
            return tokens
        if self.training and embeddings.shape[0] == 1:
            raise fail(
                "TextualInversionMLP",
                "at least two rows in training mode",
                "one",
                "Drop the last batch of one, or call eval() to use the BatchNorm's running statistics.",
            )
        # a normalised token in half precision would lose what tells two images apart
        with torch.autocast(embeddings.device.type, enabled=False):
            tokens = self.norm(tokens.to(next(self.layers.parameters()).dtype))
        return tokens * self.fixed_std

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"form={self.form!r}"
