"""Named loss terms of a method: checks of its weights and losses, and their construction."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_label_range, check_labels, fail
from clipreid_kit.clip.methods.identity_branch import IdentityBranch
from clipreid_kit.losses.weighted_sum import Weight

DESCRIPTORS = ("pre_neck", "post_neck")


def check_method_options(
    owner: str,
    *,
    weights: Mapping[str, Weight],
    losses: Mapping[str, nn.Module] | None,
    known_terms: Collection[str],
    descriptor: str,
) -> None:
    """Check the options that all methods share.

    Raises:
        ValueError: If a weight or a loss has an unknown name, a loss has no weight or is no module,
            or the descriptor is unknown.
    """
    check_choice(owner, "descriptor", descriptor, DESCRIPTORS)

    for name in weights:
        if name not in known_terms:
            raise ValueError(
                f"{owner}: unknown term {name!r} in weights; it has {', '.join(known_terms)}."
            )

    for name, loss in (losses or {}).items():
        if name in ("id", "id_text"):
            raise ValueError(
                f"{owner}: the identity loss is made by `identity`, not by losses[{name!r}]."
            )
        if name not in known_terms:
            raise ValueError(
                f"{owner}: unknown term {name!r} in losses; it has {', '.join(known_terms)}."
            )
        if name not in weights:
            raise ValueError(
                f"{owner}: the loss {name!r} has no weight, so it would do nothing; "
                f"add {name!r} to weights."
            )
        if not isinstance(loss, nn.Module):
            raise fail(owner, f"losses[{name!r}] as a module", type(loss).__name__)


def check_neck(owner: str, descriptor: str, branches: Sequence[IdentityBranch | None]) -> None:
    """Check that a descriptor after the neck has a neck."""
    if descriptor == "post_neck" and any(
        branch is None or branch.neck is None for branch in branches
    ):
        raise ValueError(
            f'{owner}: descriptor="post_neck" needs an identity branch with a neck; '
            'use descriptor="pre_neck", or build the neck.'
        )


def card_of(
    kind: str,
    descriptor: str,
    branches: Iterable[nn.Module | None],
    own_modules: Mapping[str, tuple[object, type[nn.Module]]],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe how a method is built, as far as its descriptor needs it, in JSON's types.

    Args:
        kind: Name of the method's class.
        descriptor: Level of the descriptor.
        branches: Its identity branches, in the order in which they are built.
        own_modules: Other parts by name, each with the class whose options the card describes.
        options: Further entries of the card.

    Returns:
        The card, which :func:`build_method` builds the method from. Parts of other classes are
        named in it, as they cannot be described.
    """
    built = [branch for branch in branches if branch is not None]
    foreign = ["identity" for branch in built if type(branch) is not IdentityBranch]
    for name, (module, known) in own_modules.items():
        if module is not None and type(module) is not known:
            foreign.append(name)

    return {
        "version": 1,
        "kind": kind,
        "descriptor": descriptor,
        "necks": [_neck_card(branch) for branch in built if isinstance(branch, IdentityBranch)],
        "own_modules": list(dict.fromkeys(foreign)),
        **options,
    }


def _neck_card(branch: IdentityBranch) -> dict[str, Any]:
    """Describe the neck of an identity branch."""
    neck = branch.neck
    is_reduced = neck is not None and isinstance(neck.reduction, nn.Linear)
    return {
        "use_neck": neck is not None,
        "reduced_dim": neck.out_dim if neck is not None and is_reduced else None,
    }


def build_losses(
    weights: Mapping[str, Weight],
    given: Mapping[str, nn.Module] | None,
    defaults: Mapping[str, Callable[[], nn.Module]],
) -> nn.ModuleDict:
    """Collect the loss of each weighted term: the given one, or else its default.

    Args:
        weights: Weight of each term in use.
        given: Losses by term, each of a term in use.
        defaults: Builds the default loss of each term. The losses are built in this order, which
            fixes the order of their random numbers and parameters.

    Returns:
        The losses by term.
    """
    given = given or {}
    losses = nn.ModuleDict()

    for name, build_default in defaults.items():
        if name in weights:
            losses[name] = given[name] if name in given else build_default()

    return losses


def check_identity_labels(owner: str, labels: Tensor, num_rows: int, num_identities: int) -> None:
    """Check that there is one label per row, in [0, num_identities)."""
    check_labels(owner, "labels", labels, num_rows)
    check_label_range(owner, labels, num_identities)
