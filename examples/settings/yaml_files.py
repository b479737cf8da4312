"""YAML in which a key is written once, ``1e-5`` is a number, and a few lines stay small."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from examples.settings.errors import shorten

_DEEPEST = 40  # levels; a recipe has three or four
_LARGEST = 100_000  # keys and values, aliases expanded; a recipe has a hundred
_LONGEST_INTEGER = 40  # digits


class _Loader(yaml.SafeLoader):
    """A safe loader; the standard one lets the last of two equal keys win in silence."""

    depth = 0

    def get_single_node(self) -> yaml.Node | None:
        root: yaml.Node | None = super().get_single_node()
        if root is not None:
            _check_size(root)
        return root

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {_DEEPEST} levels deep")

        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node)
            if not isinstance(key, Hashable):
                break  # the standard loader refuses it

            if key in written:
                raise yaml.YAMLError(f"the key {shorten(key)} is written twice{node.start_mark}")
            written.add(key)

        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        _check_notation(node)
        if len(node.value) > _LONGEST_INTEGER:
            raise yaml.YAMLError(
                f"a number of {len(node.value)} digits is too long{node.start_mark}"
            )
        return int(super().construct_yaml_int(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        _check_notation(node)
        return float(super().construct_yaml_float(node))


# YAML 1.1 takes a number such as 1e-5 or 1.0e5 for text: it wants a point and a sign.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def parse_yaml(text: str, source: str) -> Any:  # noqa: ANN401 (whatever YAML holds)
    """The content of a YAML text.

    Raises:
        ValueError: If it is not YAML, or its aliases expand to more than a recipe ever holds; the
            text names the source, and is one line.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A ValueError: of the 32nd day of a month, for example.
        reason = " ".join(str(error).split())
        raise ValueError(f"{source}: the text is not valid YAML: {reason}.") from None


def _check_notation(node: yaml.ScalarNode) -> None:
    """Refuse numbers that YAML 1.1 reads in base 8 or 60."""
    digits = node.value.lstrip("+-").replace("_", "")
    if ":" in digits:
        raise yaml.YAMLError(
            f"{node.value} is a number to the base 60 in YAML 1.1; write it in decimal, or in "
            f"quotes if it is text{node.start_mark}"
        )
    if len(digits) > 1 and digits.isdecimal() and digits.startswith("0"):
        raise yaml.YAMLError(
            f"{node.value} is an octal number in YAML 1.1; write it without the leading zero, or "
            f"in quotes if it is text{node.start_mark}"
        )


def _check_size(root: yaml.Node) -> None:
    """Bound the values and the depth of a tree, with its aliases expanded.

    A few hundred bytes of nested aliases can expand to billions of values.
    """
    sizes: dict[int, tuple[int, int]] = {}  # values and depth of each node
    open_nodes: set[int] = set()

    def size_of(node: yaml.Node) -> tuple[int, int]:
        if not isinstance(node, yaml.CollectionNode):
            return 1, 1
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in open_nodes:
            raise yaml.YAMLError(f"an alias contains itself{node.start_mark}")

        open_nodes.add(id(node))
        inside = [size_of(child) for child in _children(node)]
        open_nodes.remove(id(node))

        values = 1 + sum(count for count, _ in inside)
        depth = 1 + max((levels for _, levels in inside), default=0)
        if values > _LARGEST or depth > _DEEPEST:
            raise yaml.YAMLError(
                f"its aliases expand to more than {_LARGEST} values or {_DEEPEST} levels"
                f"{node.start_mark}"
            )
        sizes[id(node)] = values, depth
        return values, depth

    size_of(root)


def _children(node: yaml.CollectionNode) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value)
