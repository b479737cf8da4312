import pickle
import unittest

import open_clip
import pytest
import torch
from open_clip.tokenizer import HFTokenizer

import clipreid_kit.clip.towers.tokenizer as tokenizer_module
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


def test_no_texts_return_no_rows(tokenizer):
    rows = tokenizer([])
    assert rows.shape == (0, 77)
    assert rows.dtype == torch.long


def test_the_count_includes_start_and_end(tokenizer):
    assert tokenizer.count("") == 2
    assert tokenizer.count("a red coat") == 5
    assert tokenizer.count(LONG) == 82


def test_exactly_the_context_length_is_not_too_long(tokenizer):
    row = tokenizer(["red " * 75])[0]
    assert row[-1] == EOT
    assert (row == EOT).sum() == 1


def test_too_long_is_an_error_that_quotes_the_text(tokenizer):
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


class TestSentences:
    """Each sentence of ``A red coat.`` has four tokens, so that 18 of them fit beside two marks."""

    many = "A red coat. " * 20
    fitting = "A red coat. " * 18

    def test_the_fitting_ones_have_74_tokens(self, tokenizer):
        assert tokenizer.count(self.fitting) == 74

    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            (many, fitting),
            ("a red coat\n" * 30, "a red coat\n" * 25),  # a line is a sentence
            ("A coat. " * 3, "A coat. " * 3),
            ("v1.5 of it! " + many, "v1.5 of it! " + "A red coat. " * 17),  # no end inside 1.5
        ],
    )
    def test_whole_sentences_are_kept(self, tokenizer, text, kept):
        assert torch.equal(tokenizer([text], "sentence"), tokenizer([kept]))

    def test_a_first_sentence_that_does_not_fit_is_cut_with_a_warning(self, tokenizer):
        with pytest.warns(UserWarning, match="1 of 1 texts"):
            row = tokenizer([LONG + ". A coat."], "sentence")
        assert torch.equal(row, tokenizer(["red " * 75]))


def test_ids_of_a_piece_occur_in_the_whole(tokenizer):
    whole = tokenizer(["a red coat"])[0].tolist()
    first, piece = tokenizer.inner_ids("a"), tokenizer.inner_ids(" red coat")
    assert whole[:5] == [SOT, *first, *piece, EOT]
    assert tokenizer.inner_ids("") == []


def test_cut_leaves_a_text_that_fits_unchanged(tokenizer):
    assert torch.equal(tokenizer(["a red coat"], "cut"), tokenizer(["a red coat"]))


def test_marks_inside_a_text_are_refused(tokenizer):
    with pytest.raises(
        ValueError, match=r"without start or end marks inside, got 'a <end_of_text> b'"
    ):
        tokenizer(["a <end_of_text> b"])


@pytest.mark.parametrize("given", [False, True])
def test_survives_pickling(tokenizer, given):
    if given:
        tokenizer = TextTokenizer({}, open_clip.get_tokenizer("ViT-B-32"))
    tokenizer.count("loaded")

    pickled = pickle.dumps(tokenizer)
    assert (len(pickled) > 1_000_000) == given  # the vocabulary that all share is left out

    twin = pickle.loads(pickled)
    assert torch.equal(twin(["a coat"]), tokenizer(["a coat"]))


def test_the_context_length_is_shown(tokenizer):
    assert repr(tokenizer) == "TextTokenizer(context_length=77)"


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("work", "match"),
    [
        (
            lambda tokenizer: tokenizer("a coat"),
            r"expected a sequence of texts, got 'a coat'\. Put a single text into a list",
        ),
        (
            lambda tokenizer: tokenizer(["a", 3]),
            r"expected a sequence of texts, got \['a', 3\]",
        ),
        (lambda tokenizer: tokenizer.count(["a"]), r"expected one text, got \['a'\]"),
        (lambda tokenizer: tokenizer.inner_ids(["a"]), r"expected one text, got \['a'\]"),
        (
            lambda tokenizer: tokenizer(["a"], "wrap"),
            r"too_long to be one of error, cut, sentence, got 'wrap'",
        ),
    ],
)
def test_other_arguments_are_refused(tokenizer, work, match):
    with pytest.raises(ValueError, match=match):
        work(tokenizer)


def test_a_string_is_refused_with_or_without_the_hook(tokenizer):
    with pytest.raises(ValueError, match="Put a single text into a list"):
        tokenizer("a coat")


class WordTokenizer:
    """A stand-in for a tokenizer of Hugging Face: ids by word length, end mark 1, padding 0."""

    def __call__(
        self, texts, return_tensors=None, max_length=None, padding=None, truncation=False, **options
    ):
        if isinstance(texts, str):
            return Encoding(self.ids(texts, **options))

        rows = [self.ids(text, **options) for text in texts]
        if truncation:
            rows = [row if len(row) <= max_length else [*row[: max_length - 1], 1] for row in rows]
        if padding:
            rows = torch.tensor([row + [0] * (max_length - len(row)) for row in rows])
        return Encoding(rows)

    batch_encode_plus = __call__  # the name that earlier versions of open_clip call

    def ids(self, text, add_special_tokens=True):
        ids = [2 + len(word) for word in text.split()]
        return [*ids, 1] if add_special_tokens else ids


class Encoding:
    def __init__(self, input_ids):
        self.input_ids = input_ids


class OfflineTokenizer(HFTokenizer):
    def __init__(self, name, context_length, tokenizer_mode=None, **options):
        self.name = name
        self.context_length = context_length
        self.tokenizer_mode = tokenizer_mode or ""
        self.clean_fn = str.strip
        self.strip_sep_token = False
        self.tokenizer = WordTokenizer()


CONFIG = {"hf_tokenizer_name": "some/words", "context_length": 5}


class TestHuggingFace:
    @pytest.fixture
    def tokenizer(self, monkeypatch):
        monkeypatch.setattr(tokenizer_module, "HFTokenizer", OfflineTokenizer)
        return TextTokenizer(CONFIG)

    def test_is_loaded_at_its_first_use_and_once(self, monkeypatch):
        loaded = []

        def load(name, **options):
            loaded.append(name)
            return OfflineTokenizer(name, **options)

        monkeypatch.setattr(tokenizer_module, "HFTokenizer", load)
        tokenizer = TextTokenizer(CONFIG)
        assert loaded == []

        tokenizer.count("a b")
        tokenizer.count("a b c")
        assert loaded == ["some/words"]

    def test_counts(self, tokenizer):
        assert tokenizer.count(" a bb ") == 3
        assert tokenizer.inner_ids("a bb") == [3, 4]

    def test_pads(self, tokenizer):
        assert tokenizer(["a bb"]).tolist() == [[3, 4, 1, 0, 0]]

    def test_refuses_too_long_texts(self, tokenizer):
        with pytest.raises(
            ValueError,
            match=r"at most 5 tokens, start and end included, got 7 tokens in 'a a a a a a'",
        ):
            tokenizer(["a a a a a a"])

    def test_cuts(self, tokenizer):
        with pytest.warns(UserWarning, match="1 of 1 texts have more than 5"):
            rows = tokenizer(["a a a a a a"], "cut")
        assert rows.tolist() == [[3, 3, 3, 3, 1]]

    def test_clips_mode_counts_three_marks(self, monkeypatch):
        monkeypatch.setattr(tokenizer_module, "HFTokenizer", OfflineTokenizer)
        assert TextTokenizer({**CONFIG, "tokenizer_mode": "clips"}).count("a b") == 5

    @pytest.mark.parametrize(
        "error", [ImportError("no transformers"), OSError("offline\nlong story")]
    )
    def test_a_failure_to_load_has_a_remedy(self, monkeypatch, error):
        def refuse(*arguments, **options):
            raise error

        monkeypatch.setattr(tokenizer_module, "HFTokenizer", refuse)
        tokenizer = TextTokenizer(CONFIG)
        with pytest.raises(
            ValueError,
            match=r"The tokenizer 'some/words' .*(no transformers|offline)\)\. Install",
        ) as raised:
            tokenizer(["a"])
        assert "long story" not in str(raised.value)


def test_towers_of_one_context_length_share_a_vocabulary():
    first, second = TextTokenizer({"context_length": 77}), TextTokenizer({"context_length": 77})
    other = TextTokenizer({"context_length": 16})

    assert first._tokenizer() is second._tokenizer()
    assert first(["a cat"]).shape == (1, 77)
    assert other(["a cat"]).shape == (1, 16)


def test_options_of_the_tokenizer_are_kept():
    kept = TextTokenizer({"context_length": 77, "tokenizer_kwargs": {"clean": "canonicalize"}})
    plain = TextTokenizer({"context_length": 77})

    assert kept.count("a cat, a dog") == 6
    assert plain.count("a cat, a dog") == 7


def test_logs_nothing():
    with unittest.TestCase().assertNoLogs(level="INFO"):
        TextTokenizer({"context_length": 77})(["a"])
