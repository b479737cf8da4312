"""Every reader by the name of its data set, for configurations."""

import difflib
import inspect
import os
from collections.abc import Callable
from typing import Any

from clipreid_kit._checks import fail
from clipreid_kit.data import benchmarks
from clipreid_kit.data.annotations import read_annotations
from clipreid_kit.data.folder import read_folder
from clipreid_kit.data.formats import read_table
from clipreid_kit.data.omniglot import read_omniglot
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.sidecars import read_captioned_folder

_READERS: dict[str, Callable[..., list[ImageRecord]]] = {
    "annotations": read_annotations,
    "captioned_folder": read_captioned_folder,
    "cuhk03": benchmarks.read_cuhk03,
    "cuhk_pedes": benchmarks.read_cuhk_pedes,
    "folder": read_folder,
    "hands11k": benchmarks.read_hands11k,
    "inshop": benchmarks.read_inshop,
    "market1501": benchmarks.read_market1501,
    "msmt17": benchmarks.read_msmt17,
    "omniglot": read_omniglot,
    "online_products": benchmarks.read_online_products,
    "polyu_hands": benchmarks.read_polyu_hands,
    "table": read_table,
    "vehicleid": benchmarks.read_vehicleid,
    "veri776": benchmarks.read_veri776,
}


def dataset_names() -> tuple[str, ...]:
    """Names that :func:`read_dataset` knows.

    Returns:
        Benchmarks, and layouts for images of one's own, in alphabetical order.

    Example:
        >>> [name for name in dataset_names() if name.startswith("m")]
        ['market1501', 'msmt17']
    """
    return tuple(_READERS)


def read_dataset(name: str, path: str | os.PathLike[str], **options: Any) -> list[ImageRecord]:  # noqa: ANN401 (each its own)
    """Read a data set by its name, as the reader of that name does: ``read_<name>(path, **options)``.

    Use it where a configuration names the data; in code, the readers themselves have types.

    Args:
        name: One of :func:`dataset_names`.
        path: The folder, table or archive.
        **options: What that reader takes, such as ``counts``, ``splits`` or ``boxes``.

    Returns:
        One record for each image.

    Raises:
        ValueError: If the name or an option is not known, an option is missing, or the reader finds something wrong.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("rex", "tom"):
        ...         pathlib.Path(root, name).mkdir()
        ...         pathlib.Path(root, name, "1.jpg").touch()
        ...     [record.identity for record in read_dataset("folder", root, split="train")]
        ['rex', 'tom']
    """
    if name not in _READERS:
        near = difflib.get_close_matches(str(name), _READERS, n=1)
        hint = f"Did you mean {near[0]}?" if near else ""
        raise fail("read_dataset", f"one of {', '.join(_READERS)}", repr(name), hint)
    reader = _READERS[name]
    _, *known = inspect.signature(reader).parameters.values()
    names = [parameter.name for parameter in known]
    unknown = [option for option in options if option not in names]
    if unknown:
        raise fail(f"read_dataset({name!r})", f"options of {', '.join(names) or 'none'}", repr(unknown[0]))
    needed = [p.name for p in known if p.default is p.empty and p.name not in options]
    if needed:
        raise fail(f"read_dataset({name!r})", f"the option {needed[0]}", "none", f"See read_{name}.")
    return reader(path, **options)
