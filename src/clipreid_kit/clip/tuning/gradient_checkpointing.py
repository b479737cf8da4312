"""Blocks whose activations are computed again in the backward pass instead of being kept."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from clipreid_kit._checks import check_choice, fail

if TYPE_CHECKING:
    from clipreid_kit.clip.towers.clip_towers import ClipTowers


def set_gradient_checkpointing(
    towers: "ClipTowers", tower: Literal["both", "image", "text"] = "both", *, enabled: bool = True
) -> None:
    """Let towers forget the activations inside their blocks and compute them again in the backward pass.

    Use it where memory runs out: about a third more time for a fraction of the memory. Values, gradients and
    the running statistics of BatchNorm are those of a plain pass.

    Args:
        towers: The towers; changed in place.
        tower: Which of them.
        enabled: Whether to, or to stop doing so.

    Raises:
        ValueError: If the tower cannot, or there is no such tower.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> set_gradient_checkpointing(ClipTowers.from_open_clip("reid-tiny-resnet"), "image")

    Note:
        open_clip leaves ResNets as they are without a word; here their stages are checkpointed.
    """
    owner = "set_gradient_checkpointing"
    check_choice(owner, "tower", tower, ("both", "image", "text"))
    model = towers.model
    text: Any = getattr(model, "text", model)
    if tower != "text":
        visual = model.visual
        trunk = getattr(visual, "trunk", None)
        if isinstance(visual, ModifiedResNet):
            setattr(visual, _FLAG, enabled)
        elif trunk is not None and not hasattr(trunk, "set_grad_checkpointing"):
            raise fail(owner, "an image tower that can forget activations", type(trunk).__name__)
        else:
            visual.set_grad_checkpointing(enabled)
    if tower != "image":
        if hasattr(text, "transformer") and hasattr(text.transformer, _FLAG):
            setattr(text.transformer, _FLAG, enabled)
        else:
            text.set_grad_checkpointing(enabled)


_FLAG = "grad_checkpointing"


def run_block(
    block: Callable[[Tensor], Tensor], x: Tensor, checkpointed: bool, owner: nn.Module | None = None
) -> Tensor:
    """Run a block, and forget its activations where that is asked for.

    Args:
        block: What to run.
        x: Its input.
        checkpointed: Whether to compute its activations again in the backward pass.
        owner: A module around the block whose BatchNorms must not count a batch twice; ``None`` if it has none.

    Returns:
        Its output; values, gradients and running statistics are those of a plain call.
    """
    if not checkpointed:
        return block(x)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), nullcontext() if owner is None else _statistics_kept(owner)

    out: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return out


@contextmanager
def _statistics_kept(owner: nn.Module) -> Iterator[None]:
    norms = [
        module
        for module in owner.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
