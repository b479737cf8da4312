"""A fingerprint of weights: equal for equal tensors, on any device and of any file format."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return a number that changes if any bit, name, shape or dtype of some tensors does.

    Args:
        tensors: Tensors by name, such as a ``state_dict``; their order has no effect.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> weights = {"b": torch.zeros(2), "a": torch.ones(1)}
        >>> same = weights_fingerprint({"a": torch.ones(1), "b": torch.zeros(2)})
        >>> weights_fingerprint(weights) == same
        True
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        # NumPy has no bfloat16, so the bytes are hashed
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
