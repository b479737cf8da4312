"""Low-rank adapters on the towers, through peft, on layers where they work."""

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_fraction, check_integer, fail
from clipreid_kit.clip.towers.text_forward import runnable_text
from clipreid_kit.clip.tuning.freezing import freeze

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipreid_kit.clip.towers.clip_towers import ClipTowers

_OWNER = "add_lora"
_PARTS = {"attention": "attn", "mlp": "mlp"}


def add_lora(
    towers: "ClipTowers",
    rank: int = 8,
    *,
    alpha: float | None = None,
    dropout: float = 0.0,
    tower: Literal["image", "text"] = "image",
    parts: "Sequence[Literal['attention', 'mlp']]" = ("attention", "mlp"),
    seed: int = 0,
) -> tuple[str, ...]:
    r"""Freeze a tower and train low-rank adapters beside its linear layers instead (LoRA), through peft.

    Use it where memory or data are short, or where one model serves many data sets. Needs the extra ``lora``.

    .. math::
        W' = W + \frac{\alpha}{r} B A

    Args:
        towers: The towers; changed in place, and the same function of their inputs until a step is taken.
        rank: :math:`r`, at least 1.
        alpha: :math:`\alpha`; ``None`` for the rank, a factor of 1.
        dropout: Share of the adapters' inputs that training drops, in [0, 1).
        tower: Which tower.
        parts: Which linear layers of its blocks: those of ``attention`` (query, key, value, output), of the
            ``mlp``, or both.
        seed: Seed of :math:`A`; the global generator is neither read nor changed.

    Returns:
        The names of the layers that have an adapter, as seen from the towers.

    Raises:
        ValueError: If peft is not installed, the tower is no transformer, or it has adapters already.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> layers = add_lora(towers, rank=4)  # doctest: +SKIP
        >>> len(layers)  # six in each of four blocks  # doctest: +SKIP
        24

    References:
        Hu et al., `LoRA: Low-Rank Adaptation of Large Language Models
        <https://arxiv.org/abs/2106.09685>`_, 2021, eq. 3.

    Note:
        torch keeps query, key and value of an attention layer in one matrix that no adapter reaches, and never
        calls its output layer. So the layer is taken apart into four linear ones here, and put together again
        by :func:`merge_lora`. Adapters put on ``out_proj`` of the layer as it is would train nothing.
    """
    check_choice(_OWNER, "tower", tower, ("image", "text"))
    check_integer(_OWNER, "rank", rank, 1)
    for part in parts:
        check_choice(_OWNER, "each of parts", part, tuple(_PARTS))
    check_fraction(_OWNER, "dropout", dropout)
    try:
        import peft
    except ImportError:
        raise fail(
            _OWNER, "peft", "none installed", "Run pip install clipreid_kit[lora]."
        ) from None
    prefix, root = _blocks(towers, tower)
    if any(name.endswith("lora_A") for name, _ in root.named_modules()):
        raise fail(
            _OWNER,
            f"a tower of {tower}s without adapters",
            "one with some",
            "Call merge_lora first.",
        )
    freeze(towers, tower)
    for block in root.modules():
        for name, layer in list(block.named_children()):
            if type(layer) is nn.MultiheadAttention:
                setattr(block, name, SplitAttention(layer))
    wanted = tuple(f".{_PARTS[part]}." for part in parts)
    layers = [
        name
        for name, layer in root.named_modules()
        if isinstance(layer, nn.Linear) and any(part in f".{name}." for part in wanted)
    ]
    if not layers:
        raise fail(_OWNER, "linear layers in the blocks", "none")
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=layers,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(config, root)
    root.train(towers.training)
    return tuple(prefix + name for name in layers)


def merge_lora(towers: "ClipTowers") -> None:
    """Add the adapters to the weights and remove them, so that the towers have open_clip's layers again.

    Use it before the towers are saved, exported or compared; nothing happens where there are no adapters.

    Args:
        towers: The towers; changed in place. The merged weights stay frozen.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> merge_lora(ClipTowers.from_open_clip("reid-tiny-vit"))
    """
    for parent in list(towers.modules()):
        for name, layer in list(parent.named_children()):
            if hasattr(layer, "lora_A") and hasattr(layer, "merge"):
                merging: Any = layer
                merging.merge()
                setattr(parent, name, merging.get_base_layer())
    for parent in list(towers.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, SplitAttention):
                setattr(parent, name, layer.joined())
        if hasattr(parent, "peft_config"):
            del parent.peft_config


class SplitAttention(nn.Module):
    """Self-attention with query, key, value and output as four linear layers, from torch's own layer.

    Args:
        attention: The layer to take apart; batch first, all widths equal, with biases.
    """

    q_proj: Any
    k_proj: Any
    v_proj: Any
    out_proj: Any

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.dropout = attention.num_heads, attention.dropout
        weights: Tensor | None = attention.in_proj_weight
        biases: Tensor | None = attention.in_proj_bias
        width = attention.embed_dim
        if not attention.batch_first or weights is None or biases is None:
            raise fail(
                _OWNER, "attention that is batch first, with biases and one width", repr(attention)
            )
        for index, name in enumerate(("q_proj", "k_proj", "v_proj")):
            rows = slice(index * width, (index + 1) * width)
            setattr(
                self, name, _linear(weights[rows], biases[rows], trainable=weights.requires_grad)
            )
        out = attention.out_proj
        self.out_proj = _linear(out.weight, out.bias, trainable=out.weight.requires_grad)

    def forward(
        self,
        query: Float[Tensor, "n l w"],
        key: Float[Tensor, "n m w"],
        value: Float[Tensor, "n m w"],
        need_weights: bool = False,
        attn_mask: Float[Tensor, "l m"] | None = None,
    ) -> tuple[Float[Tensor, "n l w"], None]:
        """Attend as torch's layer does; ``need_weights`` must be off."""
        if need_weights:
            raise fail("SplitAttention", "need_weights=False", "True")
        parts: Any = (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts
        )
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=attn_mask, dropout_p=rate
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None

    def joined(self) -> nn.MultiheadAttention:
        """Put torch's own layer together again."""
        parts: list[Any] = [self.q_proj, self.k_proj, self.v_proj]
        weight = self.out_proj.weight
        layer = nn.MultiheadAttention(
            weight.shape[0],
            self.num_heads,
            dropout=self.dropout,
            batch_first=True,
            device="meta",
            dtype=weight.dtype,
        )
        trainable = parts[0].weight.requires_grad
        layer.in_proj_weight = nn.Parameter(
            torch.cat([part.weight.detach() for part in parts]), trainable
        )
        layer.in_proj_bias = nn.Parameter(
            torch.cat([part.bias.detach() for part in parts]), trainable
        )
        layer.out_proj.weight, layer.out_proj.bias = self.out_proj.weight, self.out_proj.bias
        return layer.train(self.training)


def _blocks(towers: "ClipTowers", tower: str) -> tuple[str, nn.Module]:
    """Find the module with the blocks of a tower, and its name as a prefix."""
    if tower == "text":
        blocks: Any = runnable_text(_OWNER, towers.model).parts.transformer
    elif isinstance(towers.model.visual, ModifiedResNet):
        blocks = None
    else:
        visual = towers.model.visual
        blocks = getattr(
            visual, "transformer", getattr(getattr(visual, "trunk", None), "blocks", None)
        )
    if not isinstance(blocks, nn.Module):
        raise fail(_OWNER, "a tower of transformer blocks", type(towers.model.visual).__name__)
    name = next(name for name, module in towers.named_modules() if module is blocks)
    return f"{name}.", blocks


def _linear(weight: Tensor, bias: Tensor, *, trainable: bool) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=trainable)
    layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=trainable)
    return layer
