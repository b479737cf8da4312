import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import ClipTowers, PromptComposer


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-resnet").eval().requires_grad_(False)


def test_the_pseudo_token_stands_in_the_sentence(towers):
    composer = PromptComposer(towers)
    pseudo = torch.randn(3, towers.text_width)
    embeddings, eot = composer(towers, pseudo)
    tokens = towers.tokenize(["a photo of a x person."])
    words = towers.embed_tokens(tokens)[:, : int(eot[0]) + 1].repeat(3, 1, 1)
    words[:, 5] = pseudo
    assert torch.equal(embeddings, words)
    assert eot.tolist() == tokens.argmax(dim=1).repeat(3).tolist()


def test_another_pseudo_token_gives_another_text(towers):
    composer = PromptComposer(towers)
    pseudo = torch.randn(2, towers.text_width, requires_grad=True)
    texts = towers.encode_text_embeddings(*composer(towers, pseudo))
    assert (texts[0] - texts[1]).norm() > 1e-2
    texts[0].sum().backward()
    assert pseudo.grad[0].abs().sum() > 0
    assert pseudo.grad[1].abs().sum() == 0


def test_a_word_as_its_own_pseudo_token(towers):
    """The embedding of a word gives the text of that word."""
    composer = PromptComposer(
        towers, "a photo of a {tokens} coat, {view}", fields={"view": "seen from behind"}
    )
    red = towers.embed_tokens(torch.tensor([towers.token_ids("red")]))[:, 0]
    texts = towers.encode_text_embeddings(*composer(towers, red))
    expected = towers.encode_text(towers.tokenize(["a photo of a red coat, seen from behind"]))
    assert_close(texts, expected, atol=1e-5, rtol=1e-5)


def test_several_pseudo_tokens(towers):
    composer = PromptComposer(towers, num_tokens=2)
    pair = towers.embed_tokens(torch.tensor([towers.token_ids("tall old")]))
    expected = towers.encode_text(towers.tokenize(["a photo of a tall old person."]))
    assert_close(
        towers.encode_text_embeddings(*composer(towers, pair)), expected, atol=1e-5, rtol=1e-5
    )


def test_a_variant_for_each_image(towers):
    aspects = [{"aspect": "right dorsal"}, {"aspect": "left palmar"}]
    composer = PromptComposer(towers, "a photo of a {tokens} {aspect} hand.", fields=aspects)
    pseudo = torch.randn(1, towers.text_width).expand(3, -1)
    texts = towers.encode_text_embeddings(*composer(towers, pseudo, torch.tensor([1, 0, 1])))
    assert_close(texts[0], texts[2])
    assert (texts[0] - texts[1]).norm() > 1e-2
    assert_close(
        texts[1:2],
        towers.encode_text_embeddings(*composer(towers, pseudo[:1], 0)),
        atol=1e-5,
        rtol=1e-5,
    )


def test_the_plain_sentence(towers):
    aspects = [{"aspect": "right dorsal"}, {"aspect": "left palmar"}]
    composer = PromptComposer(towers, "A photo of a {tokens} {aspect} hand.", fields=aspects)
    expected = towers.encode_text(
        towers.tokenize(["A photo of a right dorsal hand.", "A photo of a left palmar hand."])
    )
    assert_close(composer.encode_plain(towers), expected)
    assert composer.state_dict() == {}


@pytest.mark.unhooked
def test_errors(towers):
    composer = PromptComposer(towers)
    with pytest.raises(
        ValueError, match=r"pseudo tokens \(N, 1, 64\), got shape \(2, 128\).*word embeddings"
    ):
        composer(towers, torch.zeros(2, 128))
    with pytest.raises(ValueError, match=r"pseudo tokens \(N, 1, 64\)"):
        composer(towers, torch.zeros(2, 2, 64))
    with pytest.raises(
        ValueError, match=r"PromptComposer: expected a template with \{tokens\} exactly once"
    ):
        PromptComposer(towers, "a photo of a person")
    with pytest.raises(ValueError, match=r"got none for \{aspect\}"):
        PromptComposer(towers, "a {tokens} {aspect} hand")
