"""Checkpoint files in the forms that CLIP weights come in."""

import warnings

import torch
from safetensors.torch import save_file
from torch import nn


class _Identity(nn.Module):
    def forward(self, x):
        return x


def save_as(form, state, path):
    """Write a state dict in one of four forms."""
    match form:
        case "state dict":
            torch.save(state, path)
        case "TorchScript":
            _save_torchscript(state, path)
        case "training checkpoint":
            wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
            other = {"epoch": 3, "name": "run", "optimizer": {"state": {}}}
            torch.save({**other, "state_dict": wrapped}, path)
        case "safetensors":
            save_file(state, path)
        case _:
            raise ValueError(form)


def _save_torchscript(state, path):
    root = _Identity()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        node = root
        for parent in parents:
            if not hasattr(node, parent):
                node.add_module(parent, _Identity())
            node = getattr(node, parent)
        node.register_buffer(leaf, tensor)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(root, torch.zeros(1)), path)
