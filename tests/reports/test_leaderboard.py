import json
import re

import pytest
from run_folders import random_result, write_compared_run

from clipreid_kit.reports import leaderboard_page


def add_run(folder, seed, lr, shift, data="same", **numbers):
    """A run with numbers of one task, and perhaps of more."""
    result = random_result(seed, shift)
    write_compared_run(folder, seed, lr, result, data)
    path = folder / "comparable.json"
    content = json.loads(path.read_text())
    content["numbers"] = {"image_to_image": result.to_dict(), **numbers}
    content["versions"] = {"clipreid_kit": "0.1.0", "torch": "2.9", "revision": "0123456789abc"}
    path.write_text(json.dumps(content))
    return result


def rows_of(board):
    """The texts of the cells of a table's rows."""
    rows = []
    for row in re.findall(r"<tr>(.*?)</tr>", board.split("<tbody>")[1], re.DOTALL):
        cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        rows.append([re.sub(r"<[^>]+>", "", cell).strip() for cell in cells])
    return rows


def test_seeds_are_one_row_and_the_best_is_first(tmp_path):
    bad = add_run(tmp_path / "bad", 0, 0.1, 0.0)
    good = [add_run(tmp_path / "good" / f"seed{seed}", seed, 0.2, 0.3) for seed in (0, 1)]
    page = leaderboard_page([tmp_path], title="Ours <1>")

    assert page.count("<tbody>") == 1
    assert "Ours &lt;1&gt;" in page
    assert "3 runs of 2 models" in page
    first, second = rows_of(page)
    mean = 50 * (good[0].mean_ap + good[1].mean_ap)
    std = 50**0.5 * 10 * abs(good[0].mean_ap - good[1].mean_ap)
    assert first[0] == "good"
    assert first[4] == f"{mean:.2f} ± {std:.2f}"
    assert first[6:] == ["0, 1", "joint", "0.1.0", "2.9", "012345678"]
    assert second[0] == "bad"
    assert second[4] == f"{100 * bad.mean_ap:.2f}"
    assert '"lr": 0.2' in page.replace("&#34;", '"')


def test_other_images_and_other_tasks_are_other_tables(tmp_path):
    add_run(tmp_path / "a", 0, 0.1, 0.0, text_to_image={"hit_rate_1": 0.25, "mean_ap": 0.5})
    add_run(tmp_path / "b", 0, 0.2, 0.1, data="others")
    (tmp_path / "c.json").write_text(random_result(3, 0.2).to_json(per_query=True))
    boards = leaderboard_page([tmp_path / "a", tmp_path / "b", tmp_path / "c.json"]).split("<h2>")

    assert [rows_of(board)[0][0] for board in boards[1:-1]] == ["a", "a", "b", "c"]
    assert boards[2].startswith("Text to image")
    assert rows_of(boards[2])[0][1:6] == ["25.00", "n/a", "n/a", "50.00", "n/a"]
    assert "do not say what was tested" in boards[4]


def test_nothing_is_fetched(tmp_path):
    add_run(tmp_path / "<script src=x>", 0, 0.1, 0.0)
    page = leaderboard_page([tmp_path])
    assert not re.search(r"<(link|img|iframe)|<script [^>]*src|https?:|@import", page)
    assert "default-src 'none'" in page


def test_a_run_without_results(tmp_path):
    write_compared_run(tmp_path / "killed", 0, 0.3)
    with pytest.raises(ValueError, match=r"killed: the run has no comparable\.json"):
        leaderboard_page([tmp_path])
