"""``python -m examples.settings.key_table``: write the table of all keys into the documentation."""

import ast
import dataclasses
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from examples.settings import config

PAGE = Path(__file__).parents[2] / "docs" / "recipes" / "keys.md"
BEGIN, END = "<!-- keys: made by python -m examples.settings.key_table -->", "<!-- end of keys -->"


def tables() -> str:
    """A table for each section, in the order of the dataclasses."""
    source = Path(config.__file__).read_text(encoding="utf-8")
    lines = source.splitlines()
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    hints = typing.get_type_hints(config.Recipe)
    sections: dict[str, Any] = {
        name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)
    }
    parts = []
    for name, kind in ({"": config.Recipe} | sections).items():
        prefix = f"{name}." if name else ""
        comments = {}
        for node in classes[kind.__name__].body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                comments[node.target.id] = "".join(
                    line.partition("  # ")[2] for line in lines[node.lineno - 1 : node.end_lineno]
                )
        rows = ["| key | default | values | meaning |", "| --- | --- | --- | --- |"]
        kinds = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            if not dataclasses.is_dataclass(hints.get(field.name)) or name:
                values = describe(kinds[field.name])
                rows.append(
                    f"| `{prefix}{field.name}` | {default_of(field)} | {values} | {comments[field.name]} |"
                )
        title = f"### {name}\n\n{kind.__doc__}\n\n" if name else "### The run\n\n"
        parts.append(title + "\n".join(rows))
    return "\n\n".join(parts)


def default_of(field: "dataclasses.Field[Any]") -> str:
    """As it stands in YAML."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is dataclasses.MISSING:
        return "required"
    else:
        value = field.default
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, list | tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    return f"`{words[value] if value is None or isinstance(value, bool) else value}`"


def describe(hint: Any) -> str:  # noqa: ANN401 (any type)
    """What a value may be, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return str(inner[1]).replace(
            "a number", "a whole number" if inner[0] is int else "a number"
        )
    if origin in (types.UnionType, typing.Union):
        return " or ".join(describe(kind) for kind in inner if kind is not type(None)) + (
            ", or nothing" if type(None) in inner else ""
        )
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin in (list, tuple):
        return f"a list{'' if origin is list else f' of {len(inner)}'}: {describe(inner[0])}"
    return {int: "a whole number", float: "a number", bool: "`true`, `false`", str: "text"}[hint]


def page(text: str) -> str:
    """The page with the tables as they are now."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
