"""The report of one run: its figures and ranked lists, put into one HTML file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from clipreid_kit import ReidResult, SplitResults
from clipreid_kit.data import ImageRecord, load_image
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.viz import cmc_figure, training_figure
from examples.report.evaluation import Evaluation
from examples.report.html_parts import (
    Chart,
    Details,
    Metric,
    RankedLists,
    RankedQuery,
    Ranking,
    Section,
    Task,
)
from examples.report.html_report import picture_of, write_report
from examples.report.runs import rate, validation_of

_METRICS = {
    "rank_1": "Rank-1",
    "rank_5": "Rank-5",
    "rank_10": "Rank-10",
    "mean_ap": "mAP",
    "mean_inp": "mINP",
}
_SHOWN = 8  # images of a ranked list


def write_run_report(
    run: Path,
    *,
    title: str,
    note: str,
    settings: Mapping[str, Any],
    before: Evaluation,
    after: Evaluation | None = None,
    validation_task: str = "image_to_image",
) -> None:
    """Write ``report.html`` of a run: main table, curves, and ranked lists before and after training.

    Args:
        run: Folder of the run, with ``environment.json`` and, after training, ``metrics.jsonl``.
        title: Heading of the page.
        note: Why the run was made; a sentence.
        settings: Every setting of the run, as JSON can hold it.
        before: Evaluation before training.
        after: Evaluation of the trained model; ``None`` if nothing was trained.
        validation_task: Task whose validation is drawn by epoch.
    """
    final = after or before
    tasks = []
    if before.images is not None:
        trained = None if after is None else after.main_numbers()
        tasks.append(
            _task(
                "Image to image",
                before.main_numbers(),
                trained,
                "Which gallery images show it too?",
            )
        )
    if before.texts is not None:
        trained = None if after is None or after.texts is None else after.texts.to_dict()
        tasks.append(
            _task(
                "Text to image",
                before.texts.to_dict(),
                trained,
                "A sentence describes it; which images show it?",
            )
        )
    main = final.images or final.texts
    if main is None:
        raise ValueError(
            "write_run_report: expected a result between images or of texts, got none."
        )
    numbers = final.main_numbers()
    splits = next(iter(final.results.values()))
    mean = (
        f", means of {splits.num_splits} random galleries"
        if isinstance(splits, SplitResults)
        else ""
    )
    summary = (
        f"{note} Tested on {main.num_valid_queries} queries against {main.num_gallery} gallery "
        f"images of identities that were never trained on: Rank-1 {100 * numbers['rank_1']:.1f} %, "
        f"mAP {100 * numbers['mean_ap']:.1f} %{mean}."
    )
    sections = (
        []
        if before.images is None
        else [_cmc(before.images, None if after is None else after.images)]
    )
    history = run / "metrics.jsonl"
    if after is not None and history.is_file():
        rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
        if rows:
            sections.append(_training(rows, validation_task))
    if final.images is not None:
        sections.append(_ranked_images(before, after, final.images))
    if final.texts is not None:
        sections.append(_ranked_texts(before, after))
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    recipe = yaml.safe_dump(dict(settings), sort_keys=False)
    how = [Details("Recipe, with every value", recipe), Details("Environment", environment)]
    sections.append(Section("How this was made", how))
    write_report(run / "report.html", title=title, summary=summary, table=tasks, sections=sections)


def _task(name: str, before: dict[str, Any], after: dict[str, Any] | None, note: str) -> Task:
    old, new = before, after or before
    rows = [
        Metric(title, None if after is None else old[key], new[key])
        for key, title in _METRICS.items()
    ]
    return Task(name, rows, note)


def _cmc(before: ReidResult, after: ReidResult | None) -> Section:
    curves = {"zero-shot" if after is None else "before": before.cmc}
    if after is not None:
        curves["after"] = after.cmc
    chart = Chart(
        picture_of(lambda theme: cmc_figure(curves, theme=theme, size=(9.0, 3.8))),
        "Cumulative matching characteristic, image to image",
        "Share of queries with a right image among the first k.",
        picture_of(lambda theme: cmc_figure(curves, theme=theme, size=(3.7, 3.3))),
    )
    return Section("Cumulative matching", [chart])


def _training(history: list[dict[str, Any]], task: str) -> Section:
    found = [validation_of(row, task) for row in history]
    rows = [
        {**row, **{m: rate(numbers, m) for m in ("R1", "mAP")}}
        for row, numbers in zip(history, found, strict=True)
    ]
    best = next(
        (row["epoch"] for row in reversed(history) if row.get("best")), history[-1]["epoch"]
    )
    validated = any(row.get("validation") for row in history)
    names = {"R1": "Rank-1", "mAP": "mAP"}
    metrics = {m: name for m, name in names.items() if any(row[m] is not None for row in rows)}
    why = (
        "was best on validation identities"
        if validated
        else "is the last one, as none was validated"
    )
    chart = Chart(
        picture_of(
            lambda theme: training_figure(
                rows, metric_keys=metrics, best_epoch=best, theme=theme, size=(9.0, 3.4)
            )
        ),
        "Training loss, and validation metrics if there are any, by epoch",
        f"Epoch {best} {why}; it is the one that was tested.",
        picture_of(
            lambda theme: training_figure(
                rows, metric_keys=metrics, best_epoch=best, theme=theme, size=(3.7, 5.6)
            )
        ),
    )
    return Section("Training", [chart])


def _ranked_images(before: Evaluation, after: Evaluation | None, result: ReidResult) -> Section:
    queries = [
        RankedQuery(
            load_image(before.query[i].path),
            _rankings(before, after, i, texts=False),
            _title(before.query[i]),
        )
        for i in _chosen(result)
    ]
    caption = "Chosen by average precision after training: from the best to the hardest query."
    return Section("Ranked lists, image to image", [RankedLists(queries, caption)])


def _ranked_texts(before: Evaluation, after: Evaluation | None) -> Section:
    result = (after or before).texts
    chosen = [] if result is None else _chosen(result, 4)
    sentences = list(before.captions.values())
    queries = [RankedQuery(sentences[i], _rankings(before, after, i, texts=True)) for i in chosen]
    return Section("Ranked lists, text to image", [RankedLists(queries, "Chosen in the same way.")])


def _rankings(
    before: Evaluation, after: Evaluation | None, query: int, *, texts: bool
) -> list[Ranking]:
    named = {"zero-shot": before} if after is None else {"before": before, "after": after}
    return [_ranking(label, found, query, texts=texts) for label, found in named.items()]


def _ranking(label: str, found: Evaluation, query: int, *, texts: bool) -> Ranking:
    embeddings = found.text_embeddings if texts else found.query_embeddings
    similarity = cosine_similarity(embeddings[[query]], found.gallery_embeddings)[0].numpy()  # type: ignore[index]
    identity = list(found.captions)[query] if texts else found.query[query].identity
    left_out = (
        None if texts or not found.camera_rule else (identity, str(found.query[query].camera))
    )
    ranked = np.argsort(-similarity, kind="stable").tolist()
    own = (
        None if texts else found.query[query].path
    )  # where every image is query and gallery at once
    order = [
        j
        for j in ranked
        if (found.gallery[j].identity, str(found.gallery[j].camera)) != left_out
        and found.gallery[j].path != own
    ][:_SHOWN]
    return Ranking(
        label,
        [load_image(found.gallery[j].path) for j in order],
        [found.gallery[j].identity == identity for j in order],
        [float(similarity[j]) for j in order],
    )


def _chosen(result: ReidResult, count: int = 6) -> list[int]:
    """Queries from the best to the worst average precision, evenly spread; equal ones by their order."""
    valid = np.flatnonzero(result.num_positives > 0)
    ordered = valid[np.argsort(-result.average_precision[valid], kind="stable")]
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [int(ordered[place]) for place in places]


def _title(record: ImageRecord) -> str:
    camera = "" if record.camera is None else f", camera {record.camera}"
    return f"Query: identity {record.identity}{camera}"
