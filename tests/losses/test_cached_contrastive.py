"""The oracle is the plain step, in one graph: over all rows, or over the same chunks.

The same chunks are needed where a module draws random numbers or keeps running statistics.
"""

import contextlib
import copy
import dataclasses
import functools
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from two_ranks import on_two_ranks

from clipreid_kit.losses import CachedContrastive, InfoNCELoss, SupConLoss

DIM, WIDTH = 4, 6


def towers(*extra):
    torch.manual_seed(7)
    layers = [torch.nn.Linear(WIDTH, 8), *extra, torch.nn.Tanh(), torch.nn.Linear(8, DIM)]
    image = torch.nn.Sequential(*layers)
    text = copy.deepcopy(image)

    with torch.no_grad():
        text[0].weight.mul_(-0.7)

    return image, text


def inputs(num_rows, seed=0):
    return torch.randn(2, num_rows, WIDTH, generator=torch.Generator().manual_seed(seed)).unbind()


def gradients(*modules):
    found = {f"{i}.{k}": p.grad for i, m in enumerate(modules) for k, p in m.named_parameters()}
    for module in modules:
        module.zero_grad()
    return found


def in_chunks(encode, rows, size):
    return torch.cat([encode(part) for part in rows.split(size)])


@given(
    st.integers(1, 9), st.integers(1, 10), st.integers(1, 10), st.integers(0, 4), st.integers(0, 99)
)
def test_equals_the_plain_step(num_rows, chunk_size, text_chunk_size, kept_chunks, seed):
    image, text = towers()
    loss = InfoNCELoss(0.3, learnable=True)
    images, texts = inputs(num_rows, seed)
    plain = loss(image(images), text(texts))
    plain.backward()
    want = gradients(image, text, loss)
    step = CachedContrastive(
        image,
        text,
        loss,
        chunk_size=chunk_size,
        text_chunk_size=text_chunk_size,
        kept_chunks=kept_chunks,
    )
    value = step(images, texts)
    value.backward()

    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(gradients(image, text, loss), want, atol=1e-6, rtol=1e-5)


def test_kept_chunks_are_encoded_once():
    image, text = towers(torch.nn.Dropout())
    calls = {True: 0, False: 0}

    def encode_image(rows):
        calls[torch.is_grad_enabled()] += 1
        return image(rows)

    step = CachedContrastive(encode_image, text, InfoNCELoss(0.3), chunk_size=2, kept_chunks=3)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = step(*inputs(10))
    value.backward()
    assert calls == {True: 5, False: 2}  # three kept, and two encoded a second time
    got = gradients(image, text)

    torch.manual_seed(1)
    step = CachedContrastive(image, text, InfoNCELoss(0.3), chunk_size=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = step(*inputs(10))
    again.backward()
    torch.testing.assert_close(value, again)
    torch.testing.assert_close(got, gradients(image, text))

    # Neither all chunks, of which the last synchronises, nor any without gradient.
    step = CachedContrastive(encode_image, text, InfoNCELoss(0.3), chunk_size=2, kept_chunks=9)
    with torch.no_grad():
        step(*inputs(10))
    assert calls == {True: 5, False: 7}


def test_one_tower_with_labels():
    image, _ = towers()
    images, labels = inputs(7)[0], torch.tensor([0, 0, 1, 1, 2, 0, 2])
    SupConLoss(0.3)(image(images), labels).backward()
    want = gradients(image)
    CachedContrastive(image, None, SupConLoss(0.3), chunk_size=3)(images, None, labels).backward()

    torch.testing.assert_close(gradients(image), want, atol=1e-6, rtol=1e-5)


def test_one_encoder_for_both_sides_and_a_loss_of_several_terms():
    image, _ = towers()
    images, texts = inputs(5)
    labels = torch.tensor([0, 0, 1, 1, 2])

    def loss(v, t, y):
        return InfoNCELoss(0.3)(v, t) + 0.5 * SupConLoss(0.3)(v, y) + SupConLoss(0.3)(t, y, v, y)

    loss(image(images), image(texts), labels).backward()
    want = gradients(image)
    CachedContrastive(image, image, loss, chunk_size=2)(images, texts, labels).backward()

    torch.testing.assert_close(gradients(image), want, atol=1e-6, rtol=1e-5)


def test_sides_may_differ_in_rows():
    image, text = towers()
    images, texts = inputs(7)
    labels, text_labels = torch.tensor([0, 0, 1, 1, 2, 0, 2]), torch.arange(3)

    def loss(v, t):
        return SupConLoss(0.3)(v, labels, t, text_labels)

    loss(image(images), text(texts[:3])).backward()
    want = gradients(image, text)
    CachedContrastive(image, text, loss, chunk_size=2)(images, texts[:3]).backward()

    torch.testing.assert_close(gradients(image, text), want, atol=1e-6, rtol=1e-5)


class Tokens(NamedTuple):
    ids: torch.Tensor
    mask: torch.Tensor


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (
            lambda x: {"rows": x, "kind": "text"},
            lambda b: b["rows"] if b["kind"] == "text" else None,
        ),
        (lambda x: [x, None], lambda b: b[0]),
        (lambda x: (x, [x, {"more": x}]), lambda b: (b[0] + b[1][0] + b[1][1]["more"]) / 3),
        (lambda x: Tokens(x, torch.ones(len(x), 1)), lambda b: b.ids * b.mask),
    ],
)
def test_structures_of_tensors(pack, unpack):
    image, text = towers()
    images, texts = inputs(5)
    InfoNCELoss(0.3)(image(images), text(texts)).backward()
    want = gradients(image, text)
    step = CachedContrastive(image, lambda b: text(unpack(b)), InfoNCELoss(0.3), chunk_size=2)
    step(images, pack(texts)).backward()

    torch.testing.assert_close(gradients(image, text), want, atol=1e-6, rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Batch:
    pixels: torch.Tensor
    scale: float
    also: dict


@pytest.mark.parametrize("chunk_size", [2, 9])
def test_an_encoder_may_change_its_input(chunk_size):
    image, _ = towers()
    images, labels = inputs(7)[0], torch.tensor([0, 0, 1, 1, 2, 0, 2])
    before = images.clone()
    SupConLoss(0.3)(image((images - 0.5) / 0.25), labels).backward()
    want = gradients(image)

    def in_place(rows):
        return image(rows.sub_(0.5).div_(0.25))

    def in_a_dict(batch):
        batch["rows"] = (batch["rows"] - 0.5) / 0.25
        return image(batch.pop("rows"))

    for encode, batch in ((in_place, images), (in_a_dict, {"rows": images})):
        step = CachedContrastive(encode, None, SupConLoss(0.3), chunk_size=chunk_size)
        step(batch, None, labels).backward()
        torch.testing.assert_close(gradients(image), want, atol=1e-6, rtol=1e-5)

    assert torch.equal(images, before)


def test_a_dataclass_of_tensors():
    image, _ = towers()
    images, labels = inputs(7)[0], torch.tensor([0, 0, 1, 1, 2, 0, 2])
    SupConLoss(0.3)(image(3 * images), labels).backward()
    want = gradients(image)

    def encode(batch):
        assert type(batch) is Batch
        assert len(batch.pixels) == len(batch.also["twice"]) <= 3
        return image(batch.scale * batch.pixels + batch.also["twice"])

    batch = Batch(images, 1.0, {"twice": 2 * images})
    CachedContrastive(encode, None, SupConLoss(0.3), chunk_size=3)(batch, None, labels).backward()

    torch.testing.assert_close(gradients(image), want, atol=1e-6, rtol=1e-5)


def test_a_container_that_is_filled_anew_changes_nothing():
    image, _ = towers()
    images, labels = inputs(7)[0], torch.tensor([0, 0, 1, 1, 2, 0, 2])
    step = CachedContrastive(lambda batch: image(batch[0]), None, SupConLoss(0.3), chunk_size=3)
    step([images], None, labels).backward()
    want = gradients(image)

    batch = [images]
    value = step(batch, None, labels)
    batch[0] = torch.zeros_like(images)
    value.backward()

    torch.testing.assert_close(gradients(image), want)


def encoders_of(tower):
    return {
        "module": tower,
        "method": tower.forward,
        "function": lambda rows: tower(rows * 1),
        "partial": functools.partial(tower.forward),
    }


@pytest.mark.parametrize("kind", ["module", "method", "function", "partial"])
def test_weights_that_change_before_backward_are_an_error(kind):
    image, _ = towers()
    images, labels = inputs(7)[0], torch.tensor([0, 0, 1, 1, 2, 0, 2])
    step = CachedContrastive(encoders_of(image)[kind], None, SupConLoss(0.3), chunk_size=3)
    optimizer = torch.optim.SGD(image.parameters(), lr=0.1)
    step(images, None, labels).backward()
    value = step(images, None, labels)
    optimizer.step()

    expected = r"CachedContrastive: the weight 0\.weight of images changed between the call and bac"
    with pytest.raises(RuntimeError, match=expected):
        value.backward()


def test_a_batch_that_changes_before_backward_is_an_error():
    image, text = towers()
    images, texts = (rows.clone() for rows in inputs(5))
    step = CachedContrastive(image, lambda batch: text(batch["ids"]), InfoNCELoss(), chunk_size=3)
    value = step(images, {"ids": texts})
    texts[4, 0] = 7

    with pytest.raises(RuntimeError, match="CachedContrastive: texts changed between the call and"):
        value.backward()


def test_a_temperature_that_the_encoder_holds_may_be_clamped():
    images, texts = inputs(5)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tower, _ = towers()
            self.loss = InfoNCELoss(0.3, learnable=True)

        def encode(self, rows):
            return self.tower(rows)

    model = Model()
    step = CachedContrastive(model.encode, model.encode, model.loss, chunk_size=3)
    (step(images, texts) + step(texts, images)).backward()
    assert model.loss.log_scale.grad is not None


def test_a_transform_of_torch_func_is_an_error():
    image, _ = towers()
    step = CachedContrastive(image, image, InfoNCELoss())
    with pytest.raises(
        RuntimeError, match=r"^CachedContrastive: it runs a backward pass of its own"
    ):
        torch.func.grad(lambda rows: step(rows, rows))(inputs(5)[0])


def test_is_an_ordinary_scalar_scaled_and_accumulated():
    image, text = towers()
    batches = [inputs(5, seed) for seed in range(3)]

    for images, texts in batches:
        (
            InfoNCELoss(0.3)(image(images), text(texts)) / 3 + image[0].weight.square().sum()
        ).backward()

    want = gradients(image, text)
    step = CachedContrastive(image, text, InfoNCELoss(0.3), chunk_size=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)

    for images, texts in batches:
        scaler.scale(step(images, texts) / 3 + image[0].weight.square().sum()).backward()

    got = {key: gradient / 64 for key, gradient in gradients(image, text).items()}

    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)


def test_dropout_masks_are_equal_in_both_passes():
    image, text = towers(torch.nn.Dropout(0.5))
    images, texts = inputs(7)
    torch.manual_seed(11)
    InfoNCELoss(0.3)(in_chunks(image, images, 3), in_chunks(text, texts, 3)).backward()
    after = torch.get_rng_state()
    want = gradients(image, text)
    torch.manual_seed(11)
    value = CachedContrastive(image, text, InfoNCELoss(0.3), chunk_size=3)(images, texts)

    assert torch.equal(torch.get_rng_state(), after)

    torch.rand(5)  # random numbers drawn between the passes
    between = torch.get_rng_state()
    value.backward()

    assert torch.equal(torch.get_rng_state(), between)  # and after it
    torch.testing.assert_close(gradients(image, text), want, atol=1e-6, rtol=1e-5)


def test_autocast_is_the_same_in_both_passes():
    image, text = towers()
    images, texts = inputs(6)
    cast = torch.autocast("cpu", dtype=torch.bfloat16)

    with torch.autocast(
        "cpu", dtype=torch.bfloat16, cache_enabled=False
    ):  # or chunks add up in bfloat16
        plain = InfoNCELoss(0.3)(in_chunks(image, images, 2), in_chunks(text, texts, 2))

    plain.backward()
    want = gradients(image, text)
    seen = []

    def encode(rows):
        seen.append(image(rows))
        return seen[-1]

    with cast:
        value = CachedContrastive(encode, text, InfoNCELoss(0.3), chunk_size=2)(images, texts)

    value.backward()  # outside autocast

    assert value.item() == plain.item()
    assert {rows.dtype for rows in seen} == {torch.bfloat16}
    assert len(seen) == 6
    torch.testing.assert_close(gradients(image, text), want, atol=1e-6, rtol=1e-5)


def test_a_later_forward_in_the_same_autocast_region_has_its_gradient():
    image, _ = towers()
    images = inputs(4)[0]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        CachedContrastive(image, None, lambda v: v.float().sum(), chunk_size=2)(images)
        image(images).float().sum().backward()

    assert all(parameter.grad is not None for parameter in image.parameters())


@pytest.mark.parametrize("bound", [False, True])
def test_running_statistics_of_batch_norm_move_once(bound):
    image, text = towers(torch.nn.BatchNorm1d(8))
    images, texts = inputs(8)
    plain = copy.deepcopy(image), copy.deepcopy(text)
    InfoNCELoss(0.3)(in_chunks(plain[0], images, 4), in_chunks(plain[1], texts, 4)).backward()
    encoders = (image.forward, text.forward) if bound else (image, text)
    CachedContrastive(*encoders, InfoNCELoss(0.3), chunk_size=4)(images, texts).backward()

    torch.testing.assert_close(image.state_dict(), plain[0].state_dict())
    assert image[1].num_batches_tracked.item() == 2
    assert image[1].track_running_stats
    torch.testing.assert_close(gradients(image, text), gradients(*plain), atol=1e-6, rtol=1e-5)


def test_without_gradient_it_is_the_loss_in_chunks():
    image, text = towers()
    sizes = []

    def encode(rows):
        sizes.append(len(rows))
        return image(rows)

    images, texts = inputs(7)

    with torch.no_grad():
        value = CachedContrastive(encode, text, InfoNCELoss(0.3), chunk_size=3)(images, texts)
        torch.testing.assert_close(value, InfoNCELoss(0.3)(image(images), text(texts)))

    assert sizes == [3, 3, 1]
    assert not value.requires_grad


def test_frozen_sides_and_an_unused_side():
    image, text = towers()
    images, texts = inputs(5)
    text.requires_grad_(False)
    InfoNCELoss(0.3)(image(images), text(texts)).backward()
    want = gradients(image)
    step = CachedContrastive(image, text, InfoNCELoss(0.3), chunk_size=2)
    step(images, texts).backward()

    torch.testing.assert_close(gradients(image), want, atol=1e-6, rtol=1e-5)

    image.requires_grad_(False)
    step(images, texts).backward()  # nothing to train is no error: the loss may have parameters
    text.requires_grad_(True)
    CachedContrastive(image, text, lambda v, t: v.sum(), chunk_size=2)(images, texts).backward()

    # As DDP needs: reached, with zero.
    assert all((parameter.grad == 0).all() for parameter in text.parameters())


def test_one_chunk_has_a_graph_at_a_time_and_the_last_ones_are_synchronised_together():
    image, text = towers()
    log = []

    @contextlib.contextmanager
    def no_sync():
        log.append("(")
        yield
        log.append(")")

    def watched(name, encode):
        def call(rows):
            if torch.is_grad_enabled():
                log.append(name)
            return encode(rows)

        return call

    images, texts = inputs(5)
    encoders = watched("i", image), watched("t", text)
    step = CachedContrastive(
        *encoders, InfoNCELoss(0.3), chunk_size=2, text_chunk_size=4, no_sync=no_sync
    )
    step(images, texts).backward()

    assert "".join(log) == "(i)(it)it"

    log.clear()
    CachedContrastive(encoders[0], encoders[0], InfoNCELoss(0.3), chunk_size=3, no_sync=no_sync)(
        images, texts
    ).backward()

    assert "".join(log) == "(i)(i)(i)i"


def test_wrong_arguments():
    image, text = towers()
    images, texts = inputs(4)
    step = CachedContrastive(image, text, InfoNCELoss(0.3))

    with pytest.raises(ValueError, match="chunk_size as a whole number >= 1, got 0"):
        CachedContrastive(image, text, InfoNCELoss(0.3), chunk_size=0)

    with pytest.raises(ValueError, match=r"there is an encode_text, but no texts are given\."):
        step(images)

    with pytest.raises(ValueError, match="texts are given, but there is no encode_text"):
        CachedContrastive(image, None, InfoNCELoss(0.3))(images, texts)

    with pytest.raises(ValueError, match="images require gradient"):
        step(images.requires_grad_(), texts)

    with pytest.raises(
        ValueError, match=r"texts as tensors with one number of rows, got shape \(4, 6\).*\(3, 6\)"
    ):
        step(images.detach(), [texts, texts[:3]])

    with pytest.raises(ValueError, match="texts as tensors with one number of rows, got list"):
        step(images.detach(), ["a", "b"])

    with pytest.raises(
        ValueError,
        match=r"the encoder of texts to return \(4, D\) for a chunk, got shape \(4, 2, 3\)",
    ):
        CachedContrastive(image, lambda x: x.view(4, 2, 3), InfoNCELoss(0.3))(
            images.detach(), texts
        )


class Both(torch.nn.Module):
    """Two towers under one wrapper, as DDP wants to see a CLIP."""

    def __init__(self):
        super().__init__()
        self.image, self.text = towers()

    def forward(self, rows, side):
        return getattr(self, side)(rows)


ROWS, SPLIT = 7, 5  # three chunks of two on rank 0, one on rank 1


def wrapping(kind, wrap):
    """Encoders, the context for ``no_sync``, and the modules that hold the parameters."""
    if kind == "two wrappers":
        image, text = towers()
        wrapped = wrap(image), wrap(text)
        return wrapped, None, (image, text), wrapped

    if kind == "one wrapper":
        both = Both()
        wrapped = wrap(both)
        encoders = (lambda x: wrapped(x, "image")), (lambda x: wrapped(x, "text"))
        return encoders, getattr(wrapped, "no_sync", None), (both.image, both.text), (wrapped,)

    # One tower for both sides; with buffers, which DDP sends round.
    image, _ = towers(torch.nn.BatchNorm1d(8).eval())
    wrapped = wrap(image)

    return (wrapped, wrapped), None, (image,), (wrapped,)


KINDS = ["two wrappers", "one wrapper", "one tower"]


def found_by(rank):
    found = {}
    for kind in KINDS:
        encoders, no_sync, modules, wrappers = wrapping(
            kind, torch.nn.parallel.DistributedDataParallel
        )
        reductions = [count_reductions(wrapper) for wrapper in wrappers]
        loss = InfoNCELoss(0.3, distributed=True)
        step = CachedContrastive(*encoders, loss, chunk_size=2, no_sync=no_sync)
        values = []
        for seed in range(2):  # two steps, accumulated
            images, texts = (x[:SPLIT] if rank == 0 else x[SPLIT:] for x in inputs(ROWS, seed))
            value = step(images, texts)
            value.backward()
            values.append(value.item())

        found[kind] = (
            values,
            {k: g.tolist() for k, g in gradients(*modules).items()},
            [len(r) for r in reductions],
        )
    return found


def count_reductions(wrapper):
    calls = []

    def average(state, bucket):
        calls.append(1)
        buffer = bucket.buffer().div_(dist.get_world_size())
        dist.all_reduce(buffer)
        done = torch.futures.Future()
        done.set_result(buffer)

        return done

    wrapper.register_comm_hook(None, average)
    return calls


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_two_ranks(found_by, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_of_unequal_size_have_the_gradient_of_one(ranks, kind):
    encoders, _, modules, _ = wrapping(kind, lambda module: module)
    loss, values = InfoNCELoss(0.3), []

    for seed in range(2):
        images, texts = inputs(ROWS, seed)
        value = loss(encoders[0](images), encoders[1](texts))
        value.backward()
        values.append(value.item())

    want = gradients(*modules)

    for rank in range(2):
        got_values, got, reductions = ranks[rank][kind]
        assert got_values == pytest.approx(values, rel=1e-5)
        for key, gradient in want.items():
            torch.testing.assert_close(torch.tensor(got[key]), gradient, atol=1e-6, rtol=1e-4)
        assert set(reductions) == {2}  # one for each step, for any number of chunks
