"""Published figures are read strictly, and laid beside the runs of their names."""

import csv
import re
from pathlib import Path

import pytest
import yaml
from run_folders import both, write_run

from clipreid_kit.reports import gather_runs
from clipreid_kit.reports.published import read_published

PAPERS = Path(__file__).parents[2] / "examples" / "recipes" / "papers"


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "published.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture
def runs(tmp_path):
    for seed, rate in enumerate((0.7, 0.8)):
        run = tmp_path / "runs" / "reid" / f"seed{seed}"
        write_run(run, seed=seed, rates=[rate], results=both(0.25, rate))
    write_run(tmp_path / "runs" / "other", rates=[0.5], results=both(0.25, 0.5), lr=7.0)
    return tmp_path / "runs"


def test_a_published_row_beside_the_mean_of_runs(runs, write, tmp_path):
    path = write('version,source,mAP,R1,R5\nreid,"A paper, 2020",70,76.5,\nabsent,Another,1,2,3\n')
    printed = gather_runs([runs], tmp_path / "out", published=path)

    text = (tmp_path / "out" / "published.md").read_text(encoding="utf-8")
    assert text in printed
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[4:]]
    task = "image_to_image"
    assert cells == [
        ["reid", task, "R1", "2", "75.00 ± 7.07", "76.50", "-1.50", "A paper, 2020"],
        ["reid", task, "mAP", "2", "65.00 ± 7.07", "70.00", "-5.00", "A paper, 2020"],
    ]
    with (tmp_path / "out" / "published.csv").open(encoding="utf-8") as file:
        (first, _) = csv.DictReader(file)
    assert float(first["difference_fraction"]) == pytest.approx(-0.015)


def test_without_a_run_of_that_name_nothing_is_written(runs, write, tmp_path):
    path = write("version,source,mAP\nabsent,Another,1\n")
    with pytest.raises(ValueError, match=r"no complete run has the name .* after them: absent"):
        gather_runs([runs], tmp_path / "out", published=path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"expected the columns version, source and some of R1, R5, R10, mAP, got none"),
        ("version,mAP\n", r"got version, mAP"),
        ("version,source,map\n", r"got version, source, map"),
        ("version,source,mAP\na,b,high\n", r"mAP of a is 'high', and no percentage"),
        ("version,source,mAP\na,b,101\n", r"mAP of a is '101', and no percentage"),
        ("version,source,mAP\na,b,nan\n", r"mAP of a is 'nan', and no percentage"),
    ],
)
def test_damaged_tables(write, text, match):
    with pytest.raises(ValueError, match=match):
        read_published(write(text))


def test_an_absent_table(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.csv: cannot read published figures"):
        read_published(tmp_path / "absent.csv")


def test_the_table_of_the_papers_holds_the_figures_of_the_recipes():
    published = {figures.version: figures for figures in read_published(PAPERS / "published.csv")}
    assert list(published) == sorted(path.stem for path in PAPERS.glob("*.yaml"))

    for version, figures in published.items():
        tree = yaml.safe_load((PAPERS / f"{version}.yaml").read_text(encoding="utf-8"))
        note = " ".join(tree["note"].split())
        stated = re.search(r"Published ([^()]+) \(([^)]+)\)", note)
        named = dict(re.findall(r"(mAP|Rank-\d+) ([\d.]+)", stated[1]))
        wanted = {name.replace("Rank-", "R"): float(value) for name, value in named.items()}

        assert figures.source == stated[2]
        assert figures.rates == pytest.approx({k: v / 100 for k, v in wanted.items()})
