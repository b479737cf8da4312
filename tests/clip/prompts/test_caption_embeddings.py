import pytest
import torch

from clipreid_kit.clip import ClipTowers, caption_embeddings


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit").eval()


def test_is_the_mean_of_the_captions(towers):
    captions = [["a red coat", "a coat", "a red coat"], ("a blue bag",), {"a cup", "a mug"}]
    found = caption_embeddings(towers, captions, batch_size=2)
    expected = [
        torch.stack(
            [towers.encode_text(towers.tokenize([text]))[0] for text in sorted(set(own))]
        ).mean(dim=0)
        for own in captions
    ]
    assert torch.allclose(found, torch.stack(expected), atol=1e-5)
    assert not found.requires_grad


def test_no_identities_give_no_rows(towers):
    assert caption_embeddings(towers, []).shape == (0, towers.embed_dim)


@pytest.mark.parametrize("bare", [[], [""], ["a coat", "  "], "a coat"])
def test_an_identity_without_caption_is_named(towers, bare):
    with pytest.raises(
        ValueError, match=r"caption_embeddings: expected a collection of captions .* label 1"
    ):
        caption_embeddings(towers, [["a coat"], bare])


def test_what_is_too_long_is_cut_where_asked(towers):
    long = "a very long coat " * 60
    with pytest.raises(ValueError, match="token"):
        caption_embeddings(towers, [[long]])
    with pytest.warns(UserWarning, match="token"):
        assert caption_embeddings(towers, [[long]], too_long="cut").shape[0] == 1
