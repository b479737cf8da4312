"""Translate a configuration of one of the three pipelines into ours, and print it.

Run it as ``python -m examples.prepare.convert_recipe FILE [--out recipe.yaml]``. It recognises what
it is given: a YAML file of the hands pipeline, a JSON file of the text-to-image pipeline, a file of
command lines of the fashion pipeline, or such a command line itself in place of a file.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path, PurePath
from typing import Any

import yaml

from examples.prepare import fashion_command
from examples.prepare.hands_yaml import convert_hands
from examples.prepare.one_line_errors import run
from examples.settings.errors import content
from examples.settings.topk_json import parse_topk_json, recipe_of_topk_json
from examples.settings.yaml_files import parse_yaml

Keys = dict[str, Any]

_RECIPES = Path(__file__).parents[1] / "recipes"


def main(arguments: list[str] | None = None) -> None:
    """Print a recipe or commands; what has no counterpart is a remark on standard error."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and _is_script(words[0] if words[0] != "python" else "".join(words[1:2])):
        fashion_command.main(words)
        return

    parser = argparse.ArgumentParser(prog="convert_recipe", description=main.__doc__)
    parser.add_argument("file", type=Path, help="YAML, JSON, or a text of command lines")
    parser.add_argument("--out", type=Path, help="write the recipe into this file")
    parser.add_argument("--version", help="hands: the version that the file is of, such as v9")
    options = parser.parse_args(words)

    text, remarks = convert(options.file, options.version)
    for remark in remarks:
        print(f"remark: {remark}", file=sys.stderr)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(f"{text}\n", encoding="utf-8")


def convert(file: Path, version: str | None = None) -> tuple[str, list[str]]:
    """Translate a file.

    Args:
        file: The configuration or command lines.
        version: Of the hands pipeline: the version that the file is of; ``None`` finds it out.

    Returns:
        The text of the recipe, or of the trainer's commands, and remarks on what has no
        counterpart.

    Raises:
        ValueError: If the file is of none of the three, or a key or value is unknown.
    """
    if not file.is_file():
        raise ValueError(f"convert_recipe: there is no file {file}. Correct the path.")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: the file is not text in UTF-8 ({error}).") from None

    suffix = file.suffix.lower()
    if suffix == ".json":
        return _recipe_of_json(text, file), []
    if suffix in (".yml", ".yaml"):
        return _recipe_of_yaml(text, file, version)
    return _commands(text, file)


def _recipe_of_json(text: str, file: Path) -> str:
    """A recipe with all values of a configuration of the text-to-image pipeline."""
    tree = parse_topk_json(text, str(file))
    if not isinstance(tree, dict):
        raise ValueError(f"{file}: a configuration is an object, got {content(tree)}.")
    return _dump(recipe_of_topk_json(tree, str(file)))


def _recipe_of_yaml(text: str, file: Path, version: str | None) -> tuple[str, list[str]]:
    """A child of the recipe of the same stage of the hands pipeline."""
    tree = parse_yaml(text, str(file))
    if not isinstance(tree, dict):
        raise ValueError(f"{file}: a configuration is a mapping, got {content(tree)}.")
    if {"note", "base"} & tree.keys():
        raise ValueError(f"{file}: this is a recipe of the trainer already.")

    converted = convert_hands(tree, str(file), version)
    parent = converted.base.relative_to(_RECIPES).with_suffix("").as_posix()
    recipe: Keys = {"base": parent, "note": f"Converted from {file.name} of the hands pipeline."}
    for key, value in converted.changes.items():
        section, _, name = key.rpartition(".")
        (recipe.setdefault(section, {}) if section else recipe)[name] = value
    return _dump(recipe), converted.remarks


def _commands(text: str, file: Path) -> tuple[str, list[str]]:
    """The trainer's commands for the command lines of the fashion pipeline in a text."""
    lines = text.replace("\\\n", " ").splitlines()
    commands = []
    remarks = []
    for line in lines:
        words = shlex.split(line, comments=True)
        script = words[1] if words[:1] == ["python"] and len(words) > 1 else "".join(words[:1])
        if not _is_script(script):
            continue
        translation = fashion_command.translate(words)
        commands.append(" \\\n    ".join(shlex.join(part) for part in translation.words()))
        remarks += translation.remarks

    if not commands:
        raise ValueError(
            f"{file}: this is no YAML (.yml), no JSON (.json), and holds no command line of the "
            f"scripts {', '.join(fashion_command.SCRIPTS)}."
        )
    return "\n".join(commands), remarks


def _is_script(word: str) -> bool:
    """Whether a word is the path of a script of the fashion pipeline."""
    return PurePath(word).name in fashion_command.SCRIPTS


def _dump(recipe: Keys) -> str:
    """A recipe as YAML: a line for each section."""
    lines = []
    for key, value in recipe.items():
        flow = isinstance(value, dict | list)
        text = json.dumps(value) if key == "note" else _yaml(value, flow=flow)
        lines.append(f"{key}: {text}")
    return "\n".join(lines)


def _yaml(value: object, *, flow: bool) -> str:
    """A value on one line of YAML."""
    text = yaml.safe_dump(
        value, default_flow_style=flow, sort_keys=False, width=10_000, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("...").rstrip("\n")


if __name__ == "__main__":
    sys.exit(run(main))
