"""``python -m examples.settings.json_schema FILE``: write the schema of recipes, for editors."""

import argparse
import json
from pathlib import Path
from typing import Any

from examples.settings.stages import RECIPES


def schema() -> dict[str, Any]:
    """A schema of one file: keys of any stage, of which a child with a ``base:`` gives a few."""
    found = [_of_a_file(model.model_json_schema()) for model in RECIPES]
    definitions: dict[str, Any] = {}
    for one in found:
        definitions |= one.pop("$defs")
        one["properties"]["base"] = {"type": "string", "description": "The parent recipe."}

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Recipe",
        "required": ["note"],
        "anyOf": found,
        "$defs": definitions,
    }


def _of_a_file(node: Any) -> Any:  # noqa: ANN401 (whatever JSON holds)
    """A schema without required keys, because the parent of a file may give them."""
    if isinstance(node, list):
        return [_of_a_file(item) for item in node]
    if not isinstance(node, dict):
        return node

    names = {"oneOf": "anyOf"}
    kept = {key: value for key, value in node.items() if key not in ("required", "discriminator")}
    return {names.get(key, key): _of_a_file(value) for key, value in kept.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write, such as recipe.schema.json")
    parser.parse_args().file.write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")
