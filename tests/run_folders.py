"""Small folders of runs, as the trainer leaves them."""

import json

import numpy as np

from clipreid_kit.metrics import ReidResult

TERMS = {"id": 0.6, "triplet": 0.4}


def numbers(value):
    keys = {"rank_1": 0.0, "rank_5": 0.1, "rank_10": 0.15, "mean_ap": -0.1, "mean_inp": -0.3}
    counts = {"num_queries": 20, "num_valid_queries": 20, "num_gallery": 60}
    return {key: max(0.0, min(1.0, value + more)) for key, more in keys.items()} | counts


def split_numbers(values):
    splits = [numbers(value) for value in values]
    wanted = ("rank_1", "rank_5", "rank_10", "mean_ap", "mean_inp")
    mean = {key: sum(one[key] for one in splits) / len(splits) for key in wanted}
    std = {
        key: (sum((one[key] - mean[key]) ** 2 for one in splits) / max(len(splits) - 1, 1)) ** 0.5
        for key in wanted
    }
    if len(splits) == 1:
        std = dict.fromkeys(wanted)
    return {
        "protocol": "galleries",
        "num_splits": len(splits),
        "mean": mean,
        "std": std,
        "splits": splits,
    }


def retrieval_numbers(value):
    return {
        "hit_rate_1": value,
        "hit_rate_5": value + 0.1,
        "hit_rate_10": value + 0.2,
        "mean_ap": value / 2,
    }


def write_run(
    folder,
    *,
    stage="joint",
    seed=0,
    rates=(),
    results=None,
    note="A note.",
    terms=TERMS,
    prompt=0,
    lr=1e-3,
):
    """A run of one epoch per rate (``None``: not validated); without results it was killed."""
    folder.mkdir(parents=True)
    recipe = {
        "stage": stage,
        "note": note,
        "seed": seed,
        "init_from": None,
        "loss": {"id": 1.0, "triplet": 1.0, "margin": 0.3},
        "optim": {"lr": lr},
        "evaluate": {"task": "image_to_image", "metric": "mean_ap"},
        "track": {"console": "epochs"},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
    rows, best = [], -1.0
    for epoch, value in enumerate(rates, 1):
        row = {
            "epoch": epoch,
            "loss": 2.0 / epoch,
            **{name: share * 2.0 / epoch for name, share in terms.items()},
        }
        row |= {
            "gradient_norm": 1.0,
            "lr": lr / epoch,
            "rates": {"image": lr / epoch},
            "skipped": 0,
            "alarms": [],
            "images_per_second": 100.0,
        }
        row |= {
            "positive_cosine": 0.8,
            "negative_cosine": 0.1,
            "seconds": 1.5,
            "peak_memory_mb": 300.0,
        }
        if value is not None:
            row |= {"validation": {"image_to_image": numbers(value)}, "score": value - 0.1}
        row["best"] = value is not None and value > best
        best = max(best, -1.0 if value is None else value)
        rows.append(row)
    if rates:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if prompt:
        (folder / "prompt").mkdir()
        rows = [
            {"epoch": e, "loss": 3.0 / e, "lr": 3.5e-4, "best": e == prompt}
            for e in range(1, prompt + 1)
        ]
        (folder / "prompt" / "metrics.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results | {"data": {"unreadable": 2}}))
    return folder


def both(before, after):
    """Results of a trained run with one task."""
    return {
        "before": {"image_to_image": numbers(before)},
        "after": {"image_to_image": numbers(after)},
    }


def random_result(seed, shift):
    """A result of three queries of each of eight identities, better with a larger shift."""
    rng = np.random.default_rng(seed)
    precision = np.clip(rng.random(24) + shift, 0, 1)
    first_rank = np.where(precision > 0.5, 1, 4)
    counts = np.full(24, 2)
    return ReidResult(precision, precision, first_rank, counts, 40, 20, np.arange(24) // 3)


def write_compared_run(folder, seed=0, lr=0.1, result=None, data="same"):
    """The folder of a run with its result file alone."""
    folder.mkdir(parents=True)
    recipe = {"stage": "joint", "seed": seed, "lr": lr}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    if result is not None:
        results = {"image_to_image": json.loads(result.to_json(per_query=True))}
        content = {"recipe": recipe, "versions": {}, "data": {"fingerprint": data}, "numbers": {}}
        (folder / "comparable.json").write_text(json.dumps({**content, "results": results}))
    return folder
