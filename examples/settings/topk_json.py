"""Recipes in the JSON schema of the top-k pipeline: every key counts, or is refused."""

import difflib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from examples.settings.errors import shorten

Keys = dict[str, Any]

_HERE = Path(__file__).parent
# Defaults of the schema by section, choices, and keys that are refused, with the reasons.
SCHEMA: dict[str, dict[str, Any]] = json.loads((_HERE / "topk_schema.json").read_text("utf-8"))
# A line is "conditions on keys of the schema | keys of a recipe". The keys are set if all
# conditions hold: `key=other` to the value of another key, `key:value` to a value.
_RULES = (_HERE / "topk_map.txt").read_text("utf-8").splitlines()


class _Reader:
    """Values of a configuration, which remembers what was asked for."""

    def __init__(self, values: Keys) -> None:
        self.values = values
        self.used: set[str] = set()

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 (whatever JSON holds)
        self.used.add(key)
        return self.values[key]


def without_comments(text: str) -> str:
    """JSON without the ``// comments`` with which the page of that pipeline prints it."""
    string_or_comment = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*')
    return string_or_comment.sub(lambda found: found[1] or "", text)


def parse_topk_json(text: str, source: str) -> object:
    """Parse a configuration, with its comments; ``1e-5`` is a number, and no key is written twice.

    Raises:
        ValueError: If it is not JSON; the text names the source, and is one line.
    """
    try:
        return json.loads(
            without_comments(text), object_pairs_hook=_distinct, parse_constant=_finite
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: the text is not valid JSON: {error}.") from None


def _distinct(pairs: list[tuple[str, Any]]) -> Keys:
    keys = dict(pairs)
    for name in keys:
        if sum(name == other for other, _ in pairs) > 1:
            raise ValueError(f"the key {shorten(name)} is written twice")
    return keys


def _finite(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def recipe_of_topk_json(tree: Keys, source: str, data: str | None = None) -> Keys:
    """Turn a configuration of that schema into the tree of a recipe.

    Args:
        tree: The configuration.
        source: Name of the file, for messages.
        data: Annotation file or folder that takes the place of the configuration's paths.

    Raises:
        ValueError: If a key is unknown (the text names the nearest), a value has another type or is
            none of the choices, or a key is changed that nothing here or in the trainer uses.
    """
    names = _checked(tree, source)
    config = _Reader({name.rpartition(".")[2]: value for name, value in names.items()})

    recipe: Keys = {"note": f"Read from {source}, in the schema of the top-k pipeline."}
    for rule in _RULES:
        recipe |= _apply(rule, config)

    recipe["model.name"] = SCHEMA["choices"]["model_name"][config["model_name"]]
    recipe["track.console"] = SCHEMA["choices"]["log_level"][config["log_level"]]
    if config["scheduler"] == "cosine":  # one factor on the rates of all groups
        lowest = config["min_lr"] / config["learning_rate"]
        recipe["optim.min_lr"] = lowest * recipe["optim.lr"]

    paths = [config[f"{split}_data_path"] for split in ("train", "val", "test")]
    recipe |= _data(paths, source) if data is None else _data_at(data)
    if config["dataset_type"] == "triplet":
        recipe["mining.positives"] = _positives(config["triplet_positives"], recipe["data.source"])
    recipe |= _evaluation(config, source)
    _check_unused(names, config.used, source)
    return _nested(recipe)


def _apply(rule: str, config: _Reader) -> Keys:
    """The keys of a recipe that a rule sets."""
    conditions, _, assignments = rule.partition("|")
    for condition in conditions.split():
        key, _, values = condition.partition("=")
        if str(config[key]).lower() not in values.split(","):
            return {}

    keys: Keys = {}
    for assignment in assignments.split():
        own, equals, other = assignment.partition("=")
        if equals:
            keys[own] = config[other]
        else:
            own, _, value = assignment.partition(":")
            keys[own] = json.loads(value)
    return keys


def _data(paths: list[str], source: str) -> Keys:
    """Find the images: one annotation file, or one folder of the three splits."""
    folders = [PurePosixPath(path) for path in paths]
    if len(set(folders)) == 1:
        return {"data.source": "annotations", "data.root": paths[0]}

    names = [folder.name for folder in folders]
    parents = {folder.parent for folder in folders}
    if names == ["train", "val", "test"] and len(parents) == 1:
        return {"data.source": "captioned_folder", "data.root": str(folders[0].parent)}

    raise ValueError(
        f"{source}: the data paths of dataset_config must be one annotation file three times, or "
        f"folders train, val and test of one folder, got {', '.join(paths)}."
    )


def _data_at(root: str) -> Keys:
    """Find the images below a root: format A if it is or has an annotation file, or else B."""
    path = Path(root)
    is_annotated = path.suffix == ".json" or (path / "annotations.json").is_file()
    source = "annotations" if is_annotated else "captioned_folder"
    return {"data.source": source, "data.root": root}


def _positives(choice: str, source: str) -> str:
    """The key that makes positives; in format B, every image is an identity of its own."""
    if choice != "auto":
        return choice
    return "identity" if source == "annotations" else "caption"


def _evaluation(config: _Reader, source: str) -> Keys:
    """The metric that chooses the best epoch, and the ranks at which retrieval is reported."""
    metrics = config["metrics"]
    cuts = [re.fullmatch(r"mAP|ndcg|recall@([1-9]\d*)", str(name)) for name in metrics]
    if not all(cuts) or not {"mAP", "recall@1"} & set(metrics):
        raise ValueError(
            f"{source}: evaluation_config.metrics must be mAP, ndcg and recall@<k>, with mAP or "
            f"recall@1 among them, got {metrics}."
        )

    ranks = {int(cut[1]) for cut in cuts if cut and cut[1]} | set(config["k_values"])
    return {
        "evaluate.metric": "mean_ap" if "mAP" in metrics else "rank_1",
        "evaluate.k_values": sorted(ranks),
        "evaluate.predictions": max(ranks) if config["save_predictions"] else 0,
    }


def _check_unused(names: Keys, used: set[str], source: str) -> None:
    """Raise ValueError for a key that was changed and that nothing uses."""
    for name, usual in _flat(SCHEMA["defaults"]).items():
        key = name.rpartition(".")[2]
        if key not in used and names[name] != usual:
            reason = SCHEMA["refused"].get(key, "no other key here makes use of it")
            raise ValueError(
                f"{source}: {name} must stay {usual!r}, got {shorten(names[name])}: {reason}."
            )


def _checked(tree: Keys, source: str) -> Keys:
    """All values by their full names; types and choices are checked."""
    defaults = _flat(SCHEMA["defaults"])
    given = _flat(tree)
    for name, value in given.items():
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1, cutoff=0.0)
            raise ValueError(f"{source}: there is no key {shorten(name)}. Did you mean {near[0]}?")
        _check_value(name, value, defaults[name], source)
    return defaults | given


def _check_value(name: str, value: object, usual: object, source: str) -> None:
    expected = {bool: "true or false", int: "a whole number", float: "a number", list: "a list"}
    also = {float: (int,), int: (float,), type(None): (str,)}
    kind = type(usual)
    if type(value) not in (kind, *also.get(kind, ())):
        raise ValueError(
            f"{source}: {name} must be {expected.get(kind, 'text')}, such as {shorten(usual)}, "
            f"got {shorten(value)}."
        )

    choices = SCHEMA["choices"].get(name.rpartition(".")[2])
    if choices and value not in choices:
        raise ValueError(
            f"{source}: {name} must be one of {', '.join(choices)}, got {shorten(value)}."
        )


def _flat(tree: Keys) -> Keys:
    """Values by ``section.key``."""
    flat: Keys = {}
    for section, keys in tree.items():
        if isinstance(keys, dict):
            flat |= {f"{section}.{key}": value for key, value in keys.items()}
        else:
            flat[section] = keys
    return flat


def _nested(flat: Keys) -> Keys:
    """Sections of values by ``section.key``."""
    tree: Keys = {}
    for name, value in flat.items():
        section, _, key = name.rpartition(".")
        holder = tree.setdefault(section, {}) if section else tree
        holder[key] = value
    return tree
