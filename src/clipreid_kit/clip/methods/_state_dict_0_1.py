"""Conversion of state dicts that version 0.1 saved."""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

# In version 0.1 the necks, classifiers and losses were attributes of the method itself.
_BRANCH = re.compile(r"^(neck|classifier)\.")
_BRANCHES = re.compile(r"^(neck|classifier)s\.(\d+)\.")

# One loss of version 0.1 served all of these terms.
_TERMS_OF_LOSS = {
    "arcface": ("arcface",),
    "center": ("center",),
    "hard_negative": ("hard_negative",),
    "image_to_text": ("image_to_text",),
    "info_nce": ("info_nce",),
    "prototype": ("prototype",),
    "supcon": ("supcon", "supcon_image", "supcon_text"),
    "triplet": ("triplet", "triplet_text"),
}


def rename_from_0_1(state: Mapping[str, Tensor], terms: Collection[str]) -> dict[str, Tensor]:
    """Rename the tensors of a method's state dict from version 0.1 to the present names.

    Args:
        state: A state dict of version 0.1, or of the present version, whose names stay.
        terms: The loss terms of the method that the weights are for.

    Returns:
        The tensors by their present names. A tensor of a loss that this method lacks gets the name
        it would have, so that it is reported as unexpected.
    """
    renamed: dict[str, Tensor] = {}

    for name, tensor in state.items():
        owner, _, rest = name.partition(".")

        if owner in _TERMS_OF_LOSS:
            in_use = [term for term in _TERMS_OF_LOSS[owner] if term in terms]
            for term in in_use or [owner]:
                renamed[f"losses.{term}.{rest}"] = tensor
        else:
            present = _BRANCH.sub(r"identity_branch.\1.", name)
            present = _BRANCHES.sub(r"identity_branches.\2.\1.", present)
            renamed[present] = tensor

    return renamed
