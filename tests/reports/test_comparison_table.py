import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics import Comparison, ConfidenceInterval, PairedDifference, SeedMean
from clipreid_kit.reports import comparison_table


def make(names=("base", "new"), stds=(None, 0.01), p_value=0.004, **options):
    """The second model is 0.1 better; the test has the given p-value."""
    first, second = names
    rates = {
        first: {"mean_ap": SeedMean(0.5, stds[0], 1)},
        second: {"mean_ap": SeedMean(0.6, stds[1], 3)},
    }
    effect = ConfidenceInterval(-0.1, -0.15, -0.05)
    pair = PairedDifference(first, second, "mean_ap", effect, p_value, p_value, False)
    counts = {"num_queries": 1200, "num_identities": 100, "num_samples": 10_000}
    return Comparison(rates, (pair,), **{"level": 0.05, **counts, **options})


def test_markdown():
    assert comparison_table(make()) == (
        "**Rates (%)**\n\n"
        "|   | model | mAP |\n|:--|:--|--:|\n"
        "| a | base | 50.00 |\n"
        "| b | new | 60.00 ± 1.00 <sup>a</sup> |\n\n"
        "**Differences (percentage points, first minus second)**\n\n"
        "| models | measure | difference | 95 % interval | p | corrected p |\n"
        "|:--|:--|--:|--:|--:|--:|\n"
        "| base against new | mAP | "
        "\u221210.00 | \u221215.00 to \u22125.00 | 0.0040 | 0.0040 <sup>\\*</sup> |\n\n"
        "Letters after a rate: the models that are significantly worse. \\*: corrected p at most "
        "0.05. Test: two-sided paired permutation test, 10,000 random swaps of whole identities "
        "(100 identities, 1,200 queries). Correction: Holm, over 1 test. Intervals: percentile "
        "bootstrap over identities, 10,000 samples, not corrected. Rates of several runs: mean ± "
        "standard deviation. The test takes each query's mean over the runs, so it holds for "
        "these runs and not for the spread between seeds.\n"
    )


def test_no_mark_without_significance():
    text = comparison_table(make(p_value=0.06))
    assert "<sup>" not in text
    assert "60.00 ± 1.00 |" in text


def test_latex():
    text = comparison_table(make(("a_b & 50%", "new")), "latex")
    assert r"a & a\_b \& 50\% & 50.00 \\" in text
    assert r"b & new & 60.00 $\pm$ 1.00 \textsuperscript{a} \\" in text
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 2
    assert r"\begin{tabular}{llr}" in text
    assert r"\begin{tabular}{llrrrr}" in text


class Cells(HTMLParser):
    """The texts of the cells of each row."""

    def __init__(self):
        super().__init__()
        self.rows, self.tags, self.is_cell = [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        self.is_cell = tag in ("td", "th", "sup")
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.is_cell &= tag == "sup"

    def handle_data(self, data):
        if self.is_cell:
            self.rows[-1][-1] += data


def test_html():
    reader = Cells()
    reader.feed(comparison_table(make(("<script>alert(1)</script>", "new")), "html"))

    assert reader.rows[1] == ["a", "<script>alert(1)</script>", "50.00"]
    assert reader.rows[2] == ["b", "new", "60.00 ± 1.00 a"]
    assert "script" not in [tag for tag, _ in reader.tags]
    assert not any("src" in attrs or "href" in attrs for _, attrs in reader.tags)


@given(st.text(max_size=12))
def test_any_name_is_one_cell(name):
    comparison = make((f"a{name}", "new"), p_value=0.9)
    lines = comparison_table(comparison).split("\n")
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[4])) == 4

    reader = Cells()
    reader.feed(comparison_table(comparison, "html"))
    shown = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", f"a{name}").split()
    assert reader.rows[1][1].split() == shown

    latex = comparison_table(comparison, "latex")
    row = next(line for line in latex.split("\n") if line.startswith("a & "))
    assert len(re.findall(r"(?<!\\)&", row)) == 2
    assert not re.search(r"(?<!\\)[%#_]", row)


def test_exact_tests_are_said():
    pair = make().differences[0]
    exact = pair._replace(is_exact=True)
    rates = make().rates
    counts = (0.05, 12, 6, 1000)
    assert ", all swaps of whole" in comparison_table(Comparison(rates, (exact,), *counts))

    mixed = comparison_table(Comparison(rates, (exact, pair), *counts))
    assert "all swaps, or 1,000 random ones where there are more, of whole" in mixed
    assert "over 2 tests" in mixed


@pytest.mark.unhooked
def test_an_unknown_format():
    with pytest.raises(ValueError, match="comparison_table: expected form to be one of markdown"):
        comparison_table(make(), "pdf")


def test_the_legend_is_in_every_format():
    for form in ("markdown", "latex", "html"):
        text = html.unescape(comparison_table(make(), form))
        for words in ("permutation test", "Holm", "at most 0.05"):
            assert words in text
