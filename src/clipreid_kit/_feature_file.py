"""Saved embeddings and ids: arrays of a file, under the names that other projects use."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipreid_kit._read_files import describe_error, load_array, map_array, open_archive, open_file

Array = npt.NDArray[Any]

ALIASES: dict[str, tuple[str, ...]] = {
    "query_embeddings": (
        "query_features",
        "query_feats",
        "query_feat",
        "query_f",
        "q_embeddings",
        "q_features",
        "qf",
    ),
    "gallery_embeddings": (
        "gallery_features",
        "gallery_feats",
        "gallery_feat",
        "gallery_f",
        "g_embeddings",
        "g_features",
        "gf",
    ),
    "query_ids": (
        "query_labels",
        "query_label",
        "query_pids",
        "query_pid",
        "q_pids",
        "q_pid",
        "q_ids",
        "q_labels",
    ),
    "gallery_ids": (
        "gallery_labels",
        "gallery_label",
        "gallery_pids",
        "gallery_pid",
        "g_pids",
        "g_pid",
        "g_ids",
        "g_labels",
    ),
    "query_cameras": (
        "query_camids",
        "query_camid",
        "query_cams",
        "query_cam",
        "q_camids",
        "q_camid",
        "q_cameras",
    ),
    "gallery_cameras": (
        "gallery_camids",
        "gallery_camid",
        "gallery_cams",
        "gallery_cam",
        "g_camids",
        "g_camid",
        "g_cameras",
    ),
    "query_tracklets": ("q_tracklets", "query_tracks"),
    "gallery_tracklets": ("g_tracklets", "gallery_tracks"),
    "embeddings": ("features", "feats", "feat"),
    "ids": ("labels", "label", "pids", "pid", "targets"),
    "cameras": ("camids", "camid", "cams", "cam"),
    "distractor_embeddings": ("distractor_features", "distractor_feats"),
    "distractor_ids": ("distractor_labels", "distractor_pids"),
    "text_embeddings": ("text_features", "text_feats", "caption_embeddings"),
    "text_ids": ("text_labels", "text_pids", "caption_ids"),
}


class FeatureFile:
    """Arrays by name, from a ``.npz`` file and from single ``.npy`` files, which are memory-mapped.

    Args:
        path: The ``.npz`` file.
        keys: Names of arrays in the file, by the name they are requested under.
        files: ``.npy`` files, by the name they are requested under.

    Raises:
        ValueError: With a message of one line, if a file is missing, broken or of another format.
    """

    def __init__(self, path: Path, keys: Mapping[str, str], files: Mapping[str, Path]) -> None:
        self.path = path
        self.keys = dict(keys)
        self.files = dict(files)

        if not _is_archive(path):
            raise ValueError(
                f"{path}: this is a single array (.npy), but a .npz file with named arrays is "
                "needed. Pass .npy files by --query-embeddings and --gallery-embeddings, beside a "
                ".npz file with ids."
            )
        try:
            with open_archive(path) as archive:
                self.names = [name.removesuffix(".npy") for name in archive.namelist()]
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path}: broken ({error}). Was the file written completely?"
            ) from None

        if any(name.endswith("/data.pkl") for name in self.names):
            raise ValueError(
                f"{path}: this is a file of torch.save. Save the arrays by numpy.savez: "
                "numpy.savez(path, **{name: tensor.numpy() for name, tensor in saved.items()})."
            )

        for name, key in self.keys.items():
            if key not in self.names:
                raise ValueError(f"{path}: no array {key!r} for {name}; {self._list_names()}")

    def has(self, name: str) -> bool:
        """Return whether the array exists, under any of its names."""
        return name in self.files or self._find_key(name) is not None

    def get(self, name: str) -> Array:
        """Return an array.

        Raises:
            ValueError: With a message of one line, if it does not exist or cannot be read.
        """
        if name in self.files:
            return _map_file(self.files[name], name)

        key = self._find_key(name)
        if key is None:
            aliases = ", ".join(ALIASES.get(name, ()))
            also = f" (nor {aliases})" if aliases else ""
            raise ValueError(
                f"{self.path}: no array {name!r}{also}; {self._list_names()} "
                f"Pass --key {name}=ITS_NAME."
            )

        try:
            return load_array(self.path, key)
        except (OSError, ValueError) as error:
            raise _unreadable_error(self.path, key, error) from None

    def column(self, name: str) -> Array:
        """Return ids: integers or names, one for each row."""
        array = self.get(name)
        if array.ndim == 2 and 1 in array.shape:  # MATLAB saves vectors as matrices
            array = array.ravel()
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8")
        if array.dtype.kind == "f" and array.size:
            return self._floats_to_integers(name, array)
        return array

    def _floats_to_integers(self, name: str, array: Array) -> Array:
        """Convert floats without a fraction, which MATLAB saves, to integers."""
        is_whole = (np.abs(array) < 2.0**53) & (array == np.floor(array))
        if not is_whole.all():
            row = int(np.flatnonzero(~is_whole.ravel())[0])
            got = f"{array.ravel()[row]} in row {row}"
            raise ValueError(f"{self.path}: {name} have to be integers or names, got {got}.")
        return array.astype(np.int64)

    def _find_key(self, name: str) -> str | None:
        """Return the name of an array in the file; ``None`` if it has none."""
        if name in self.keys:
            return self.keys[name]

        found = [key for key in (name, *ALIASES.get(name, ())) if key in self.names]
        if len(found) > 1 and found[0] != name:
            raise ValueError(
                f"{self.path}: {' and '.join(found)} may all be {name}. "
                f"Pass --key {name}={found[0]}."
            )
        return found[0] if found else None

    def _list_names(self) -> str:
        return f"it has: {', '.join(self.names) or 'nothing'}."


def _is_archive(path: Path) -> bool:
    """Return whether a file is .npz and not .npy; raise ValueError if it is neither."""
    try:
        with open_file(path) as stream:
            start = stream.read(6)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: this is a folder, not a file.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {describe_error(error)}.") from None

    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")):
        raise ValueError(f"{path}: neither .npz nor .npy. Save it by numpy.savez.")
    return start.startswith(b"PK")


def _map_file(path: Path, name: str) -> Array:
    """Return the array of a .npy file, memory-mapped."""
    if _is_archive(path):
        raise ValueError(
            f"{path}: this is a .npz file, but a single array (.npy) is needed for {name}."
        )
    try:
        return map_array(path)
    except (OSError, ValueError) as error:
        raise _unreadable_error(path, path.name, error) from None


def _unreadable_error(path: Path, key: str, error: Exception) -> ValueError:
    if "allow_pickle" in str(error) or "Python objects" in str(error):
        return ValueError(
            f"{path}: {key!r} is a pickled Python object, and loading one can run any code. "
            "Save plain arrays: numpy.asarray(values, dtype=str) for names, dtype=int for numbers."
        )
    if "encrypted" in str(error):
        return ValueError(f"{path}: {key!r} is encrypted. Save the arrays by numpy.savez.")
    if str(error) == "it is not an array":
        return ValueError(f"{path}: {key!r} is not an array. Save it by numpy.savez.")
    return ValueError(f"{path}: {key!r} is broken ({error}). Was the file written completely?")
