"""The cross-domain matrix: options with several values, names, and the table."""

import pytest

import examples.trainer.cross_domain as trainer


@pytest.fixture
def asked(monkeypatch, tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
    calls = []

    def evaluate_matrix(trained, tests, out):
        calls.append((trained, tests, out))
        tasks = {"image_to_image": {"rank_1": 0.5, "mean_ap": 0.25}}
        return {name: {test: [tasks] for test in tests} for name in trained}

    monkeypatch.setattr(trainer, "evaluate_matrix", evaluate_matrix)
    return calls


def test_each_option_takes_several_values(clipreid, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = clipreid(
        *["compare", "--train", "a", "old=b", "--test", "a", "b", "c", "--evaluations", "e"]
    )
    assert status == 0
    (trained, tests, folder), *_ = asked
    assert list(trained) == ["a", "old"]
    assert list(tests) == ["a", "b", "c"]
    assert folder.name == "e"
    assert "| old | 50.00 | 25.00 |" in out

    status, out, _ = clipreid("compare", "--test", "b", "--out", "t.tex", "--train", "a")
    assert (status, out) == (0, "")
    assert r"\begin{tabular}{lrr}" in (tmp_path / "t.tex").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--train a", "--train needs --test PATH"),
        ("--train a --test d", "there is no d"),
        ("--train a a --test b", "each needs a name of its own; write NAME=a"),
        ("--train a --test b --seed 1", "--seed have no effect with --train"),
        ("--train a --test b --out t.txt", "name a .md, .tex or .html file"),
        ("a --evaluations b", "--evaluations needs --train"),
        ("", "name a folder of recipes, or runs"),
    ],
)
def test_mistakes_are_explained(clipreid, asked, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, error = clipreid("compare", *arguments.split())
    assert status == 2
    assert message in error
