import pytest
import torch

from clipreid_kit.clip import ClipTowers
from clipreid_kit.clip.prompts.templates import PromptTemplates, fill_template

PERSON = "A photo of a {tokens} person."


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit").eval()


@pytest.mark.parametrize("count", [1, 4, 8])
def test_the_span_is_where_the_placeholder_stands(towers, count):
    templates = PromptTemplates("owner", towers, PERSON, None, count)
    assert templates.starts == (5,)  # start, a, photo, of, a
    tail = towers.token_ids("person.")
    assert templates.eots == (5 + count + len(tail),)
    row = templates.tokens[0].tolist()
    assert len(row) == templates.eots[0] + 1
    assert row[1:5] == towers.token_ids("A photo of a")
    assert row[5 + count : -1] == tail
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
def test_any_place_and_words_like_the_filler(towers, template):
    templates = PromptTemplates("owner", towers, template, None, 3)
    before = template.split("{tokens}")[0].strip()
    assert templates.starts == (1 + (len(towers.token_ids(before)) if before else 0),)


def test_punctuation_may_follow(towers):
    templates = PromptTemplates(
        "owner", towers, "a photo of {tokens}'s hand, {aspect}", {"aspect": "left palmar"}, 2
    )
    assert templates.starts == (4,)
    assert templates.texts == ("a photo of {tokens}'s hand, left palmar",)


def test_variants_are_templates_by_fields(towers):
    fields = [{"aspect": "left"}, {"aspect": "right dorsal"}]
    templates = PromptTemplates(
        "owner", towers, ["a {tokens} {aspect} hand", "{aspect}: {tokens}"], fields, 1
    )
    assert templates.texts == (
        "a {tokens} left hand",
        "a {tokens} right dorsal hand",
        "left: {tokens}",
        "right dorsal: {tokens}",
    )
    assert templates.plain_texts == ("a left hand", "a right dorsal hand", "left:", "right dorsal:")
    before = 1 + len(towers.token_ids("right dorsal:"))
    assert templates.starts == (2, 2, 3, before)
    learned = torch.randn(4, 1, towers.text_width)
    embeddings, eot = templates(towers, learned, torch.tensor([3, 0, 2, 1]))
    for row, variant in enumerate([3, 0, 2, 1]):
        alone = templates(towers, learned[row : row + 1], variant)
        assert eot[row] == alone.eot[0]
        assert torch.equal(embeddings[row, : eot[row] + 1], alone.embeddings[0])


def test_towers_that_look_both_ways_keep_the_whole_context(build, monkeypatch):
    towers = build("vit")
    causal = PromptTemplates("owner", towers, PERSON, None, 2)
    monkeypatch.setattr(type(towers), "text_is_causal", False)
    whole = PromptTemplates("owner", towers, PERSON, None, 2)
    assert (causal.tokens.shape, whole.tokens.shape) == ((1, 10), (1, 77))
    assert whole(towers, torch.zeros(2, 2, towers.text_width)).embeddings.shape[1] == 77


def test_holds_no_state(towers):
    templates = PromptTemplates("owner", towers, PERSON, None, 2)
    assert templates.state_dict() == {}
    assert list(templates.parameters()) == []


@pytest.mark.parametrize(
    ("template", "fields", "words"),
    [
        ("a photo of a person", {}, r"\{tokens\} exactly once.*got 0 of them"),
        ("{tokens} and {tokens}", {}, "got 2 of them"),
        ("a photo of {}", {}, "got 0 of them"),
        ("a {tokens} {aspect} hand", {}, r"got none for \{aspect\}"),
        ("a {tokens} {} hand", {}, r"got none for \{\}"),
        ("a {tokens} hand", {"aspect": "left"}, "fields that 'a {tokens} hand' has, got 'aspect'"),
        ("a {tokens hand", {}, "matching braces"),
    ],
)
def test_bad_templates(template, fields, words):
    with pytest.raises(ValueError, match=f"(?s)owner: .*{words}"):
        fill_template("owner", template, fields)


@pytest.mark.unhooked
def test_errors(towers):
    with pytest.raises(
        ValueError, match=r"at most 77 tokens, start, end and 70 learned ones included, got 78"
    ):
        PromptTemplates("owner", towers, PERSON, None, 70)
    for joined in ("a super{tokens} person", "a {tokens}person", "a {tokens}{noun}"):
        with pytest.raises(
            ValueError, match=r"stands as a word of its own.*a blank before and after"
        ):
            PromptTemplates(
                "owner", towers, joined, {"noun": "hand"} if "noun" in joined else None, 4
            )
    with pytest.raises(ValueError, match="learned tokens as a whole number >= 1, got 0"):
        PromptTemplates("owner", towers, PERSON, None, 0)
    with pytest.raises(
        ValueError, match="at least one template and one set of fields, got 0 and 1"
    ):
        PromptTemplates("owner", towers, [], None, 1)
    templates = PromptTemplates("owner", towers, PERSON, None, 1)
    learned = torch.zeros(2, 1, towers.text_width)
    with pytest.raises(ValueError, match=r"a variant in \[0, 1\), got 1"):
        templates(towers, learned, 1)
    with pytest.raises(ValueError, match=r"2 variants in \[0, 1\), got \[0, 3\]"):
        templates(towers, learned, torch.tensor([0, 3]))
