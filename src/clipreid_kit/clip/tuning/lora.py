"""Low-rank adapters (LoRA) on the towers, through peft, on layers that they can reach."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_choice,
    check_fraction,
    check_integer,
    check_number,
    check_seed,
    fail,
)
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.towers.geometry import OpenClip
from clipreid_kit.clip.towers.text_forward import require_text_tower
from clipreid_kit.clip.tuning.freezing import freeze

_OWNER = "add_lora"
_PARTS = {"attention": "attn", "mlp": "mlp"}
_INPUTS = ("q_proj", "k_proj", "v_proj")


def add_lora(
    towers: ClipTowers,
    rank: int = 8,
    *,
    alpha: float | None = None,
    dropout: float = 0.0,
    tower: Literal["image", "text"] = "image",
    parts: Sequence[Literal["attention", "mlp"]] = ("attention", "mlp"),
    seed: int = 0,
) -> tuple[str, ...]:
    r"""Freeze a tower and train low-rank adapters (LoRA) beside its linear layers, through peft.

    Use it if memory or data are scarce, or if one model serves many data sets. Needs the extra
    ``lora``.

    .. math::
        W' = W + \frac{\alpha}{r} B A

    Args:
        towers: The towers; changed in place. Their outputs are unchanged until the first step.
        rank: :math:`r`, at least 1.
        alpha: :math:`\alpha`. ``None`` for the rank, a factor of 1.
        dropout: Dropout rate of the adapters' inputs in training mode, in [0, 1).
        tower: The tower to adapt.
        parts: Linear layers of its blocks to adapt: those of ``attention`` (query, key, value,
            output), of the ``mlp``, or both.
        seed: Seed of :math:`A`, at least 0; the global generator is neither read nor changed.

    Returns:
        The names of the adapted layers, as seen from the towers.

    Raises:
        ValueError: If peft is not installed, the tower is no transformer or has adapters already,
            or an option is out of range.

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
        torch keeps query, key and value of an attention layer in one matrix that no adapter
        reaches, and never calls its output layer: an adapter on ``out_proj`` would train nothing.
        So the layer is split into four linear ones here, and joined again by :func:`merge_lora`.
    """
    check_towers(_OWNER, towers)
    check_choice(_OWNER, "tower", tower, ("image", "text"))
    check_integer(_OWNER, "rank", rank, 1)
    check_fraction(_OWNER, "dropout", dropout)
    check_seed(_OWNER, seed)
    for part in parts:
        check_choice(_OWNER, "each of parts", part, tuple(_PARTS))

    if alpha is None:
        alpha = rank
    check_number(_OWNER, "alpha", alpha)

    try:
        import peft
    except ImportError:
        raise ValueError(
            f"{_OWNER}: peft is not installed. Run pip install clipreid_kit[lora]."
        ) from None

    prefix, blocks = _blocks(towers, tower)
    if any(name.endswith("lora_A") for name, _ in blocks.named_modules()):
        raise ValueError(
            f"{_OWNER}: The {tower} tower has adapters already. Call merge_lora first."
        )

    freeze(towers, tower)
    _split_attention(blocks)
    layers = _linear_layers(blocks, parts)
    if not layers:
        raise fail(_OWNER, "linear layers in the blocks", "none")

    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=layers)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(config, blocks)

    blocks.train(towers.training)
    settings = {"rank": rank, "alpha": alpha, "dropout": dropout, "parts": list(parts)}
    towers.adapters[tower] = settings
    return tuple(prefix + name for name in layers)


def merge_lora(towers: ClipTowers) -> None:
    """Add the adapters to the weights and remove them, which restores open_clip's layers.

    Use it before the towers are exported to another program or compared. Towers without adapters
    are unchanged.

    Args:
        towers: The towers; changed in place. The merged weights stay frozen.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> merge_lora(ClipTowers.from_open_clip("reid-tiny-vit"))
    """
    check_towers("merge_lora", towers)
    for parent in list(towers.modules()):
        for name, layer in list(parent.named_children()):
            if hasattr(layer, "lora_A") and hasattr(layer, "merge"):
                adapted: Any = layer
                adapted.merge()
                setattr(parent, name, adapted.get_base_layer())

    for parent in list(towers.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, SplitAttention):
                setattr(parent, name, layer.joined())
        if hasattr(parent, "peft_config"):
            del parent.peft_config
    towers.adapters.clear()


def to_adapted_layout(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a model without adapters to the names that a model with them has.

    Args:
        model: The model with adapters.
        state: Weights of the same model without adapters, under its names.

    Returns:
        The weights; the factors of the adapters are not among them.
    """
    adapted = dict(state)
    for name, module in model.named_modules():
        if isinstance(module, SplitAttention):
            for kind in ("weight", "bias"):
                packed = adapted.pop(f"{name}.in_proj_{kind}", None)
                if packed is not None:
                    parts = zip(_INPUTS, packed.chunk(3), strict=True)
                    adapted |= {f"{name}.{part}.{kind}": rows for part, rows in parts}

    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            for kind in ("weight", "bias"):
                if f"{name}.{kind}" in adapted:
                    adapted[f"{name}.base_layer.{kind}"] = adapted.pop(f"{name}.{kind}")
    return adapted


class SplitAttention(nn.Module):
    """Attention with separate linear layers for query, key, value and output.

    Args:
        attention: The layer to split; batch first, with equal widths and with biases.
    """

    q_proj: Any
    k_proj: Any
    v_proj: Any
    out_proj: Any

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        weights: Tensor | None = attention.in_proj_weight
        biases: Tensor | None = attention.in_proj_bias
        if not attention.batch_first or weights is None or biases is None:
            raise fail(
                _OWNER, "attention that is batch first, with biases and one width", repr(attention)
            )

        self.num_heads = attention.num_heads
        self.dropout = attention.dropout

        width = attention.embed_dim
        for index, name in enumerate(_INPUTS):
            rows = slice(index * width, (index + 1) * width)
            layer = _linear(weights[rows], biases[rows], trainable=weights.requires_grad)
            setattr(self, name, layer)

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
        """Attend as torch's layer does; ``need_weights`` must be false."""
        if need_weights:
            raise fail("SplitAttention", "need_weights=False", "True")

        mixed = F.scaled_dot_product_attention(
            self._by_head(self.q_proj(query)),
            self._by_head(self.k_proj(key)),
            self._by_head(self.v_proj(value)),
            attn_mask=attn_mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None

    def joined(self) -> nn.MultiheadAttention:
        """Return torch's own layer with the weights of the four."""
        inputs: list[Any] = [self.q_proj, self.k_proj, self.v_proj]
        weight = self.out_proj.weight
        layer = nn.MultiheadAttention(
            weight.shape[0],
            self.num_heads,
            dropout=self.dropout,
            batch_first=True,
            device="meta",
            dtype=weight.dtype,
        )

        trainable = inputs[0].weight.requires_grad
        weights = torch.cat([part.weight.detach() for part in inputs])
        biases = torch.cat([part.bias.detach() for part in inputs])
        layer.in_proj_weight = nn.Parameter(weights, trainable)
        layer.in_proj_bias = nn.Parameter(biases, trainable)
        layer.out_proj.weight = self.out_proj.weight
        layer.out_proj.bias = self.out_proj.bias
        return layer.train(self.training)

    def extra_repr(self) -> str:
        """Show the number of heads and the dropout rate."""
        return f"num_heads={self.num_heads}, dropout={self.dropout}"

    def _by_head(self, projected: Tensor) -> Tensor:
        num_rows, length, _ = projected.shape
        return projected.view(num_rows, length, self.num_heads, -1).transpose(1, 2)


def _blocks(towers: ClipTowers, tower: str) -> tuple[str, nn.Module]:
    """Return the module that holds the blocks of a tower, and its name as a prefix."""
    blocks = _text_blocks(towers) if tower == "text" else _image_blocks(towers.model.visual)
    if not isinstance(blocks, nn.Module):
        raise fail(_OWNER, "a tower of transformer blocks", type(towers.model.visual).__name__)

    name = next(name for name, module in towers.named_modules() if module is blocks)
    return f"{name}.", blocks


def _text_blocks(towers: ClipTowers) -> OpenClip:
    return require_text_tower(_OWNER, towers.model).parts.transformer


def _image_blocks(visual: nn.Module) -> OpenClip | None:
    if isinstance(visual, ModifiedResNet):
        return None

    trunk = getattr(visual, "trunk", None)
    return getattr(visual, "transformer", getattr(trunk, "blocks", None))


def _split_attention(blocks: nn.Module) -> None:
    """Replace every attention layer of torch by one with separate linear layers."""
    for block in blocks.modules():
        for name, layer in list(block.named_children()):
            if type(layer) is nn.MultiheadAttention:
                setattr(block, name, SplitAttention(layer))


def _linear_layers(blocks: nn.Module, parts: Sequence[str]) -> list[str]:
    """Names of the linear layers inside the wanted parts of the blocks."""
    wanted = [f".{_PARTS[part]}." for part in parts]
    layers = []
    for name, layer in blocks.named_modules():
        inside = any(part in f".{name}." for part in wanted)
        if inside and isinstance(layer, nn.Linear):
            layers.append(name)
    return layers


def _linear(weight: Tensor, bias: Tensor, *, trainable: bool) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=trainable)
    layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=trainable)
    return layer
