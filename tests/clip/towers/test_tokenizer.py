import logging
import pickle

import open_clip
import pytest
import torch
from open_clip.tokenizer import HFTokenizer

import clipreid_kit.clip.towers.tokenizer as tokens_module
from clipreid_kit.clip.towers.tokenizer import TextTokenizer

SOT, EOT = 49406, 49407
LONG = "red " * 80


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer({"context_length": 77})


def test_equals_open_clip(tokenizer):
    texts = [
        "a photo of a person.",
        "",
        "Ein rotes Kleid, übergroß & schön!",
        "日本語 test",
        "a  b\n c",
    ]
    assert torch.equal(tokenizer(texts), open_clip.get_tokenizer("ViT-B-16")(texts))


def test_no_texts_give_no_rows(tokenizer):
    assert tokenizer([]).shape == (0, 77)
    assert tokenizer([]).dtype == torch.long


def test_count_includes_both_ends(tokenizer):
    assert tokenizer.count("") == 2
    assert tokenizer.count("a red coat") == 5
    assert tokenizer.count(LONG) == 82


def test_exactly_the_context_length_is_not_too_long(tokenizer):
    row = tokenizer(["red " * 75])[0]
    assert row[-1] == EOT
    assert (row == EOT).sum() == 1


def test_too_long_is_an_error_that_names_the_text(tokenizer):
    text = "x" + LONG
    with pytest.raises(
        ValueError, match=r"at most 77 tokens, start and end included, got 8\d tokens in 'xred"
    ) as error:
        tokenizer(["fine", text])
    assert repr(text[:60] + "...") in str(error.value)
    assert 'too_long="cut"' in str(error.value)


def test_cut_keeps_the_beginning_and_the_end_mark(tokenizer):
    with pytest.warns(
        UserWarning, match=r"tokenize: 1 of 2 texts have more than 77 tokens .* first: 'red red"
    ):
        rows = tokenizer(["a coat", LONG], too_long="cut")
    assert torch.equal(rows[1], tokenizer(["red " * 75])[0])
    assert torch.equal(rows, open_clip.get_tokenizer("ViT-B-16")(["a coat", LONG]))


SENTENCES = "A red coat. " * 20


def test_cut_at_a_sentence_keeps_whole_ones(tokenizer):
    # four tokens a sentence and two marks: 18 fit into 77
    row = tokenizer([SENTENCES], "sentence")
    assert torch.equal(row, tokenizer(["A red coat. " * 18]))
    assert tokenizer.count("A red coat. " * 18) == 74
    lines = "a red coat\n" * 30
    assert torch.equal(tokenizer([lines], "sentence"), tokenizer(["a red coat\n" * 25]))
    assert torch.equal(tokenizer(["A coat. " * 3], "sentence"), tokenizer(["A coat. " * 3]))
    assert torch.equal(
        tokenizer(["v1.5 of it! " + SENTENCES], "sentence"),
        tokenizer(["v1.5 of it! " + "A red coat. " * 17]),
    )


def test_a_first_sentence_that_does_not_fit_is_cut_with_a_warning(tokenizer):
    with pytest.warns(UserWarning, match="1 of 1 texts"):
        row = tokenizer([LONG + ". A coat."], "sentence")
    assert torch.equal(row, tokenizer(["red " * 75]))


def test_ids_of_a_piece_are_found_in_the_whole(tokenizer):
    piece, whole = tokenizer.inner_ids(" red coat"), tokenizer(["a red coat"])[0].tolist()
    assert whole[:5] == [SOT, tokenizer.inner_ids("a")[0], *piece, EOT]
    assert tokenizer.inner_ids("") == []


def test_cut_changes_no_text_that_fits(tokenizer):
    assert torch.equal(tokenizer(["a red coat"], "cut"), tokenizer(["a red coat"]))


def test_marks_inside_a_text_are_refused(tokenizer):
    with pytest.raises(
        ValueError, match=r"without start or end marks inside, got 'a <end_of_text> b'"
    ):
        tokenizer(["a <end_of_text> b"])


def test_survives_pickling(tokenizer):
    tokenizer.count("loaded")
    assert torch.equal(pickle.loads(pickle.dumps(tokenizer))(["a coat"]), tokenizer(["a coat"]))


@pytest.mark.unhooked
def test_refuses_what_is_no_list_of_texts(tokenizer):
    with pytest.raises(
        ValueError,
        match=r"expected a sequence of texts, got 'a coat'\. Put a single text into a list",
    ):
        tokenizer("a coat")
    with pytest.raises(ValueError, match=r"expected a sequence of texts, got \['a', 3\]"):
        tokenizer(["a", 3])
    with pytest.raises(ValueError, match=r"expected one text, got \['a'\]"):
        tokenizer.count(["a"])
    with pytest.raises(ValueError, match=r"too_long to be one of error, cut, sentence, got 'wrap'"):
        tokenizer(["a"], "wrap")


def test_a_string_is_refused_with_or_without_the_hook(tokenizer):
    with pytest.raises(ValueError, match="Put a single text into a list"):
        tokenizer("a coat")


class _Words:
    """What a Hugging Face tokenizer does, for words: ids by length, end mark 1, padding 0."""

    def __call__(
        self, texts, return_tensors=None, max_length=None, padding=None, truncation=False, **options
    ):
        single = isinstance(texts, str)
        ends = [] if options.get("add_special_tokens") is False else [1]
        rows = [
            [2 + len(word) for word in text.split()] + ends
            for text in ([texts] if single else texts)
        ]
        if truncation:
            rows = [row if len(row) <= max_length else [*row[: max_length - 1], 1] for row in rows]
        if padding:
            rows = torch.tensor([row + [0] * (max_length - len(row)) for row in rows])
        return type("Encoding", (), {"input_ids": rows[0] if single else rows})()

    batch_encode_plus = __call__  # what earlier versions of open_clip call


class _Stub(HFTokenizer):
    def __init__(self, name, context_length, tokenizer_mode=None, **options):
        self.name, self.context_length, self.tokenizer_mode = (
            name,
            context_length,
            tokenizer_mode or "",
        )
        self.clean_fn, self.strip_sep_token, self.tokenizer = str.strip, False, _Words()


CONFIG = {"hf_tokenizer_name": "some/words", "context_length": 5}


class TestHuggingFace:
    def test_is_made_when_first_needed(self, monkeypatch):
        made = []
        monkeypatch.setattr(
            tokens_module, "HFTokenizer", lambda *a, **k: made.append(a) or _Stub(*a, **k)
        )
        tokenizer = TextTokenizer(CONFIG)
        assert not made
        tokenizer.count("a b")
        tokenizer.count("a b c")
        assert made == [("some/words",)]

    def test_counts_cuts_and_refuses(self, monkeypatch):
        monkeypatch.setattr(tokens_module, "HFTokenizer", _Stub)
        tokenizer = TextTokenizer(CONFIG)
        assert tokenizer.count(" a bb ") == 3
        assert tokenizer(["a bb"]).tolist() == [[3, 4, 1, 0, 0]]
        with pytest.raises(
            ValueError,
            match=r"at most 5 tokens, start and end included, got 7 tokens in 'a a a a a a'",
        ):
            tokenizer(["a a a a a a"])
        with pytest.warns(UserWarning, match="1 of 1 texts have more than 5"):
            assert tokenizer(["a a a a a a"], "cut").tolist() == [[3, 3, 3, 3, 1]]
        assert tokenizer.inner_ids("a bb") == [3, 4]

    def test_clips_mode_adds_three(self, monkeypatch):
        monkeypatch.setattr(tokens_module, "HFTokenizer", _Stub)
        assert TextTokenizer({**CONFIG, "tokenizer_mode": "clips"}).count("a b") == 5

    @pytest.mark.parametrize(
        "error", [ImportError("no transformers"), OSError("offline\nlong story")]
    )
    def test_what_cannot_be_fetched_has_a_remedy(self, monkeypatch, error):
        def refuse(*arguments, **options):
            raise error

        monkeypatch.setattr(tokens_module, "HFTokenizer", refuse)
        tokenizer = TextTokenizer(CONFIG)
        with pytest.raises(
            ValueError, match=r"The tokenizer 'some/words' .*(no transformers|offline)\)\. Install"
        ) as got:
            tokenizer(["a"])
        assert "long story" not in str(got.value)


def test_makes_no_noise(tokenizer, caplog):
    with caplog.at_level(logging.INFO):
        TextTokenizer({"context_length": 77})(["a"])
    assert not caplog.records
