"""Fingerprint of a sampler's options and data, to which its state belongs."""

import zlib
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from clipreid_kit._checks import fail
from clipreid_kit.samplers._integers import SLICE, Positions
from clipreid_kit.samplers._rows_by_identity import RowsByIdentity


def data_checksum(rows: RowsByIdentity, start: int = 0) -> int:
    """Checksum of the identity and the camera of every row.

    Args:
        rows: The rows.
        start: Number that tells apart samplers whose batches of the same data and options differ.
    """
    columns = (rows.rows, rows.labels, rows.first, rows.count, rows.camera_of_row)
    return checksum_of([column for column in columns if column is not None], start)


def checksum_of(columns: Iterable[Positions], start: int = 0) -> int:
    """Checksum of columns of integers."""
    checksum = start
    for array in columns:
        for begin in range(0, len(array), SLICE):
            block = array[begin : begin + SLICE].astype(np.int64, copy=False)
            checksum = zlib.crc32(block.tobytes(), checksum)
    return checksum


def check_state(
    owner: str, state: object, settings: Mapping[str, object], entries: Collection[str]
) -> None:
    """Require the state of a sampler with the same settings.

    States of version 0.1 have no settings, and are not compared.

    Args:
        owner: Name for error texts.
        state: The state to load.
        settings: Settings of the sampler that loads it.
        entries: Names of the entries that say where the sampler was.
    """
    if not isinstance(state, Mapping) or not set(entries) <= state.keys():
        raise fail(owner, f"a state with {', '.join(entries)}", _names(state))

    for name, value in settings.items():
        if name in state and state[name] != value:
            raise ValueError(
                f"{owner}: the state is of a sampler with {name}={state[name]!r}, and this one has "
                f"{name}={value!r}, so its batches are others. Build the sampler as it was, or "
                "begin an epoch anew with set_epoch."
            )


def _names(state: object) -> str:
    return ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
