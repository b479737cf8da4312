"""The report of one run: its results, curves and ranked lists, as one HTML page."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipreid_kit import ReidResult, SplitResults
from clipreid_kit._files import write_whole
from clipreid_kit.data import load_image
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.reports._html_page import (
    EmbeddedImage,
    Metric,
    RankedImage,
    RankedQuery,
    Task,
    embed_chart,
    embed_image,
    render_page,
)
from clipreid_kit.reports.evaluation import Evaluation, Result
from clipreid_kit.reports.frozen_baseline import verdict
from clipreid_kit.reports.json_files import read_json_lines, read_object
from clipreid_kit.reports.measures import (
    TITLES,
    Rates,
    best_epoch_label,
    rates_of,
    task_title,
    validation_rates,
)
from clipreid_kit.reports.occlusion import is_occlusion_task, occlusion_curves
from clipreid_kit.reports.similarities import Threshold, camera_table, similarity_chart
from clipreid_kit.viz import cmc_figure, occlusion_figure, training_figure

_NUM_RANKED = 8  # images of a ranked list
_NUM_IMAGE_QUERIES = 6
_NUM_TEXT_QUERIES = 4
# pixels, shown at half that size, so that they are sharp on a phone
_QUERY_SIDE, _RANKED_SIDE = 320, 160


def write_run_report(
    run: Path,
    *,
    title: str,
    note: str,
    settings: Mapping[str, Any],
    before: Evaluation,
    after: Evaluation | None = None,
    validation_task: str = "image_to_image",
    calibration: Threshold | None = None,
) -> None:
    """Write ``report.html``: main results, curves, similarities, camera pairs, and ranked lists.

    Needs jinja2 and matplotlib (``pip install clipreid_kit[report]``).

    Args:
        run: Folder of the run, with ``environment.json`` and, after training, ``metrics.jsonl``.
        title: Heading of the page.
        note: Why the run was made; a sentence.
        settings: Every setting of the run, as JSON can hold it.
        before: Evaluation before training.
        after: Evaluation of the trained model; ``None`` if nothing was trained.
        validation_task: Task whose validation is drawn by epoch.
        calibration: A ``Calibration`` whose threshold is drawn between the similarities; ``None``
            for the threshold that accepts 1 % of the pairs of two identities.

    Raises:
        ValueError: If neither images nor texts were searched for.
    """
    import yaml

    final = after or before
    if final.images is None and final.texts is None:
        raise ValueError(
            "write_run_report: the evaluation has no result. Pass one with images, with texts or "
            "with both."
        )

    moments = {"zero-shot": before}
    rows = []
    if after is not None:
        moments = {"before": before, "after": after}
        rows = read_json_lines(run / "metrics.jsonl")
    best_epoch = _best_epoch(rows)

    similarities = cameras = None
    if final.images is not None:
        similarities = similarity_chart(final, calibration)
        cameras = camera_table(final)

    page = render_page(
        title=title,
        summary=f"{_summary(final)} {_against_start(before, after)}".rstrip(),
        note=note,
        tasks=_tasks(before, after),
        other_tasks=_other_tasks(before, after),
        cmc=_cmc_chart(moments),
        similarities=similarities,
        cameras=cameras,
        occlusion=_occlusion_chart(final),
        training=_training_chart(rows, validation_task, best_epoch),
        best_epoch=best_epoch,
        validated=any(row.get("validation") for row in rows),
        image_queries=_image_queries(moments, final),
        text_queries=_text_queries(moments, final),
        settings=yaml.safe_dump(dict(settings), sort_keys=False),
        environment=read_object(run / "environment.json"),
    )
    write_whole(run / "report.html", page.encode())


def ranked_images(evaluation: Evaluation, query: int, *, by_text: bool) -> list[RankedImage]:
    """The most similar gallery images of a query, without those that the protocol leaves out.

    Args:
        evaluation: What was evaluated.
        query: Row of the query image, or of the caption.
        by_text: Whether the query is a caption.
    """
    identity, excluded = _identity_and_excluded(evaluation, query, by_text=by_text)
    queries = evaluation.text_embeddings if by_text else evaluation.query_embeddings

    # In float64, by which the evaluator ranks.
    embedding = queries[[query]].double()  # type: ignore[index]
    gallery = evaluation.gallery_embeddings.double()
    similarity = cosine_similarity(embedding, gallery)[0].numpy()
    order = np.argsort(-similarity, kind="stable").tolist()
    shown = [row for row in order if row not in excluded][:_NUM_RANKED]

    ranked = []
    for row in shown:
        record = evaluation.gallery[row]
        image = embed_image(load_image(record.path), max_side=_RANKED_SIDE)
        ranked.append(RankedImage(image, record.identity == identity, float(similarity[row])))
    return ranked


def count_matches(evaluation: Evaluation, query: int, *, by_text: bool) -> int:
    """Number of gallery images that match a query, without those that the protocol leaves out.

    Args:
        evaluation: What was evaluated.
        query: Row of the query image, or of the caption.
        by_text: Whether the query is a caption.
    """
    identity, excluded = _identity_and_excluded(evaluation, query, by_text=by_text)
    rows = enumerate(evaluation.gallery)
    return sum(record.identity == identity and row not in excluded for row, record in rows)


def _identity_and_excluded(
    evaluation: Evaluation, query: int, *, by_text: bool
) -> tuple[int | str, set[int]]:
    """Identity of a query, and the gallery rows that the protocol leaves out for it."""
    if by_text:
        identity, _ = evaluation.captions[query]
        return identity, set()
    return evaluation.query[query].identity, set(evaluation.excluded_rows(query))


def _summary(final: Evaluation) -> str:
    main: Any = final.images or final.texts
    first = next(iter(final.results.values()))
    rates = rates_of(first.to_dict())

    reached = f"Rank-1 {100 * (rates['R1'] or 0.0):.1f} %, mAP {100 * (rates['mAP'] or 0.0):.1f} %"
    if isinstance(first, SplitResults):
        reached += f", means of {first.num_splits} random galleries"
    return (
        f"Tested on {main.num_valid_queries} queries against {main.num_gallery} gallery images of "
        f"identities that were never trained on: {reached}."
    )


def _against_start(before: Evaluation, after: Evaluation | None) -> str:
    """Whether training made the frozen start model worse; empty without training."""
    if after is None:
        return ""
    sentences = verdict({"before": before.numbers(()), "after": after.numbers(())})
    return " ".join(line[0].upper() + line[1:] for line in sentences.splitlines())


def _tasks(before: Evaluation, after: Evaluation | None) -> list[Task]:
    tasks = []
    if before.images is not None:
        # the first protocol; its mean over splits, if it has several
        old = next(iter(before.results.values()))
        new = next(iter(after.results.values())) if after else None
        metrics = _metrics(old, new)
        tasks.append(Task("Image to image", metrics, "Which gallery images show it too?"))

    if before.texts is not None:
        metrics = _metrics(before.texts, after.texts if after else None)
        note = "A sentence describes it; which images show it?"
        tasks.append(Task("Text to image", metrics, note))

    return tasks


def _other_tasks(before: Evaluation, after: Evaluation | None) -> list[Task]:
    """Rank-1 and mAP of the tasks that have no card of their own, and no curve under occlusion."""
    first = next(iter(before.results))
    carded = {first, "text_to_image"} if before.images is not None else {"text_to_image"}

    tasks = []
    for name, result in before.results.items():
        if name not in carded and not is_occlusion_task(name):
            metrics = _metrics(result, after.results[name] if after else None)
            chosen = [metric for metric in metrics if metric.name in ("Rank-1", "mAP")]
            tasks.append(Task(task_title(name), chosen, ""))
    return tasks


def _metrics(before: Result, after: Result | None) -> list[Metric]:
    """Rows of a task's table."""
    old: Rates = {}
    new = rates_of(before.to_dict())
    if after is not None:
        old, new = new, rates_of(after.to_dict())

    metrics = []
    for column, name in TITLES.items():
        rate = new[column]
        metrics.append(Metric(name, old.get(column), math.nan if rate is None else rate))
    return metrics


def _cmc_chart(moments: Mapping[str, Evaluation]) -> dict[str, EmbeddedImage]:
    curves = {}
    for name, evaluation in moments.items():
        if evaluation.images is not None:
            curves[name] = evaluation.images.cmc
    if not curves:
        return {}

    return embed_chart(
        lambda theme, size: cmc_figure(curves, theme=theme, size=size),
        wide=(9.0, 3.8),
        narrow=(3.7, 3.3),
    )


def _occlusion_chart(final: Evaluation) -> dict[str, EmbeddedImage]:
    """Curves of mAP against the occluded share; empty if nothing was occluded."""
    curves = occlusion_curves(final.numbers(()))
    if not curves:
        return {}

    return embed_chart(
        lambda theme, size: occlusion_figure(curves, theme=theme, size=size),
        wide=(9.0, 3.4),
        narrow=(3.7, 3.3),
    )


def _training_chart(
    rows: list[dict[str, Any]], task: str, best_epoch: int | None
) -> dict[str, EmbeddedImage]:
    if not rows:
        return {}

    drawn = [{**row, **validation_rates(row, task)} for row in rows]
    metrics = {}
    for column in ("R1", "mAP"):
        if any(row[column] is not None for row in drawn):
            metrics[column] = TITLES[column]

    return embed_chart(
        lambda theme, size: training_figure(
            drawn,
            metric_keys=metrics,
            best_epoch=best_epoch,
            best_label=best_epoch_label(rows),
            theme=theme,
            size=size,
        ),
        wide=(9.0, 3.4),
        narrow=(3.7, 5.6),
    )


def _image_queries(moments: Mapping[str, Evaluation], final: Evaluation) -> list[RankedQuery]:
    queries = []
    for row in _chosen_queries(final.images, _NUM_IMAGE_QUERIES):
        record = final.query[row]
        camera = "" if record.camera is None else f", camera {record.camera}"
        title = f"Query: identity {record.identity}{camera}"
        image = embed_image(load_image(record.path), max_side=_QUERY_SIDE)
        num_matches = count_matches(final, row, by_text=False)
        rankings = _rankings(moments, row, by_text=False)
        queries.append(RankedQuery(title, image, num_matches, rankings))
    return queries


def _text_queries(moments: Mapping[str, Evaluation], final: Evaluation) -> list[RankedQuery]:
    captions = [caption for _, caption in final.captions]
    queries = []
    for row in _chosen_queries(final.texts, _NUM_TEXT_QUERIES):
        num_matches = count_matches(final, row, by_text=True)
        rankings = _rankings(moments, row, by_text=True)
        queries.append(RankedQuery("", captions[row], num_matches, rankings))
    return queries


def _rankings(
    moments: Mapping[str, Evaluation], query: int, *, by_text: bool
) -> dict[str, list[RankedImage]]:
    return {name: ranked_images(found, query, by_text=by_text) for name, found in moments.items()}


def _chosen_queries(result: ReidResult | None, count: int) -> list[int]:
    """Rows of queries from the best to the worst average precision, evenly spread."""
    if result is None:
        return []

    valid = np.flatnonzero(result.num_positives > 0)
    ordered = valid[np.argsort(-result.average_precision[valid], kind="stable")]
    positions = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [int(row) for row in ordered[positions]]


def _best_epoch(rows: list[dict[str, Any]]) -> int | None:
    """The last epoch that was the best so far; the last one if none is marked."""
    if not rows:
        return None

    best = rows[-1]
    for row in rows:
        if row.get("best"):
            best = row
    return int(best["epoch"])
