"""YAML in which a key is written once, and ``1e-5`` is a number."""

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """A safe loader; the standard one lets the last of two equal keys win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.YAMLError(f"the key {key!r} is written twice{node.start_mark}")

        return super().construct_mapping(node, deep)


# YAML 1.1 takes a number such as 1e-5 or 1.0e5 for text: it wants a point and a sign.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, source: str) -> Any:  # noqa: ANN401 (whatever YAML holds)
    """The content of a YAML text.

    Raises:
        ValueError: If it is not YAML; the text names the source, and is one line.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{source}: the text is not valid YAML: {reason}.") from None
