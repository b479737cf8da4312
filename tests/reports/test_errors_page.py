import re

import numpy as np
import torch
from PIL import Image

from clipreid_kit.data import ImageRecord
from clipreid_kit.reports import Evaluation, errors_page

EVIL = '<script>alert("x")</script>'


def evaluation(folder, *, wrong=True):
    """One query with a right image, and a nearer image of another identity, if wrong."""
    rng = np.random.default_rng(0)
    records = []
    for number, identity in enumerate((EVIL, "rex", EVIL)):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (300, 100, 3), dtype=np.uint8)).save(path)
        records.append(ImageRecord(str(path), identity, camera=number))

    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    others = rows[1:] if wrong else rows[[2, 1]]
    return Evaluation({}, records[:1], records[1:], rows[:1], others, None, [], False)


def test_the_page_shows_query_wrong_and_right_image(tmp_path):
    page = errors_page(evaluation(tmp_path), title="A & B")

    assert "<title>A &amp; B</title>" in page
    assert "1 of 1 queries have a wrong first hit" in page
    assert page.count('src="data:image/jpeg;base64,') == 3
    assert 'width="64" height="192"' in page
    assert "rank 1, similarity 0.800" in page
    assert "rank 2, similarity 0.600" in page
    assert 'alt="First hit: identity rex, camera 1"' in page


def test_names_are_escaped_and_nothing_runs_or_is_fetched(tmp_path):
    page = errors_page(evaluation(tmp_path))
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "default-src 'none'" in page


def test_each_kind_has_a_filter_with_its_rule_and_number(tmp_path):
    page = errors_page(evaluation(tmp_path))
    for key, number in (("colours", 0), ("occlusion", 0), ("labels", 0), ("other", 1)):
        assert f"main:has(#show-{key}:checked) .error:not(.{key}) {{ display: none; }}" in page
        disabled = " disabled" if number == 0 else ""
        assert f'id="show-{key}"{disabled}>' in page
    assert 'class="card error other"' in page
    assert "histogram intersection" in page


def test_a_model_without_errors_has_a_page_too(tmp_path):
    page = errors_page(evaluation(tmp_path, wrong=False))
    assert "0 of 1 queries have a wrong first hit" in page
    assert "Every query with a match has it first." in page
