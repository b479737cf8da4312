"""Saved features: arrays of a file, under the names that projects give them."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
    "embeddings": ("features", "feats", "feat"),
    "ids": ("labels", "label", "pids", "pid", "targets"),
    "cameras": ("camids", "camid", "cams", "cam"),
    "distractor_embeddings": ("distractor_features", "distractor_feats"),
    "distractor_ids": ("distractor_labels", "distractor_pids"),
}


class FeatureFile:
    """Arrays by name, from a ``.npz`` file and from single ``.npy`` files, which are read in place.

    Args:
        path: The ``.npz`` file.
        keys: Other names of arrays in it, by the name that is asked for.
        files: ``.npy`` files, by the name that is asked for; memory-mapped.

    Raises:
        ValueError: In one line, if a file is missing, broken, or no such file.
    """

    def __init__(self, path: Path, keys: Mapping[str, str], files: Mapping[str, Path]) -> None:
        self.path, self.keys, self.files = path, dict(keys), dict(files)
        if not _is_archive(path):
            raise ValueError(
                f"{path}: one array (.npy), where a .npz with names was expected. {_HOW_NPY}"
            )
        try:
            with zipfile.ZipFile(path) as archive:
                self.names = [name.removesuffix(".npy") for name in archive.namelist()]
        except zipfile.BadZipFile as error:
            raise ValueError(
                f"{path}: broken ({error}): was the file written to its end?"
            ) from None
        for name, key in self.keys.items():
            if key not in self.names:
                raise ValueError(f"{path}: no array {key!r} for {name}; {self._there()}")

    def has(self, name: str) -> bool:
        """Whether the array is there, under any of its names."""
        return name in self.files or self._key(name) is not None

    def get(self, name: str) -> Array:
        """The array.

        Raises:
            ValueError: In one line, if it is not there, or cannot be read.
        """
        if name in self.files:
            return _mapped(self.files[name], name)
        key = self._key(name)
        if key is None:
            others = ", ".join(ALIASES.get(name, ()))
            also = f" (nor {others})" if others else ""
            raise ValueError(
                f"{self.path}: no array {name!r}{also}; {self._there()} Say --key {name}=ITS_NAME."
            )
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                array: object = archive[key]
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise ValueError(_unreadable(self.path, key, error)) from None
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{self.path}: {key!r} is no array. Save it by numpy.savez.")
        return array

    def column(self, name: str) -> Array:
        """Ids of rows: whole numbers or names, one for each row."""
        array = self.get(name)
        if array.ndim == 2 and 1 in array.shape:  # as MATLAB has it
            array = array.ravel()
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8")
        if array.dtype.kind == "f" and array.size:
            whole = np.abs(array) < 2.0**53
            whole &= array == np.floor(array)
            if not whole.all():
                row = int(np.flatnonzero(~whole.ravel())[0])
                shown = f"{array.ravel()[row]} in row {row}"
                raise ValueError(
                    f"{self.path}: {name} has to be whole numbers or names, got {shown}."
                )
            array = array.astype(np.int64)
        return array

    def _key(self, name: str) -> str | None:
        if name in self.keys:
            return self.keys[name]
        found = [key for key in (name, *ALIASES.get(name, ())) if key in self.names]
        if len(found) > 1 and found[0] != name:
            raise ValueError(
                f"{self.path}: both {' and '.join(found)} may be {name}. Say --key {name}={found[0]}."
            )
        return found[0] if found else None

    def _there(self) -> str:
        return f"it has: {', '.join(self.names) or 'nothing'}."


_HOW_NPY = "Give .npy files by --query-embeddings and --gallery-embeddings, beside a .npz with ids."


def _is_archive(path: Path) -> bool:
    """Whether a file is .npz and not .npy; an error if it is neither."""
    try:
        with path.open("rb") as stream:
            start = stream.read(6)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder, where a file was expected.") from None
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")):
        raise ValueError(f"{path}: neither .npz nor .npy. Save it by numpy.savez.")
    return start.startswith(b"PK")


def _mapped(path: Path, name: str) -> Array:
    """One array, left in its file."""
    if _is_archive(path):
        raise ValueError(f"{path}: a .npz file, where one array (.npy) was expected for {name}.")
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(_unreadable(path, path.name, error)) from None
    return array


def _unreadable(path: Path, key: str, error: Exception) -> str:
    if "allow_pickle" in str(error) or "Python objects" in str(error):
        remedy = (
            "Save plain arrays: numpy.asarray(values, dtype=str) for names, dtype=int for numbers."
        )
        return f"{path}: {key!r} is a pickled Python object, and loading one can run any code. {remedy}"
    return f"{path}: {key!r} is broken ({error}): was the file written to its end?"
