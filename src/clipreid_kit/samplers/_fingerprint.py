"""What a sampler's state belongs to: its options and its data."""

import zlib
from collections.abc import Mapping

from clipreid_kit._checks import fail
from clipreid_kit.samplers._rows_by_identity import RowsByIdentity


def data_checksum(rows: RowsByIdentity) -> int:
    """Checksum of the identity and the camera of every row."""
    checksum = 0
    for array in (rows.rows, rows.labels, rows.first, rows.count, rows.camera_of_row):
        if array is not None:
            checksum = zlib.crc32(array.tobytes(), checksum)
    return checksum


def check_state(owner: str, state: object, settings: Mapping[str, object], position: str) -> None:
    """Require the state of a sampler with the same settings.

    States of version 0.1 have no settings, and are not compared.

    Args:
        owner: Name for error texts.
        state: The state to load.
        settings: Settings of the sampler that loads it.
        position: Names of the entries that say where the sampler was.
    """
    if not isinstance(state, Mapping) or not set(position.split()) <= state.keys():
        raise fail(owner, f"a state with {position.replace(' ', ', ')}", _names(state))

    for name, value in settings.items():
        if name in state and state[name] != value:
            raise ValueError(
                f"{owner}: the state is of a sampler with {name}={state[name]!r}, and this one has "
                f"{name}={value!r}, so its batches are others. Build the sampler as it was, or "
                "begin an epoch anew with set_epoch."
            )


def _names(state: object) -> str:
    return ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
