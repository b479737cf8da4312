"""Draw the images of the gallery page: ``python docs/make_gallery.py RUN [MORE_RUNS ...]``.

RUN is one of ``make quickstart`` with its embeddings (``clipreid evaluate RUN --features``). With
more runs, the curves of all of them are drawn too. Chromium and its driver have to be installed.
"""

import io
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from selenium import webdriver

from clipreid_kit.clip import ClipTowers, grad_cam, load_towers, word_relevance
from clipreid_kit.data import ImageRecord, eval_transform, load_image, read_csv
from clipreid_kit.reports import (
    Evaluation,
    gather_runs,
    read_features,
    sample_identities,
    write_error_pages,
    write_map_pages,
    write_run_report,
)
from clipreid_kit.reports.run_pages import features_of_runs
from clipreid_kit.reports.similarities import evaluation_histogram
from clipreid_kit.viz import (
    camera_pair_figure,
    camera_pair_rates,
    cmc_figure,
    embedding_map_figure,
    embedding_positions,
    figure_png,
    relevance_figure,
    similarity_histogram_figure,
    training_figure,
    word_relevance_figure,
)

IMAGES = Path(__file__).parent / "images" / "gallery"
DESKTOP, PHONE = (1180, 860), (390, 844)
NUM_COLOURS = 256  # of a PNG, so that it stays small
MAP_IMAGES = 160  # of the figure
PAGE_IMAGES = 480  # of the page
EXPLAINED = (12, 164, 388)  # rows of queries
DESCRIBED = (40, 200)


def main(runs: Sequence[Path]) -> None:
    """Write the images of a finished run."""
    run = runs[0]
    (features,) = features_of_runs([run]).values()
    evaluation = read_features(features)
    IMAGES.mkdir(exist_ok=True)

    write_curves(run, evaluation)
    write_similarities(evaluation)
    write_map(evaluation)
    write_relevance(run, evaluation)
    with tempfile.TemporaryDirectory() as folder:
        write_pages(runs, Path(folder))


def write_curves(run: Path, evaluation: Evaluation) -> None:
    """CMC and training curves."""
    write_image("cmc", figure_png(cmc_figure({"after training": evaluation.images.cmc})))

    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["mean_ap"] = row.get("validation", {}).get("image_to_image", {}).get("mean_ap")
    best = [row["epoch"] for row in rows if row.get("best")][-1]
    figure = training_figure(rows, metric_keys={"mean_ap": "mAP"}, best_epoch=best)
    write_image("training", figure_png(figure))


def write_similarities(evaluation: Evaluation) -> None:
    """Histogram of similarities, and rates by camera pair."""
    histogram = evaluation_histogram(evaluation)
    threshold = histogram.threshold(0.01)
    figure = similarity_histogram_figure(
        histogram, threshold=threshold, label="accepts 1 % of two identities:"
    )
    write_image("similarities", figure_png(figure))

    rates = camera_pair_rates(
        evaluation.query_embeddings,
        evaluation.gallery_embeddings,
        query_ids=[record.identity for record in evaluation.query],
        gallery_ids=[record.identity for record in evaluation.gallery],
        query_cameras=[str(record.camera) for record in evaluation.query],
        gallery_cameras=[str(record.camera) for record in evaluation.gallery],
    )
    write_image("camera_pairs", figure_png(camera_pair_figure(rates)))


def write_map(evaluation: Evaluation) -> None:
    """Map of the embeddings of some identities."""
    records = [*evaluation.query, *evaluation.gallery]
    rows = sample_identities(records, MAP_IMAGES)
    embeddings = torch.cat([evaluation.query_embeddings, evaluation.gallery_embeddings])
    figure = embedding_map_figure(
        embedding_positions(embeddings[rows]),
        identities=[records[row].identity for row in rows],
        cameras=[str(records[row].camera) for row in rows],
    )
    write_image("embedding_map", figure_png(figure))


def write_relevance(run: Path, evaluation: Evaluation) -> None:
    """What some matches were decided by, over images and in words."""
    checkpoints = run / "checkpoints"
    best = json.loads((checkpoints / "index.json").read_text(encoding="utf-8"))["best"]
    towers = load_towers(checkpoints / best).eval()

    similarity = evaluation.query_embeddings @ evaluation.gallery_embeddings.T
    shown, titles, maps = [], [], []
    for query in EXPLAINED:
        similarity[query, evaluation.excluded_rows(query)] = -torch.inf
        record, hit = evaluation.query[query], evaluation.gallery[int(similarity[query].argmax())]
        pair = encode_input(towers, [record, hit])
        with torch.no_grad():
            other = towers.encode_image(pair.flip(0))

        maps += list(grad_cam(towers, pair, other, stages_before=2))
        shown += [load_image(record.path), load_image(hit.path)]
        titles += [f"query: {record.identity}", f"first hit: {hit.identity}"]
    write_image("relevance", figure_png(relevance_figure(shown, maps, titles=titles)))

    captioned = {record.path: record for record in read_csv(run / "data" / "records.csv")}
    records = [captioned[evaluation.query[row].path] for row in DESCRIBED]
    with torch.no_grad():
        targets = towers.encode_image(encode_input(towers, records))
    words = word_relevance(towers, [record.caption or "" for record in records], targets)
    titles = [f"for an image of identity {record.identity}" for record in records]
    write_image("words", figure_png(word_relevance_figure(words, titles=titles)))


def write_pages(runs: Sequence[Path], folder: Path) -> None:
    """Photograph the pages, on a desktop and on a phone."""
    (errors,) = write_error_pages(runs[:1], folder)
    (embeddings,) = write_map_pages(runs[:1], folder, max_images=PAGE_IMAGES)
    write_image("errors_page", photograph(errors, DESKTOP))
    write_image("errors_page_phone", photograph(errors, PHONE))
    focus = "document.querySelectorAll('.point')[40].focus()"
    write_image("map_page", photograph(embeddings, DESKTOP, focus))

    shutil.copy(runs[0] / "environment.json", folder)
    (features,) = features_of_runs(runs[:1]).values()
    write_run_report(folder, title="Run", note="", settings={}, before=read_features(features))
    report = folder / "report.html"
    scroll = "document.querySelector('.histogram').scrollIntoView()"
    write_image("report", photograph(report, DESKTOP, scroll))

    if len(runs) > 1:
        gather_runs(list(runs), folder / "gathered")
        write_image("several_runs", (folder / "gathered" / "map_by_epoch.png").read_bytes())


def photograph(page: Path, size: tuple[int, int], script: str = "") -> bytes:
    """Open a page in Chromium, run a script in it, and return a PNG of what is seen."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)

    options.binary_location = shutil.which("chromium") or ""
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(page.resolve().as_uri())
        driver.execute_script(script)
        image: bytes = driver.get_screenshot_as_png()
    finally:
        driver.quit()
    return image


def encode_input(towers: ClipTowers, records: Sequence[ImageRecord]) -> torch.Tensor:
    """The images of records as the towers take them."""
    transform = eval_transform(towers.image_size)
    return torch.stack([transform(load_image(record.path)) for record in records])


def write_image(name: str, png: bytes) -> None:
    """Write a PNG with fewer colours, which is a third as large."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(
        IMAGES / f"{name}.png", optimize=True
    )


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
