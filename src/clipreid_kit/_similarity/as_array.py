"""Convert an argument to a numpy array without losing values."""

from typing import Any

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import fail


def as_array(owner: str, name: str, values: object) -> npt.NDArray[Any]:
    """Return ``values`` as an array, and refuse masks and rows of unequal length."""
    is_plain = type(values) is np.ndarray  # then numpy.ma need not be imported
    if not is_plain and np.ma.isMaskedArray(values) and np.ma.is_masked(values):
        num_masked = int(np.ma.getmaskarray(values).sum())
        raise fail(
            owner, f"{name} without a mask", f"{num_masked} masked values", "Leave them out."
        )

    try:
        return np.asarray(values)
    except ValueError:
        raise fail(owner, f"{name} as an array", "rows of unequal length") from None
