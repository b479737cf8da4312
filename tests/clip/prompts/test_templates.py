import pytest
import torch

from clipreid_kit.clip import ClipTowers
from clipreid_kit.clip.prompts.templates import PromptTemplates, fill_template

PERSON = "A photo of a {tokens} person."


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit").eval()


@pytest.mark.parametrize("num_tokens", [1, 4, 8])
def test_the_span_is_in_place_of_the_placeholder(towers, num_tokens):
    templates = PromptTemplates("owner", towers, PERSON, None, num_tokens)
    tail = towers.token_ids("person.")

    assert templates.starts == (5,)  # start, a, photo, of, a
    assert templates.eots == (5 + num_tokens + len(tail),)

    row = templates.tokens[0].tolist()
    assert len(row) == templates.eots[0] + 1
    assert row[1:5] == towers.token_ids("A photo of a")
    assert row[5 + num_tokens : -1] == tail
    assert row[-1] == max(row)  # the end-of-text token is kept


def test_only_the_span_changes(towers):
    templates = PromptTemplates("owner", towers, PERSON, None, 2)
    learned = torch.randn(3, 2, towers.text_width)

    embeddings, eot = templates(towers, learned)

    words = towers.embed_tokens(templates.tokens)
    assert torch.equal(embeddings[:, :5], words[:, :5].expand(3, -1, -1))
    assert torch.equal(embeddings[:, 5:7], learned)
    assert torch.equal(embeddings[:, 7:], words[:, 7:].expand(3, -1, -1))
    assert eot.tolist() == [9, 9, 9]


@pytest.mark.parametrize(
    "template", ["{tokens} person", "x {tokens} q x", "a photo of {tokens}", "{tokens}"]
)
def test_the_placeholder_may_be_anywhere_and_beside_filler_words(towers, template):
    templates = PromptTemplates("owner", towers, template, None, 3)

    before = template.split("{tokens}")[0].strip()
    num_before = len(towers.token_ids(before)) if before else 0
    assert templates.starts == (1 + num_before,)


def test_punctuation_may_follow_the_placeholder(towers):
    template = "a photo of {tokens}'s hand, {aspect}"
    templates = PromptTemplates("owner", towers, template, {"aspect": "left palmar"}, 2)
    assert templates.starts == (4,)
    assert templates.texts == ("a photo of {tokens}'s hand, left palmar",)


@pytest.fixture(scope="module")
def four_variants(towers):
    fields = [{"aspect": "left"}, {"aspect": "right dorsal"}]
    sentences = ["a {tokens} {aspect} hand", "{aspect}: {tokens}"]
    return PromptTemplates("owner", towers, sentences, fields, 1)


def test_variants_are_templates_by_fields(towers, four_variants):
    assert four_variants.texts == (
        "a {tokens} left hand",
        "a {tokens} right dorsal hand",
        "left: {tokens}",
        "right dorsal: {tokens}",
    )
    num_before = 1 + len(towers.token_ids("right dorsal:"))
    assert four_variants.starts == (2, 2, 3, num_before)


def test_plain_texts(four_variants):
    expected = ("a left hand", "a right dorsal hand", "left:", "right dorsal:")
    assert four_variants.plain_texts == expected


def test_a_variant_for_each_row(towers, four_variants):
    learned = torch.randn(4, 1, towers.text_width)
    variants = [3, 0, 2, 1]

    embeddings, eot = four_variants(towers, learned, torch.tensor(variants))

    for row, variant in enumerate(variants):
        alone = four_variants(towers, learned[row : row + 1], variant)
        assert eot[row] == alone.eot[0]
        assert torch.equal(embeddings[row, : eot[row] + 1], alone.embeddings[0])


def test_towers_that_are_not_causal_keep_the_whole_context(build, monkeypatch):
    towers = build("vit")
    causal = PromptTemplates("owner", towers, PERSON, None, 2)
    monkeypatch.setattr(type(towers), "text_is_causal", False)
    not_causal = PromptTemplates("owner", towers, PERSON, None, 2)
    prompts = not_causal(towers, torch.zeros(2, 2, towers.text_width))

    assert causal.tokens.shape == (1, 10)
    assert not_causal.tokens.shape == (1, 77)
    assert prompts.embeddings.shape[1] == 77


def test_holds_no_state(towers):
    templates = PromptTemplates("owner", towers, PERSON, None, 2)
    assert templates.state_dict() == {}
    assert list(templates.parameters()) == []


def test_fill_template():
    filled = fill_template("owner", "a {tokens} {aspect} hand", {"aspect": "left"})
    assert filled == "a {tokens} left hand"


@pytest.mark.parametrize(
    ("template", "fields", "message"),
    [
        ("a photo of a person", {}, r"\{tokens\} exactly once.*got 0 of them"),
        ("{tokens} and {tokens}", {}, "got 2 of them"),
        ("a photo of {}", {}, "got 0 of them"),
        ("a {tokens} {aspect} hand", {}, r"has a placeholder \{aspect\} without a field"),
        ("a {tokens} {} hand", {}, r"has a placeholder \{\} without a field"),
        (
            "a {tokens} hand",
            {"aspect": "left"},
            "has no placeholder for the field 'aspect'; it has tokens",
        ),
        ("a {tokens} hand", {"tokens": "x"}, "has no placeholder for the field 'tokens'"),
        ("a {tokens hand", {}, "matching braces"),
        ("a super{tokens} person", {}, r"\{tokens\} is joined to a word in 'a super\{tokens\} per"),
        ("a {tokens}person", {}, r"\{tokens\} is joined to a word"),
        ("a {tokens}{noun}", {"noun": "hand"}, r"joined to a word in 'a \{tokens\}hand'.*a space"),
    ],
)
def test_wrong_templates(template, fields, message):
    with pytest.raises(ValueError, match=f"(?s)owner: .*{message}"):
        fill_template("owner", template, fields)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("templates", "fields", "num_tokens", "message"),
    [
        (PERSON, None, 70, "has 78 tokens, including start, end and 70 learned ones, and the con"),
        (PERSON, None, 0, "the number of learned tokens as a whole number >= 1, got 0"),
        ([], None, 1, "there is no template; pass at least one"),
        (PERSON, [], 1, "fields is empty; pass None for templates without fields"),
    ],
)
def test_wrong_arguments(towers, templates, fields, num_tokens, message):
    with pytest.raises(ValueError, match="owner: .*" + message):
        PromptTemplates("owner", towers, templates, fields, num_tokens)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (1, r"a variant in \[0, 1\), got 1"),
        (torch.tensor([0, 3]), r"2 variants in \[0, 1\), got \[0, 3\]"),
        (torch.tensor([0]), r"2 variants in \[0, 1\), got \[0\]"),
    ],
)
@pytest.mark.unhooked
def test_wrong_variants(towers, variant, message):
    templates = PromptTemplates("owner", towers, PERSON, None, 1)
    with pytest.raises(ValueError, match="owner: expected " + message):
        templates(towers, torch.zeros(2, 1, towers.text_width), variant)
