"""Compare all that two objects hold: attributes, parameters, containers, random states."""

import functools
import mmap
import types
import weakref
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import regex
import torch

_NUMBERS = (bool, int, float, complex)
# a path remembers its text once it was asked for
_PLAIN = (str, bytes, *_NUMBERS, type(None), type, torch.dtype, torch.device, PurePath)


def first_difference(left: Any, right: Any, path: str = "it", seen: Any = None) -> str | None:
    """Where two objects differ, such as ``it.blocks[0].dim``; ``None`` if they are alike."""
    seen = {} if seen is None else seen
    if left is right or (id(left), id(right)) in seen:
        return None
    seen[id(left), id(right)] = left, right  # kept alive, so that no other object has their ids

    if type(left) is not type(right):
        return path
    if isinstance(left, torch.Tensor):
        alike = left.shape == right.shape and torch.equal(left, right)
        return None if alike and left.requires_grad == right.requires_grad else path
    if isinstance(left, np.ndarray):
        return None if np.array_equal(left, right) else path
    if isinstance(left, torch.Generator):
        return None if torch.equal(left.get_state(), right.get_state()) else path
    if isinstance(left, mmap.mmap):
        return None if left[:] == right[:] else path
    if isinstance(left, regex.Pattern):
        return None if (left.pattern, left.flags) == (right.pattern, right.flags) else path
    if isinstance(left, _PLAIN):
        return None if left == right else path
    if isinstance(left, weakref.ref):
        return first_difference(left(), right(), path, seen)

    parts, others = _parts(left), _parts(right)
    if not parts and not others:
        return None if left == right else path
    if parts.keys() != others.keys():
        return f"{path} has {sorted(map(str, parts.keys() ^ others.keys()))}"
    for name in parts:
        found = first_difference(parts[name], others[name], f"{path}.{name}", seen)
        if found is not None:
            return found
    return None


def _parts(value: Any) -> Mapping[Any, Any]:
    """What an object holds, by name."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if isinstance(value, set | frozenset):
        return dict.fromkeys(value)
    if isinstance(value, functools.partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, types.MethodType):
        return {"function": value.__func__, "self": value.__self__}
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return {"code": value.__code__, "cells": cells, "defaults": value.__defaults__}

    parts = dict(getattr(value, "__dict__", {}))
    for owner in type(value).__mro__:
        slots = getattr(owner, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                parts[name] = getattr(value, name)
    return parts
