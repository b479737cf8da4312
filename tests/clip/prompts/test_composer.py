import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import ClipTowers, PromptComposer

ASPECTS = [{"aspect": "right dorsal"}, {"aspect": "left palmar"}]


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-resnet").eval().requires_grad_(False)


def words_of(towers, text):
    """Word embeddings of a text (1, M, W), without start and end."""
    return towers.embed_tokens(torch.tensor([towers.token_ids(text)]))


def test_the_pseudo_token_is_in_the_sentence(towers):
    pseudo_tokens = torch.randn(3, towers.text_width)
    embeddings, eot = PromptComposer(towers)(towers, pseudo_tokens)

    tokens = towers.tokenize(["a photo of a x person."])
    expected = towers.embed_tokens(tokens)[:, : int(eot[0]) + 1].repeat(3, 1, 1)
    expected[:, 5] = pseudo_tokens
    assert torch.equal(embeddings, expected)
    assert eot.tolist() == tokens.argmax(dim=1).repeat(3).tolist()


def test_another_pseudo_token_gives_another_text(towers):
    pseudo_tokens = torch.randn(2, towers.text_width, requires_grad=True)
    prompts = PromptComposer(towers)(towers, pseudo_tokens)
    texts = towers.encode_text_embeddings(*prompts)
    texts[0].sum().backward()

    assert (texts[0] - texts[1]).norm() > 1e-2
    assert pseudo_tokens.grad[0].abs().sum() > 0
    assert pseudo_tokens.grad[1].abs().sum() == 0


def test_the_embedding_of_a_word_gives_the_text_of_that_word(towers):
    template = "a photo of a {tokens} coat, {view}"
    composer = PromptComposer(towers, template, fields={"view": "seen from behind"})

    texts = towers.encode_text_embeddings(*composer(towers, words_of(towers, "red")[:, 0]))

    expected = towers.encode_text(towers.tokenize(["a photo of a red coat, seen from behind"]))
    assert_close(texts, expected, atol=1e-5, rtol=1e-5)


def test_several_pseudo_tokens(towers):
    composer = PromptComposer(towers, num_tokens=2)
    texts = towers.encode_text_embeddings(*composer(towers, words_of(towers, "tall old")))

    expected = towers.encode_text(towers.tokenize(["a photo of a tall old person."]))
    assert_close(texts, expected, atol=1e-5, rtol=1e-5)


def test_a_variant_for_each_image(towers):
    composer = PromptComposer(towers, "a photo of a {tokens} {aspect} hand.", fields=ASPECTS)
    pseudo_tokens = torch.randn(1, towers.text_width)

    prompts = composer(towers, pseudo_tokens.expand(3, -1), torch.tensor([1, 0, 1]))
    texts = towers.encode_text_embeddings(*prompts)

    variant_0 = towers.encode_text_embeddings(*composer(towers, pseudo_tokens, 0))
    assert_close(texts[0], texts[2])
    assert (texts[0] - texts[1]).norm() > 1e-2
    assert_close(texts[1:2], variant_0, atol=1e-5, rtol=1e-5)


def test_encodes_the_plain_sentences(towers):
    composer = PromptComposer(towers, "A photo of a {tokens} {aspect} hand.", fields=ASPECTS)
    sentences = ["A photo of a right dorsal hand.", "A photo of a left palmar hand."]
    assert_close(composer.encode_plain(towers), towers.encode_text(towers.tokenize(sentences)))


def test_holds_no_state(towers):
    assert PromptComposer(towers).state_dict() == {}


def test_repr_shows_the_template(towers):
    assert "['A photo of a {tokens} person.'], num_tokens=1" in repr(PromptComposer(towers))


@pytest.mark.unhooked
@pytest.mark.parametrize("shape", [(2, 128), (2, 2, 64)])
def test_wrong_pseudo_tokens(towers, shape):
    message = r"PromptComposer: expected pseudo tokens \(N, 1, 64\), got shape .*word embeddings"
    with pytest.raises(ValueError, match=message):
        PromptComposer(towers)(towers, torch.zeros(shape))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a photo of a person", r"expected a template with \{tokens\} exactly once"),
        ("a {tokens} {aspect} hand", r"has a placeholder \{aspect\} without a field"),
    ],
)
def test_wrong_templates(towers, template, message):
    with pytest.raises(ValueError, match="PromptComposer: .*" + message):
        PromptComposer(towers, template)
