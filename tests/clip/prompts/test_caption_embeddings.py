import pytest
import torch

from clipreid_kit.clip import ClipTowers, caption_embeddings


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit").eval()


def test_is_the_mean_of_the_distinct_captions(towers):
    captions = [["a red coat", "a coat", "a red coat"], ("a blue bag",), {"a cup", "a mug"}]

    embeddings = caption_embeddings(towers, captions, batch_size=2)

    assert not embeddings.requires_grad
    assert embeddings.shape[0] == 3
    for row, of_identity in zip(embeddings, captions, strict=True):
        texts = towers.encode_text(towers.tokenize(sorted(set(of_identity))))
        assert torch.allclose(row, texts.mean(dim=0), atol=1e-5)


def test_no_identities(towers):
    assert caption_embeddings(towers, []).shape == (0, towers.embed_dim)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([], "label 1 has no captions; pass at least one"),
        ([""], "label 1 has an empty caption; leave it out"),
        (["a coat", "  "], "label 1 has an empty caption"),
        ("a coat", "the captions of label 1 are a single string; pass a list"),
    ],
)
def test_an_identity_without_captions_is_named(towers, captions, message):
    with pytest.raises(ValueError, match="caption_embeddings: " + message):
        caption_embeddings(towers, [["a coat"], captions])


def test_captions_that_are_too_long(towers):
    long = "a very long coat " * 60
    with pytest.raises(ValueError, match="token"):
        caption_embeddings(towers, [[long]])
    with pytest.warns(UserWarning, match="token"):
        embeddings = caption_embeddings(towers, [[long]], too_long="cut")
    assert embeddings.shape[0] == 1


@pytest.mark.unhooked
def test_wrong_batch_size(towers):
    with pytest.raises(ValueError, match="batch_size as a whole number >= 1, got '8'"):
        caption_embeddings(towers, [["a coat"]], batch_size="8")
