import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from clipreid_kit.clip.towers.text_forward import encode_causal_text, run_text, text_tower

CAUSAL = ["vit", "timm", "eos"]
MARKS = {"vit": (49406, 49407), "timm": (49406, 49407), "eos": (3, 2)}


def token_rows(kind, lengths):
    """Rows of random ids between start and end marks, padded with zeros to 77."""
    start, end = MARKS[kind]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.zeros(len(lengths), 77, dtype=torch.long)

    for row, length in zip(tokens, lengths, strict=True):
        row[0] = start
        row[1 : length - 1] = torch.randint(10, 400, (length - 2,), generator=generator)
        row[length - 1] = end
    return tokens


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("lengths", [[5], [4, 9, 12], [2, 77, 30], [8, 8, 8, 8]])
def test_equals_the_full_length_forward(build, kind, lengths):
    model = build(kind).model
    tokens = token_rows(kind, lengths)

    found = encode_causal_text(text_tower(model), tokens)

    assert_close(found, model.encode_text(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", CAUSAL)
def test_is_bit_equal_if_no_token_can_be_left_out(build, kind):
    model = build(kind).model
    tokens = token_rows(kind, [77, 40, 3])

    found = encode_causal_text(text_tower(model), tokens)

    assert torch.equal(found, model.encode_text(tokens))


@pytest.mark.parametrize("kind", CAUSAL)
def test_equal_rows_are_encoded_once_and_return_in_order(build, kind, monkeypatch):
    model = build(kind).model
    text = text_tower(model)
    tokens = token_rows(kind, [9, 6, 12])[[2, 0, 0, 1, 2, 0]]
    expected = model.encode_text(tokens)

    shapes = []
    transformer = type(text.parts.transformer)
    forward = transformer.forward

    def recording_forward(self, x, attn_mask=None):
        shapes.append(tuple(x.shape))
        return forward(self, x, attn_mask=attn_mask)

    monkeypatch.setattr(transformer, "forward", recording_forward)
    embeddings = encode_causal_text(text, tokens)

    assert shapes == [(3, 12, 64)]
    assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", CAUSAL)
def test_gradients_equal_those_of_the_full_length_forward(build, kind):
    towers = build(kind)
    tokens = token_rows(kind, [9, 6, 12])[[0, 1, 2, 0, 0, 1]]
    weights = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))

    def gradients(encode):
        towers.zero_grad()
        (encode(tokens) * weights).sum().backward()
        return {
            name: parameter.grad.clone()
            for name, parameter in towers.named_parameters()
            if parameter.grad is not None
        }

    text = text_tower(towers.model)
    found = gradients(lambda tokens: encode_causal_text(text, tokens))
    expected = gradients(towers.model.encode_text)

    assert found.keys() == expected.keys()
    assert any("token_embedding" in name for name in found)
    for name, gradient in expected.items():
        largest = max(1.0, gradient.abs().max().item())
        assert_close(found[name], gradient, atol=1e-4 * largest, rtol=1e-4)


class TestAfterTheEnd:
    @pytest.fixture
    def text(self, build):
        return text_tower(build("vit").model)

    def test_other_tokens_change_nothing(self, text):
        tokens = token_rows("vit", [6, 10])
        changed = tokens.clone()
        changed[0, 6:10] = 77  # before the end of the other row, so that they are run

        found, expected = encode_causal_text(text, changed), encode_causal_text(text, tokens)

        assert_close(found, expected, atol=1e-5, rtol=1e-5)

    def test_without_the_end_mark_the_row_is_read_elsewhere(self, text):
        tokens = token_rows("vit", [6, 10])
        changed = tokens.clone()
        changed[0, 5] = 300

        found, expected = encode_causal_text(text, changed), encode_causal_text(text, tokens)

        assert not torch.allclose(found[0], expected[0], atol=1e-3)


def test_runs_from_word_embeddings(build):
    model = build("vit").model
    text = text_tower(model)
    tokens = token_rows("vit", [6, 11])[:, :11]
    words = model.token_embedding(tokens).detach().requires_grad_()

    embeddings = run_text(text, words, tokens.argmax(dim=-1))
    embeddings[0].sum().backward()

    assert_close(embeddings, encode_causal_text(text, tokens))
    assert (words.grad[0, :6].abs().sum(dim=-1) > 0).all()
    assert (words.grad[0, 6:] == 0).all()  # causal: nothing after the end takes part
    assert (words.grad[1] == 0).all()


@pytest.mark.parametrize("kind", ["siglip", "coca"])
def test_other_towers_run_whole(build, kind):
    text = text_tower(build(kind).model)
    assert text is None or not text.causal


class TestWordEmbeddings:
    @pytest.mark.parametrize("kind", ["vit", "timm", "eos", "siglip"])
    def test_equal_those_of_the_token_ids(self, build, kind):
        towers = build(kind)
        length = towers.context_length
        tokens = token_rows(kind if kind in MARKS else "vit", [6, 9, 9])[:, :length] % 500
        tokens[:2, 11] = 0
        padded = F.pad(tokens, (0, length - tokens.shape[1]))
        expected = towers.model.encode_text(padded)

        words = towers.embed_tokens(tokens)
        found = towers.encode_text_embeddings(words, towers.end_of_text(tokens))

        assert words.shape == (3, tokens.shape[1], towers.text_width)
        assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert_close(towers.encode_text(tokens), expected, atol=1e-5, rtol=1e-5)

    def test_can_be_normalised(self, build):
        towers = build("vit")
        tokens = token_rows("vit", [6, 9, 9])
        words, eot = towers.embed_tokens(tokens), towers.end_of_text(tokens)
        unit = towers.encode_text_embeddings(words, eot, normalize=True)
        assert_close(unit.norm(dim=1), torch.ones(3))

    @pytest.mark.parametrize(
        ("kind", "causal"), [("vit", True), ("timm", True), ("eos", True), ("siglip", False)]
    )
    def test_towers_know_whether_text_is_causal(self, build, kind, causal):
        assert build(kind).text_is_causal == causal

    def test_gradient_reaches_the_words_of_a_text(self, build):
        towers = build("vit")
        tokens = token_rows("vit", [6, 11])
        words = towers.embed_tokens(tokens).detach().requires_grad_()

        texts = towers.encode_text_embeddings(words, towers.end_of_text(tokens))
        texts[0].sum().backward()

        assert (words.grad[0, :6].abs().sum(dim=-1) > 0).all()
        assert (words.grad[0, 6:] == 0).all()
        assert (words.grad[1] == 0).all()

    def test_a_changed_word_changes_its_own_text(self, build):
        towers = build("vit")
        tokens = token_rows("vit", [6, 11])
        eot = towers.end_of_text(tokens)
        words = towers.embed_tokens(tokens).detach()
        changed = words.clone()
        changed[0, 3] = changed[0, 3].flip(0)

        before = towers.encode_text_embeddings(words, eot)
        after = towers.encode_text_embeddings(changed, eot)

        assert not torch.allclose(before[0], after[0], atol=1e-3)
        assert_close(before[1], after[1])

    def test_run_up_to_the_last_end(self, build):
        towers = build("vit")
        tokens = token_rows("vit", [6, 11, 8])
        lengths = []
        towers.model.transformer.register_forward_pre_hook(
            lambda module, inputs: lengths.append(inputs[0].shape[1])
        )

        towers.encode_text_embeddings(towers.embed_tokens(tokens), towers.end_of_text(tokens))

        assert lengths == [11]

    def test_no_rows_return_no_rows(self, build):
        towers = build("vit")
        eot = torch.zeros(0, dtype=torch.long)
        none = towers.encode_text_embeddings(torch.zeros(0, 5, 64), eot)
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
    def test_unsuitable_shapes_and_ends(self, build, shape, eot, match):
        with pytest.raises(ValueError, match=match):
            build("vit").encode_text_embeddings(torch.zeros(shape), torch.tensor(eot))

    @pytest.mark.unhooked
    def test_each_row_needs_an_end(self, build):
        with pytest.raises(ValueError, match="eot as 2 integers, one for each row"):
            build("vit").encode_text_embeddings(torch.zeros(2, 5, 64), torch.tensor([1]))

    def test_towers_that_are_not_causal_need_the_whole_context(self, build):
        with pytest.raises(
            ValueError, match=r"the whole context of 16 .* got a length of 5\. Embed whole rows"
        ):
            build("siglip").encode_text_embeddings(torch.zeros(1, 5, 64), torch.tensor([4]))

    @pytest.mark.parametrize(
        "work",
        [
            lambda towers: towers.embed_tokens(torch.zeros(1, 5, dtype=torch.long)),
            lambda towers: towers.encode_text_embeddings(torch.zeros(1, 5, 64), torch.tensor([4])),
            lambda towers: towers.text_width,
        ],
    )
    def test_some_towers_run_from_token_ids_only(self, build, work):
        with pytest.raises(
            ValueError,
            match=r"that runs from word embeddings, got that of CoCa\. Text towers of Hugging",
        ):
            work(build("coca"))


@pytest.mark.unhooked
@pytest.mark.parametrize("wrong", [-1, 10**6])
@pytest.mark.parametrize("method", ["encode_text", "embed_tokens"])
def test_token_ids_outside_the_vocabulary_are_explained(build, method, wrong):
    towers = build("vit")
    tokens = towers.tokenize(["a red coat"])
    tokens[0, 1] = wrong

    with pytest.raises(ValueError, match=rf"^{method}: expected tokens in \[0, \d+\), got tokens"):
        getattr(towers, method)(tokens)


@pytest.mark.unhooked
@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64, torch.float32])
def test_token_ids_of_another_kind_are_explained(build, dtype):
    towers = build("vit")
    with pytest.raises(ValueError, match=r"encode_text: expected token ids \(N, L\)"):
        towers.encode_text(torch.ones(1, 4).to(dtype))


@pytest.mark.unhooked
def test_token_ids_of_few_bits_are_read(build):
    towers = build("vit")
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        found = towers.encode_text(tokens.to(torch.int16))
        assert torch.equal(found, towers.encode_text(tokens))
    assert towers.embed_tokens(tokens.to(torch.uint8)).shape == (1, 3, towers.text_width)


@pytest.mark.unhooked
def test_the_end_of_a_single_text_without_rows_is_explained(build):
    with pytest.raises(ValueError, match=r"end_of_text: expected token ids \(N, L\)"):
        build("vit").end_of_text(torch.tensor([1, 2, 3]))


def test_states_of_tokens_are_the_embedding_at_the_end_of_text(build):
    towers = build("vit")
    tokens = towers.tokenize(["a red coat", "a blue cup on a table"])
    ends = towers.end_of_text(tokens)
    cut = tokens[:, : int(ends.max()) + 1]

    states = towers.encode_text_tokens(cut)
    assert states.shape == (*cut.shape, towers.embed_dim)
    assert_close(states[torch.arange(2), ends], towers.encode_text(tokens))
    assert_close(towers.encode_text_tokens(tokens)[:, : cut.shape[1]], states)
    assert towers.encode_text_tokens(tokens[:0]).shape == (0, tokens.shape[1], towers.embed_dim)
