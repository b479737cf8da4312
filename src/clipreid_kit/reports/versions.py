"""Group runs that differ in their seed alone into versions."""

import json
import re
from collections.abc import Sequence

from clipreid_kit.reports.runs import TIME, Run


def runs_by_version(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs whose settings differ in the seed and the log alone, by the name they share.

    Runs of a version may all start from one checkpoint (``init_from``), or each seed from its own.
    In the second case the number after the word seed in that path, or the run's own seed at its
    end, does not count as a difference.
    """
    same_start: dict[str, list[Run]] = {}
    for run in runs:
        same_start.setdefault(_key(run, _start(run)), []).append(run)

    versions: dict[str, list[Run]] = {}
    for key, members in same_start.items():
        seeds = {run.settings.get("seed") for run in members}
        for run in members:
            # several seeds with one start: it is the start of the version
            own_key = key if len(seeds) > 1 else _key(run, _start_without_seed(run))
            versions.setdefault(own_key, []).append(run)

    return _named(list(versions.values()))


def _start(run: Run) -> str:
    return str(run.settings.get("init_from"))


def _start_without_seed(run: Run) -> str:
    start = re.sub(rf"(?<=[\W_]){run.settings.get('seed')}$", "seed", _start(run))
    return re.sub(r"seed[\W_]*\d+", "seed", start)


def _key(run: Run, start: str) -> str:
    settings = {**run.settings, "init_from": start}
    for key in ("seed", "track"):
        settings.pop(key, None)
    return json.dumps(settings, sort_keys=True)


def _named(versions: Sequence[list[Run]]) -> dict[str, list[Run]]:
    names = [_shared_name([run.name for run in members]) for members in versions]

    named = {}
    for name, members in zip(names, versions, strict=True):
        if names.count(name) > 1:
            name = ", ".join(run.name for run in members)  # noqa: PLW2901
        named[name] = members
    return named


def _shared_name(names: Sequence[str]) -> str:
    """The beginning that names share, without the word seed, or a time, at its end.

    Example:
        >>> _shared_name(["v2-seed0", "v2-seed1"]), _shared_name(["v1/0", "v1/10"])
        ('v2', 'v1')
        >>> _shared_name(["v3-seed0"]), _shared_name(["v3_vit/2026-02-01T09-30-00"])
        ('v3-seed0', 'v3_vit')
    """
    names = list(dict.fromkeys(re.sub(rf"/{TIME}$", "", name) for name in names))
    if len(names) == 1:
        return names[0]

    shared = ""
    words = [re.findall(r"\d+|[^\W\d_]+|[\W_]+", name) for name in names]
    for column in zip(*words, strict=False):
        if len(set(column)) > 1:
            break
        shared += column[0]

    return re.sub(r"(^|[\W_]+)(seed)?[\W_]*$", "", shared) or ", ".join(names)
