import pytest
import torch
from tiny_towers import tiny_towers

from clipreid_kit.clip import ClipTowers, word_relevance
from clipreid_kit.clip.relevance._recorded_attention import recorded_attention

TEXTS = ["A red coat", "trousers, blue"]


@pytest.fixture(scope="module")
def towers():
    return tiny_towers(image_size=(32, 16)).eval()


def target_of(towers):
    return torch.randn(2, towers.embed_dim, generator=torch.Generator().manual_seed(0))


def test_it_is_the_update_of_the_paper_at_the_end_of_the_text(towers):
    target = target_of(towers)
    found = word_relevance(towers, TEXTS, target)
    layers = [block.attn for block in towers.model.transformer.resblocks]

    for index, text in enumerate(TEXTS):
        tokens = towers.tokenize([text])
        with recorded_attention("test", layers) as recorded:
            similarity = torch.cosine_similarity(towers.encode_text(tokens), target[[index]])
            gradients = torch.autograd.grad(similarity.sum(), recorded.layers)

        length = recorded.layers[0].shape[-1]
        relevance = torch.eye(length)
        for attention, gradient in zip(recorded.layers, gradients, strict=True):
            relevance = relevance + (attention * gradient)[0].relu().mean(0) @ relevance
        at_end = relevance[int(towers.end_of_text(tokens))].detach()

        start = 1
        for word, value in found[index]:
            count = len(towers.token_ids(word))
            assert value == pytest.approx(float(at_end[start : start + count].sum()), abs=1e-6)
            start += count


def test_words_are_those_between_spaces(towers):
    found = word_relevance(towers, ["A  red\ncoat, (new)"], target_of(towers)[:1])
    assert [one.word for one in found[0]] == ["A", "red", "coat,", "(new)"]


def test_words_that_no_layer_attends_to_have_no_relevance():
    towers = tiny_towers(image_size=(32, 16))
    with torch.no_grad():
        for block in towers.model.transformer.resblocks:
            block.attn.out_proj.weight.zero_()
    found = word_relevance(towers, ["a red coat"], target_of(towers)[:1])
    assert [one.relevance for one in found[0]] == [0, 0, 0]


def test_one_target_is_for_all_texts_and_no_texts_have_no_words(towers):
    target = target_of(towers)[:1]
    both = word_relevance(towers, TEXTS, target)
    assert both[1] == word_relevance(towers, TEXTS[1:], target)[0]
    assert word_relevance(towers, [], target) == []


def test_towers_are_left_as_they_were(towers):
    word_relevance(towers, TEXTS, target_of(towers))
    assert not any(module._forward_hooks for module in towers.modules())
    assert all(parameter.grad is None for parameter in towers.parameters())


@pytest.mark.unhooked
def test_impossible_arguments_are_explained(towers):
    with pytest.raises(ValueError, match="texts as a sequence of texts"):
        word_relevance(towers, "a coat", target_of(towers)[:1])
    with pytest.raises(ValueError, match="expected 1 or 3 targets"):
        word_relevance(towers, ["a"] * 3, target_of(towers))

    trunk = ClipTowers.from_timm("test_resnet", image_size=(64, 32))
    with pytest.raises(ValueError, match=r"word_relevance: .*text tower"):
        word_relevance(trunk, ["a"], torch.ones(1, trunk.embed_dim))


def test_a_tokenizer_that_joins_words_is_refused(towers, monkeypatch):
    monkeypatch.setattr(towers, "token_ids", lambda text: [len(text)])
    with pytest.raises(ValueError, match="does not divide 'a coat' by words"):
        word_relevance(towers, ["a coat"], target_of(towers)[:1])
