import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip.towers.text_forward import encode_causal_text, run_text, text_tower

CAUSAL = ["vit", "timm", "eos"]
MARKS = {"vit": (49406, 49407), "timm": (49406, 49407), "eos": (3, 2)}


def rows_of(kind: str, lengths: list[int], seed: int = 0) -> torch.Tensor:
    """Rows of random ids between start and end, padded with zeros to 77."""
    start, end = MARKS[kind]
    tokens = torch.zeros(len(lengths), 77, dtype=torch.long)
    generator = torch.Generator().manual_seed(seed)
    for row, length in zip(tokens, lengths, strict=True):
        row[0], row[length - 1] = start, end
        row[1 : length - 1] = torch.randint(10, 400, (length - 2,), generator=generator)
    return tokens


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("lengths", [[5], [4, 9, 12], [2, 77, 30], [8, 8, 8, 8]])
def test_equals_the_full_length_forward(build, kind, lengths):
    towers = build(kind)
    tokens = rows_of(kind, lengths)
    text = text_tower(towers.model)
    assert text is not None
    assert_close(
        encode_causal_text(text, tokens), towers.model.encode_text(tokens), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("kind", CAUSAL)
def test_is_bit_equal_where_nothing_can_be_left_out(build, kind):
    towers = build(kind)
    tokens = rows_of(kind, [77, 40, 3])
    assert torch.equal(
        encode_causal_text(text_tower(towers.model), tokens), towers.model.encode_text(tokens)
    )


@pytest.mark.parametrize("kind", CAUSAL)
def test_equal_rows_are_encoded_once_and_come_back_in_order(build, kind, monkeypatch):
    towers = build(kind)
    tokens = rows_of(kind, [9, 6, 12])[[2, 0, 0, 1, 2, 0]]
    text = text_tower(towers.model)
    expected = towers.model.encode_text(tokens)
    seen = []
    forward = type(text.parts.transformer).forward
    monkeypatch.setattr(
        type(text.parts.transformer),
        "forward",
        lambda self, x, attn_mask=None: (
            seen.append(tuple(x.shape)) or forward(self, x, attn_mask=attn_mask)
        ),
    )
    embeddings = encode_causal_text(text, tokens)
    assert seen == [(3, 12, 64)]
    assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", CAUSAL)
def test_gradients_equal_those_of_the_full_length_forward(build, kind):
    towers = build(kind)
    tokens = rows_of(kind, [9, 6, 12])[[0, 1, 2, 0, 0, 1]]
    weights = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
    gradients = []
    for encode in (
        lambda: encode_causal_text(text_tower(towers.model), tokens),
        lambda: towers.model.encode_text(tokens),
    ):
        towers.zero_grad()
        (encode() * weights).sum().backward()
        gradients.append(
            {n: p.grad.clone() for n, p in towers.named_parameters() if p.grad is not None}
        )
    ours, full = gradients
    assert ours.keys() == full.keys()
    assert any("token_embedding" in name for name in ours)
    for name, gradient in full.items():
        assert_close(
            ours[name],
            gradient,
            atol=1e-4,
            rtol=1e-4,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_what_follows_the_end_changes_nothing(build):
    towers = build("vit")
    tokens = rows_of("vit", [6, 10])
    dirty = tokens.clone()
    dirty[0, 6:10] = 77  # still before the other row's end, so it is run
    text = text_tower(towers.model)
    assert_close(
        encode_causal_text(text, dirty), encode_causal_text(text, tokens), atol=1e-5, rtol=1e-5
    )
    dirty[0, 5] = 300  # the end mark gone: the row is read elsewhere
    assert not torch.allclose(
        encode_causal_text(text, dirty)[0], encode_causal_text(text, tokens)[0], atol=1e-3
    )


def test_runs_from_word_embeddings(build):
    towers = build("vit")
    text = text_tower(towers.model)
    tokens = rows_of("vit", [6, 11])[:, :11]
    words = towers.model.token_embedding(tokens).detach().requires_grad_()
    embeddings = run_text(text, words, tokens.argmax(dim=-1))
    assert_close(embeddings, encode_causal_text(text, tokens))
    embeddings[0].sum().backward()
    assert (words.grad[0, :6].abs().sum(dim=-1) > 0).all()
    assert (words.grad[0, 6:] == 0).all()  # causal: behind the end there is nothing to learn
    assert (words.grad[1] == 0).all()


@pytest.mark.parametrize("kind", ["siglip", "coca"])
def test_other_towers_are_not_cut(build, kind):
    text = text_tower(build(kind).model)
    assert text is None or not text.causal


class TestEmbeddings:
    @pytest.mark.parametrize("kind", ["vit", "timm", "eos", "siglip"])
    def test_equal_those_of_the_token_ids(self, build, kind):
        towers = build(kind)
        length = towers.context_length
        tokens = rows_of(kind if kind in MARKS else "vit", [6, 9, 9])[:, :length] % 500
        tokens[:2, 11] = 0
        eot = towers.end_of_text(tokens)
        expected = towers.model.encode_text(
            torch.nn.functional.pad(tokens, (0, length - tokens.shape[1]))
        )
        found = towers.encode_text_embeddings(towers.embed_tokens(tokens), eot)
        assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert_close(towers.encode_text(tokens), expected, atol=1e-5, rtol=1e-5)
        unit = towers.encode_text_embeddings(towers.embed_tokens(tokens), eot, normalize=True)
        assert_close(unit.norm(dim=1), torch.ones(3))
        assert towers.text_is_causal == (kind != "siglip")
        assert towers.embed_tokens(tokens).shape == (3, tokens.shape[1], towers.text_width)

    def test_a_changed_word_changes_the_text_and_gets_gradient(self, build):
        towers = build("vit")
        tokens = rows_of("vit", [6, 11])
        words = towers.embed_tokens(tokens).detach().requires_grad_()
        eot = towers.end_of_text(tokens)
        first = towers.encode_text_embeddings(words, eot)
        first[0].sum().backward()
        assert (words.grad[0, :6].abs().sum(dim=-1) > 0).all()
        assert (words.grad[0, 6:] == 0).all()
        assert (words.grad[1] == 0).all()
        other = words.detach().clone()
        other[0, 3] = other[0, 3].flip(0)
        second = towers.encode_text_embeddings(other, eot)
        assert not torch.allclose(first[0], second[0], atol=1e-3)
        assert_close(first[1], second[1])

    def test_runs_to_the_last_end_only(self, build):
        towers = build("vit")
        tokens = rows_of("vit", [6, 11, 8])
        seen = []
        towers.model.transformer.register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0].shape[1])
        )
        towers.encode_text_embeddings(towers.embed_tokens(tokens), towers.end_of_text(tokens))
        assert seen == [11]

    def test_nothing_in_gives_nothing_out(self, build):
        towers = build("vit")
        none = towers.encode_text_embeddings(
            torch.zeros(0, 5, 64), torch.zeros(0, dtype=torch.long)
        )
        assert none.shape == (0, towers.embed_dim)

    @pytest.mark.parametrize(
        ("shape", "eot", "match"),
        [
            (
                (2, 78, 64),
                [1, 1],
                r"embeddings \(N, L, 64\) with L in 1\.\.77, got shape \(2, 78, 64\)",
            ),
            ((2, 5, 32), [1, 1], r"embeddings \(N, L, 64\)"),
            ((2, 5, 64), [1, 5], r"eot in 0\.\.4, got 1\.\.5"),
            ((2, 5, 64), [-1, 3], r"eot in 0\.\.4, got -1\.\.3"),
        ],
    )
    def test_errors(self, build, shape, eot, match):
        with pytest.raises(ValueError, match=match):
            build("vit").encode_text_embeddings(torch.zeros(shape), torch.tensor(eot))

    @pytest.mark.unhooked
    def test_one_end_for_each_row(self, build):
        with pytest.raises(ValueError, match="eot as 2 integers, one for each row"):
            build("vit").encode_text_embeddings(torch.zeros(2, 5, 64), torch.tensor([1]))

    def test_towers_that_are_not_causal_need_the_whole_context(self, build):
        with pytest.raises(
            ValueError, match=r"the whole context of 16 .* got a length of 5\. Embed whole rows"
        ):
            build("siglip").encode_text_embeddings(torch.zeros(1, 5, 64), torch.tensor([4]))

    def test_towers_that_run_from_ids_only(self, build):
        towers = build("coca")
        for work in (
            lambda: towers.embed_tokens(torch.zeros(1, 5, dtype=torch.long)),
            lambda: towers.encode_text_embeddings(torch.zeros(1, 5, 64), torch.tensor([4])),
            lambda: towers.text_width,
        ):
            with pytest.raises(
                ValueError,
                match=r"that runs from word embeddings, got that of CoCa\. Text towers of Hugging",
            ):
                work()
