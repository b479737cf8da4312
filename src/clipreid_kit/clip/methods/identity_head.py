"""What ClipBaseline, ClipReID and PromptSG share: a plain identity classifier, its loss, and checks of named terms."""

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_fraction, check_integer, check_labels, fail
from clipreid_kit.distances import at_least_float32
from clipreid_kit.distributed import gather
from clipreid_kit.losses.weighted_sum import Weight

Head = Callable[[int, int], nn.Module]


class IdentityClassifier(nn.Module):
    """Linear classifier over identities without a bias, for the side of a BNNeck that is normalised; holds its weight.

    It is called like :class:`ArcFaceHead`, so that either can be the ``head`` of :class:`ClipBaseline`,
    :class:`ClipReID` and :class:`PromptSG`.

    Args:
        dim: Width of the embeddings.
        num_identities: Number of identities C.
        std: Standard deviation of the first weights, at least 0; 0.001 in CLIP-ReID and the strong baselines.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> IdentityClassifier(8, 100)(torch.randn(4, 8)).shape
        torch.Size([4, 100])
    """

    def __init__(self, dim: int, num_identities: int, std: float = 0.001) -> None:
        super().__init__()
        check_integer("IdentityClassifier", "dim", dim, 1)
        check_integer("IdentityClassifier", "num_identities", num_identities, 1)
        self.weight = nn.Parameter(torch.randn(num_identities, dim) * std)

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"] | None = None
    ) -> Tensor:
        """Logits (N, C); the labels, which a head with a margin needs, change nothing."""
        del labels
        return F.linear(embeddings, self.weight)

    def extra_repr(self) -> str:
        """Sizes, for ``print(module)``."""
        return f"dim={self.weight.shape[1]}, num_identities={self.weight.shape[0]}"


def smoothed_cross_entropy(
    logits: Float[Tensor, "n c"],
    labels: Integer[Tensor, " n"],
    label_smoothing: float,
    *,
    distributed: bool,
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the rows (of all ranks), in float32; 0, connected to the graph, for no rows."""
    with torch.autocast(logits.device.type, enabled=False):
        losses = F.cross_entropy(
            at_least_float32(logits),
            labels.long(),
            reduction="none",
            label_smoothing=label_smoothing,
        )
    losses = gather(losses) if distributed else losses
    return losses.sum() / max(losses.shape[0], 1)


def check_identities(owner: str, labels: Tensor, rows: int, num_identities: int) -> None:
    """Require labels in [0, num_identities), where looking at them costs no wait."""
    check_labels(owner, "labels", labels, rows)
    if torch.compiler.is_compiling() or labels.device.type != "cpu" or rows == 0:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_identities:
        remedy = "Number the training identities from 0."
        raise fail(
            owner, f"labels in [0, {num_identities})", f"labels from {low} to {high}", remedy
        )


def check_smoothing(owner: str, label_smoothing: float) -> None:
    """Require a number in [0, 1)."""
    check_fraction(owner, "label_smoothing", label_smoothing)


def check_terms(owner: str, weights: Mapping[str, Weight], known: Iterable[str]) -> None:
    """Require names of terms that exist."""
    known = tuple(known)
    for name in weights:
        if name not in known:
            raise fail(owner, f"weights of {', '.join(known)}", repr(name))


def chosen(
    owner: str,
    name: str,
    weights: Mapping[str, Weight],
    given: nn.Module | None,
    default: Callable[[], nn.Module],
    *,
    terms: tuple[str, ...] = (),
) -> nn.Module | None:
    """The loss of a term, or of several: the given one or a new one; ``None`` where no term has a weight."""
    terms = terms or (name,)
    if any(term in weights for term in terms):
        return default() if given is None else given
    if given is not None:
        wanted = " or ".join(repr(term) for term in terms)
        raise fail(
            owner,
            f"a weight for {wanted}",
            "its loss alone",
            "A loss without a weight would do nothing.",
        )
    return None
