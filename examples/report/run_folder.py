"""The folder of a run: made once, never written over, with what it takes to repeat the run."""

import json
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import clipreid_kit
from examples.report.files import write_json


def open_run(out: Path, resolved: dict[str, Any], *, resume: bool) -> None:
    """Make the run's folder with its recipe and environment, or check that the one to resume has the same recipe.

    A run that ended before it had anything to show (a mistake in its data, say) may be started again over itself.
    """
    kept = out / "recipe.json"
    signs = ("checkpoints/index.json", "prompt/checkpoints/index.json", "results.json")
    shows = any((out / sign).is_file() for sign in signs)
    if shows and not resume:
        raise ValueError(
            f"{out}: expected a new folder, got one with a run. Give --resume, or another --out."
        )
    if shows:
        other = json.loads(kept.read_text(encoding="utf-8"))
        changed = [key for key in resolved if resolved[key] != other.get(key)]
        if changed:
            raise ValueError(
                f"{out}: expected the recipe of the run to resume, got another one ({', '.join(changed)} differ). "
                f"See {kept}."
            )
        return
    foreign = [p.name for p in out.iterdir() if not p.name.startswith(".")] if out.is_dir() else []
    if foreign and not kept.is_file():
        raise ValueError(
            f"{out}: expected a new or empty folder, got one with other files. Give another --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    if kept.is_file() and json.loads(kept.read_text(encoding="utf-8"))["data"] != resolved["data"]:
        shutil.rmtree(out / "data", ignore_errors=True)  # generated for the recipe that failed
    write_json(kept, resolved)
    environment = {
        "clipreid_kit": clipreid_kit.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "revision": revision(),
    }
    write_json(out / "environment.json", environment)


def revision() -> str | None:
    """Git revision of this trainer, where there is one."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # no git on this machine
        return None
    return found.stdout.strip() or None


def write_history(out: Path, results: dict[str, Any]) -> None:
    """Write the results, and with them the recipe, the environment and every epoch as one JSON file."""
    write_json(out / "results.json", results)
    kept = {
        name: json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("recipe", "environment")
    }
    log = out / "metrics.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    write_json(
        out / "history.json",
        {**kept, "epochs": [json.loads(line) for line in lines], "results": results},
    )


def table(results: dict[str, Any]) -> str:
    """Before and after, in percent, one line a task; of random splits the mean."""
    columns = {
        "rank_1": "Rank-1",
        "rank_5": "Rank-5",
        "rank_10": "Rank-10",
        "mean_ap": "mAP",
        "mean_inp": "mINP",
    }
    also = {"rank_1": "hit_rate_1", "rank_5": "hit_rate_5", "rank_10": "hit_rate_10"}
    lines = [f"{'':36}" + "".join(f"{title:>9}" for title in columns.values())]
    moments = [moment for moment in ("before", "after") if moment in results]
    for task in results[moments[-1]]:
        for moment in moments:
            found = results[moment].get(task, {})
            numbers = found.get("mean", found)
            values = [numbers.get(key, numbers.get(also.get(key, key))) for key in columns]
            cells = "".join(
                f"{'-':>9}" if value is None else f"{100 * value:9.1f}" for value in values
            )
            lines.append(f"{task.replace('_', ' ').replace('.', ', ') + ', ' + moment:36}{cells}")
    return "\n".join(lines)


def epoch_line(row: dict[str, Any]) -> str:
    """One line about an epoch."""
    line = (
        f"epoch {row['epoch']:3d}  loss {row['loss']:.3f}  {row['images_per_second']:.0f} images/s"
    )
    for numbers in row.get("validation", {}).values():
        if "rank_1" in numbers:
            line += f"  validation Rank-1 {100 * numbers['rank_1']:.1f}  mAP {100 * numbers['mean_ap']:.1f}"
            break
    line += "  best" if row["best"] and "validation" in row else ""
    return "\n".join([line, *(f"  ALARM: {text}" for text in row["alarms"])])


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of what is logged, those of parts with the part's name before theirs."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
