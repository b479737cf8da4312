"""The report of a run, from the evaluations that the trainer hands over."""

import json

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from run_folders import numbers, retrieval_numbers, write_run

from clipreid_kit import SplitResults, evaluate_reid
from clipreid_kit.data import ImageRecord
from clipreid_kit.reports import run_report
from clipreid_kit.reports.evaluation import Evaluation
from clipreid_kit.reports.measures import validation_rates

ROWS = [
    {"epoch": 1, "loss": 2.0, "best": False},
    {"epoch": 2, "loss": 1.5, "validation": {"image_to_image": numbers(0.5)}, "best": True},
    {"epoch": 3, "loss": 1.2, "best": False},
]


def evaluation(folder, seed, results=("image_to_image", "text_to_image")):
    records = []
    for index in range(6):
        path = folder / f"{index}.png"
        Image.new("RGB", (16, 32), (40 * index, 0, 0)).save(path)
        records.append(ImageRecord(str(path), index % 3, camera=index // 3))

    embeddings = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    ids = [record.identity for record in records]
    result = evaluate_reid(embeddings[:3], embeddings[3:], query_ids=ids[:3], gallery_ids=ids[3:])
    return Evaluation(
        results=dict.fromkeys(results, result),
        query=records[:3],
        gallery=records[3:],
        query_embeddings=embeddings[:3],
        gallery_embeddings=embeddings[3:],
        text_embeddings=embeddings[:3],
        captions=[(identity, f"Sentence {identity}") for identity in range(3)],
        camera_rule=True,
    )


def write(tmp_path, rows, before, after=None, task="image_to_image"):
    """The page of a run."""
    run = write_run(tmp_path / "run")
    (run / "environment.json").write_text('{"torch": "2.9"}')
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_report.write_run_report(
        run,
        title="run: joint",
        note="A note.",
        settings={"stage": "joint", "loss": {"id": 1.0}},
        before=before,
        after=after,
        validation_task=task,
    )
    return (run / "report.html").read_text()


def report(tmp_path, monkeypatch, rows, task="image_to_image"):
    """Options of each figure of the training, and the page."""
    drawn = []

    def recorded(_, **options):
        drawn.append(options)
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(run_report, "training_figure", recorded)
    before, after = evaluation(tmp_path, 0), evaluation(tmp_path, 1)
    return drawn, write(tmp_path, rows, before, after, task)


def test_the_best_validated_epoch_is_marked(tmp_path, monkeypatch):
    drawn, page = report(tmp_path, monkeypatch, ROWS)
    assert drawn[0]["best_epoch"] == 2
    assert drawn[0]["best_label"] == "best: epoch {epoch}"
    assert list(drawn[0]["metric_keys"].values()) == ["Rank-1", "mAP"]
    assert "Epoch 2 was best on validation identities" in page


def test_without_validation_the_last_epoch_is_shown(tmp_path, monkeypatch):
    rows = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "best": True}]
    drawn, page = report(tmp_path, monkeypatch, rows)
    assert drawn[0]["best_epoch"] == 2
    assert drawn[0]["metric_keys"] == {}
    assert drawn[0]["best_label"] == "last epoch"
    assert "as none was validated" in page


@pytest.mark.parametrize("rows", [[], [{"epoch": 1, "loss": 2.0}]])
def test_few_rows(tmp_path, monkeypatch, rows):
    drawn, page = report(tmp_path, monkeypatch, rows)
    assert len(drawn) == 4 * len(rows)  # light and dark, wide and narrow
    assert ("<h2>Training</h2>" in page) == bool(rows)


def test_the_validation_of_the_named_task_is_drawn(tmp_path, monkeypatch):
    validation = {"image_to_image": numbers(0.5), "text_to_image": retrieval_numbers(0.3)}
    row = {"epoch": 1, "loss": 2.0, "validation": validation, "best": True}

    tasks = []

    def recorded(row, task):
        tasks.append(task)
        return validation_rates(row, task)

    monkeypatch.setattr(run_report, "validation_rates", recorded)
    report(tmp_path, monkeypatch, [row], task="text_to_image")
    assert tasks == ["text_to_image"]


def test_the_page_holds_title_note_settings_environment_and_captions(tmp_path):
    page = write(tmp_path, ROWS, evaluation(tmp_path, 0), evaluation(tmp_path, 1))
    assert "<h1>run: joint</h1>" in page
    assert "Tested on 3 queries against 3 gallery images of identities" in page
    assert page.index("Tested on 3 queries") < page.index("A note.")
    assert "stage: joint\nloss:\n  id: 1.0\n" in page
    assert "<dt>torch</dt><dd>2.9</dd>" in page
    assert "Sentence 1" in page
    assert "Query: identity 0, camera 0" in page


def test_a_run_without_training_has_one_column_and_one_ranking(tmp_path):
    page = write(tmp_path, ROWS, evaluation(tmp_path, 0))
    assert '<th scope="col">Result</th>' in page
    assert '<th scope="col">Before</th>' not in page
    assert page.count("<h4>zero-shot ") == 3 + 3  # image and text queries
    assert "<h2>Training</h2>" not in page


def test_several_splits_are_means(tmp_path):
    found = evaluation(tmp_path, 0, results=("image_to_image.splits",))
    single = found.results["image_to_image.splits"]
    found.results["image_to_image.splits"] = SplitResults((single, single), "splits")
    page = write(tmp_path, [], found)
    assert f"Rank-1 {100 * single.rank(1):.1f} %" in page
    assert "means of 2 random galleries" in page


def test_other_tasks_are_in_one_table_without_those_under_occlusion(tmp_path):
    names = ["image_to_image", "image_to_image.rerank", "image_to_image.occluded_top_30"]
    before, after = (evaluation(tmp_path, seed, results=names) for seed in (0, 1))
    page = write(tmp_path, [], before, after)
    assert page.count("Image to image, rerank</th>") == 1
    assert "Rank-1 before" in page
    assert "Image to image, occluded top 30</th>" not in page


def test_a_single_task_leaves_the_table_out(tmp_path):
    assert "Other tasks" not in write(tmp_path, [], evaluation(tmp_path, 0))


def test_texts_alone_make_a_report(tmp_path):
    page = write(tmp_path, [], evaluation(tmp_path, 0, results=("text_to_image",)))
    assert "<caption>Text to image</caption>" in page
    assert "<caption>Image to image</caption>" not in page
    assert "Cumulative matching" not in page


def test_an_evaluation_of_neither_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="the evaluation has no result"):
        write(tmp_path, [], evaluation(tmp_path, 0, results=("image_to_text",)))


def test_ranked_images_leave_out_the_camera_of_the_query(tmp_path):
    found = evaluation(tmp_path, 0)
    found.gallery = [*found.gallery, ImageRecord(found.query[0].path, 0, camera=0)]
    found.gallery_embeddings = torch.cat([found.gallery_embeddings, found.query_embeddings[:1]])

    ranked = run_report.ranked_images(found, 0, by_text=False)
    assert run_report.count_matches(found, 0, by_text=False) == 1
    assert run_report.count_matches(found, 0, by_text=True) == 2
    assert len(ranked) == 3
    assert sum(image.matches for image in ranked) == 1
    similarities = [image.similarity for image in ranked]
    assert similarities == sorted(similarities, reverse=True)


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch, step):
    write(tmp_path, [], evaluation(tmp_path, 0, results=("text_to_image",)))
    report_path = tmp_path / "run" / "report.html"
    report_path.write_text("old")
    files = sorted(path.name for path in report_path.parent.iterdir())

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="no space left"):
        run_report.write_run_report(
            report_path.parent, title="T", note="N.", settings={}, before=evaluation(tmp_path, 0)
        )
    assert report_path.read_text() == "old"
    assert sorted(path.name for path in report_path.parent.iterdir()) == files
