"""Layers that a recipe is merged from: its parents, the file itself, and options."""

from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """Keys and values of one file, or of one option of the command line."""

    name: str
    tree: Tree
    is_option: bool = False

    def says(self, key: str) -> bool:
        """Whether a dotted key is in it."""
        value: Any = self.tree
        for name in key.split("."):
            if not isinstance(value, dict) or name not in value:
                return False
            value = value[name]
        return True
