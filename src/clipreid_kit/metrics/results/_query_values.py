"""Values of queries, as vectors of float64."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit._similarity.as_array import as_array


def read_values(
    owner: str, name: str, values: Tensor | npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Return one value of each query as a float64 vector, without infinities; NaN may be there."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()

    array = as_array(owner, name, values)
    if array.dtype.kind not in "fiub":
        raise fail(owner, f"{name} as numbers", array.dtype)
    if array.ndim != 1:
        raise fail(owner, f"{name} as a vector, one for each query", f"shape {array.shape}")
    if np.isinf(array).any():
        raise ValueError(f"{owner}: {name} hold infinity; use NaN for queries that do not count.")
    return array.astype(np.float64)
