"""Recipes in the JSON schema of the top-k retrieval pipeline: every key counts, or is refused with the reason."""

import difflib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

SCHEMA: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("topk_schema.json").read_text("utf-8")
)
# conditions on keys of the schema | keys of a recipe, with = and the key they come from, or with : and a value
MAP = Path(__file__).with_name("topk_map.txt").read_text("utf-8")


def recipe_of_topk_json(tree: dict[str, Any], source: str) -> dict[str, Any]:
    """Turn a configuration of that schema into the tree of a recipe; keys that are left out have their defaults.

    Raises:
        ValueError: If a key is unknown (the text names the nearest), a value has another type or is none of the
            choices, or a key is changed that nothing in the configuration, or nothing in the trainer, makes use of.
    """
    names = _checked(tree, source)
    keys = {name.rpartition(".")[2]: value for name, value in names.items()}
    used: set[str] = set()

    def take(key: str) -> Any:  # noqa: ANN401 (whatever JSON holds)
        used.add(key)
        return keys[key]

    def split(words: str, mark: str) -> list[tuple[str, str, str]]:
        return [word.partition(mark) for word in words.split()]

    flat: dict[str, Any] = {"note": f"Read from {source}, in the schema of the top-k pipeline."}
    for line in MAP.splitlines():
        conditions, _, pairs = line.partition("|")
        if all(
            str(take(key)).lower() in values.split(",") for key, _, values in split(conditions, "=")
        ):
            flat |= {own: take(key) for own, _, key in split(pairs, "=") if key}
            flat |= {own: json.loads(value) for own, _, value in split(pairs, ":") if value}
    flat["model.name"] = SCHEMA["choices"]["model_name"][keys["model_name"]]
    flat["track.console"] = SCHEMA["choices"]["log_level"][keys["log_level"]]
    if keys["scheduler"] == "cosine":  # a schedule is one factor on the rates of all groups
        flat["optim.min_lr"] = take("min_lr") / take("learning_rate") * flat["optim.lr"]
    flat |= _place([take(f"{split}_data_path") for split in ("train", "val", "test")], source)
    cuts = [re.fullmatch(r"mAP|ndcg|recall@([1-9]\d*)", str(name)) for name in take("metrics")]
    if not all(cuts) or not {"mAP", "recall@1"} & set(
        keys["metrics"]
    ):  # one of these chooses the best epoch
        expected = "mAP, ndcg and recall@<k>, with mAP or recall@1 among them"
        raise ValueError(
            f"{source}: expected evaluation_config.metrics of {expected}, got {keys['metrics']}."
        )
    flat["evaluate.metric"] = "mean_ap" if "mAP" in keys["metrics"] else "rank_1"
    flat["evaluate.k_values"] = sorted(
        {int(cut[1]) for cut in cuts if cut and cut[1]} | set(take("k_values"))
    )
    flat["evaluate.predictions"] = max(flat["evaluate.k_values"]) if take("save_predictions") else 0
    for name, usual in _flat(SCHEMA["defaults"]).items():
        key = name.rpartition(".")[2]
        if key not in used and keys[key] != usual:
            reason = SCHEMA["refused"].get(key, "no other key here makes use of it")
            raise ValueError(
                f"{source}: expected {name} to stay {usual!r}, got {keys[key]!r}: {reason}."
            )
    recipe = {own: value for own, value in flat.items() if "." not in own}
    for section, _, key in (own.partition(".") for own in flat if "." in own):
        recipe.setdefault(section, {})[key] = flat[f"{section}.{key}"]
    return recipe


def _checked(tree: dict[str, Any], source: str) -> dict[str, Any]:
    """All values by their full names; types and choices are checked."""
    usual, given = _flat(SCHEMA["defaults"]), _flat(tree)
    for name, value in given.items():
        if name not in usual:
            near = difflib.get_close_matches(name, usual, n=1, cutoff=0.0)
            raise ValueError(
                f"{source}: expected a known key, got {name!r}. Did you mean {near[0]}?"
            )
        kind, choices = type(usual[name]), SCHEMA["choices"].get(name.rpartition(".")[2])
        others = {float: (int,), int: (float,), type(None): (str,)}  # beside itself
        if type(value) not in (kind, *others.get(kind, ())):
            raise ValueError(
                f"{source}: expected {name} as {kind.__name__}, such as {usual[name]!r}, got {value!r}."
            )
        if choices and value not in choices:
            raise ValueError(
                f"{source}: expected {name} to be one of {', '.join(choices)}, got {value!r}."
            )
    return usual | given


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    sections = {
        section: keys if isinstance(keys, dict) else {"": keys} for section, keys in tree.items()
    }
    return {
        f"{section}.{key}".rstrip("."): value
        for section, keys in sections.items()
        for key, value in keys.items()
    }


def _place(paths: list[str], source: str) -> dict[str, Any]:
    folders = [PurePosixPath(path) for path in paths]
    if len(set(folders)) == 1:
        return {"data.source": "annotations", "data.root": paths[0]}
    if [f.name for f in folders] == ["train", "val", "test"] and len(
        {f.parent for f in folders}
    ) == 1:
        return {"data.source": "captioned_folder", "data.root": str(folders[0].parent)}
    expected = "one annotation file three times, or folders train, val and test of one folder"
    raise ValueError(
        f"{source}: expected {expected} as data paths of dataset_config, got {', '.join(paths)}."
    )
