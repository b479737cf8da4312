"""Gradient caching: contrastive batches of any size in the memory of one chunk (GradCache)."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import get_device_states, set_device_states

from clipreid_kit._checks import check_integer, describe, fail

Encoder = Callable[[Any], Tensor]


def _tensors(batch: object) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from _tensors(value)


def _part(batch: Any, start: int, stop: int) -> Any:  # noqa: ANN401 (a batch is whatever the encoder takes)
    """Rows of every tensor in a batch; everything else as it is."""
    if isinstance(batch, Tensor):
        return batch[start:stop]
    if isinstance(batch, Mapping):
        return {key: _part(value, start, stop) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        parts = [_part(value, start, stop) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def _num_rows(name: str, batch: object) -> int:
    tensors = list(_tensors(batch))
    sizes = {tensor.shape[0] if tensor.ndim > 0 else -1 for tensor in tensors}
    if len(sizes) != 1 or -1 in sizes:
        found = ", ".join(describe(tensor) for tensor in tensors) or type(batch).__name__
        raise fail("CachedContrastive", f"{name} as tensors with one number of rows", found)
    if any(tensor.requires_grad for tensor in tensors):
        raise fail(
            "CachedContrastive",
            f"{name} without gradient",
            "requires_grad=True",
            "Pass what the encoder reads.",
        )
    return sizes.pop()


def _owner(encode: Encoder) -> object:
    """The object behind a bound method, or the encoder itself."""
    return encode.__self__ if inspect.ismethod(encode) else encode


class _Settings:
    """Random state and autocast at the time of the first pass of a chunk, to be had again in the second."""

    def __init__(self, batch: object) -> None:
        tensors = list(_tensors(batch))
        self.cpu = torch.get_rng_state()
        self.devices, self.states = get_device_states(*tensors)
        self.kind = next((t.device.type for t in tensors if t.device.type != "cpu"), "cuda")
        self.autocasts = [
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            for kind in sorted({"cpu", *(t.device.type for t in tensors)})
        ]
        self.cache = torch.is_autocast_cache_enabled()

    @contextmanager
    def again(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(self.devices, device_type=self.kind))
            torch.set_rng_state(self.cpu)
            if self.states:
                set_device_states(self.devices, self.states)
            for kind, dtype, enabled in self.autocasts:
                stack.enter_context(
                    torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=self.cache)
                )
            yield


class _Side:
    """One encoder with its batch in chunks, and what is needed to encode them a second time."""

    def __init__(self, name: str, encode: Encoder, batch: object, chunk_size: int) -> None:
        num_rows = _num_rows(name, batch)
        starts = range(0, max(num_rows, 1), chunk_size)
        self.name, self.encode = name, encode
        self.chunks = [_part(batch, start, start + chunk_size) for start in starts]
        self.sizes = [min(start + chunk_size, num_rows) - start for start in starts]
        self.settings: list[_Settings] = []

    def first_pass(self) -> Tensor:
        self.settings.clear()
        rows = []
        for chunk, size in zip(self.chunks, self.sizes, strict=True):
            self.settings.append(_Settings(chunk))
            encoded: object = self.encode(chunk)
            if not isinstance(encoded, Tensor) or encoded.ndim != 2 or encoded.shape[0] != size:
                found = describe(encoded) if isinstance(encoded, Tensor) else type(encoded).__name__
                raise fail(
                    "CachedContrastive",
                    f"the encoder of {self.name} to return ({size}, D) for a chunk",
                    found,
                )
            rows.append(encoded)
        return torch.cat(rows)

    def second_pass(self, index: int) -> Tensor:
        with self.settings[index].again():
            return self.encode(self.chunks[index])


@contextmanager
def _statistics_kept(owners: Iterable[object]) -> Iterator[None]:
    """Batch norms use the statistics of their batch, as before, and do not add them to the running ones again."""
    modules = [m for owner in owners if isinstance(owner, nn.Module) for m in owner.modules()]
    norms = {
        m for m in modules if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    }
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _steps(sides: list[_Side]) -> list[list[tuple[int, int]]]:
    """The (side, chunk) pairs that share a backward pass, in order.

    The last of them is the one that is synchronised, so it has to reach all parameters: with two encoders it takes
    the last chunk of both. One encoder for both sides goes one chunk at a time; DDP dislikes two forward passes.
    """
    numbers = [range(len(side.chunks)) for side in sides]
    if len(sides) == 2 and sides[0].encode == sides[1].encode:
        return [[(side, chunk)] for side in (0, 1) for chunk in numbers[side]]
    longest = max(len(chunks) for chunks in numbers)
    aligned = [[None] * (longest - len(chunks)) + list(chunks) for chunks in numbers]
    return [
        [(s, chunk) for s, chunk in enumerate(step) if chunk is not None]
        for step in zip(*aligned, strict=True)
    ]


class _Encode(torch.autograd.Function):
    """All rows, with the graph of none; the backward pass encodes chunk by chunk again, and passes on its gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        anchor: Tensor,  # noqa: ARG004 (requires gradient, so that the backward pass is run)
        sides: list[_Side],
        no_sync: Callable[[], AbstractContextManager[object]],
    ) -> tuple[Tensor, ...]:
        ctx.sides, ctx.no_sync = sides, no_sync
        return tuple(side.first_pass() for side in sides)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:  # noqa: ANN401 (torch's own context)
        parts = [
            torch.split(gradient, side.sizes)
            for side, gradient in zip(ctx.sides, gradients, strict=True)
        ]
        *before, last = _steps(ctx.sides)
        with torch.enable_grad(), _statistics_kept(_owner(side.encode) for side in ctx.sides):
            for step in [*before, last]:
                with nullcontext() if step is last else ctx.no_sync():
                    encoded = [
                        (ctx.sides[s].second_pass(chunk), parts[s][chunk]) for s, chunk in step
                    ]
                    trained = [(rows, gradient) for rows, gradient in encoded if rows.requires_grad]
                    if trained:
                        rows_of_step, gradients_of_step = zip(*trained, strict=True)
                        torch.autograd.backward(rows_of_step, gradients_of_step)
        return None, None, None


class CachedContrastive:
    r"""A contrastive loss of a whole batch whose towers hold the activations of one chunk (GradCache).

    Contrastive losses need all rows at once, and a large batch needs the activations of all rows. Here the batch is
    encoded in chunks without a graph; the loss, on all embeddings, gives the gradient of each embedding; and the
    backward pass encodes each chunk again, with a graph, to pass its part on. The price is one more forward pass.
    Gradients are those of the plain step, up to rounding, for batches that would never fit.

    .. math:: \frac{\partial L}{\partial \theta} = \sum_{\text{chunks } B}
        \Big\langle \frac{\partial L}{\partial z_B}, \frac{\partial z_B}{\partial \theta} \Big\rangle

    What comes back is an ordinary scalar with a graph: call ``backward`` on it, through a ``GradScaler`` or
    ``accelerator.backward`` if there is one, divide it, add it to other losses, accumulate. Parameters of the loss (a
    learned temperature) get their gradient, too. Without gradient (``torch.no_grad()``) it is the loss, computed in
    chunks.

    Both passes of a chunk see the same random numbers (dropout masks are equal) and the same autocast.

    Args:
        encode_image: Called with a chunk of the images (same structure, fewer rows); returns (n, D). A Module, a
            method such as ``model.encode_image``, or any function.
        encode_text: The same for texts; it may be the same object. ``None``: one tower.
        loss: Called as ``loss(image_embeddings, text_embeddings, *loss_args)``, or with one tower as
            ``loss(embeddings, *loss_args)``. A function of yours may sum several losses.
        chunk_size: Rows of a chunk, at least 1: as many as fit with a graph.
        text_chunk_size: The same for texts; ``None`` is ``chunk_size``.
        no_sync: Makes the context in which gradients are not synchronised, such as ``ddp_model.no_sync``; entered for
            all but the last backward pass, which two encoders share. ``None`` takes the encoders' own
            ``no_sync`` where they have one (``DistributedDataParallel`` itself is an encoder).

    Raises:
        ValueError: If a size is below 1; in a call, if inputs differ in their rows or require gradient, texts come
            without their encoder (or the other way round), or an encoder returns something else than (n, D).

    Example:
        >>> from clipreid_kit import InfoNCELoss
        >>> tower = torch.nn.Linear(4, 2)
        >>> step = CachedContrastive(tower, tower, InfoNCELoss(), chunk_size=2)
        >>> step(torch.randn(6, 4), torch.randn(6, 4)).backward()
        >>> tower.weight.grad.shape
        torch.Size([2, 4])

    Note:
        Inputs are a tensor, or tensors in dicts, lists and tuples (a dict from a tokenizer, say), all with one number
        of rows; other values inside go to every chunk as they are. A side whose encoder is frozen is better encoded
        beforehand, and passed through ``loss_args``.

        On several ranks: give the loss ``distributed=True`` and wrap the towers as usual. One reduction is made for a
        step, whatever the number of chunks, so ranks may hold different numbers of rows (at least one). If the
        encoders are functions that call a wrapped model, pass ``no_sync=model.no_sync``: without it every chunk
        reduces, which is slow, and waits for ever where ranks differ in their numbers of chunks. Two towers behind one
        wrapper are two forward passes to one backward pass: with batch norm, give DDP ``broadcast_buffers=False``.

        Batch norm in training mode takes the statistics of a chunk, not of the batch: the loss differs from the
        plain step, as it does with any smaller batch. Running statistics are updated once where the encoder is a
        Module or its method; behind another function, twice. Random numbers are replayed on the CPU and on the
        devices of the inputs. A model must stay as it is between the call and ``backward``. ``torch.compile`` the
        encoders; this class runs a backward pass inside a backward pass, which cannot be one graph.

    References:
        Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, RepL4NLP 2021.
    """

    def __init__(
        self,
        encode_image: Encoder,
        encode_text: Encoder | None,
        loss: Callable[..., Tensor],
        *,
        chunk_size: int = 32,
        text_chunk_size: int | None = None,
        no_sync: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        check_integer("CachedContrastive", "chunk_size", chunk_size, 1)
        if text_chunk_size is not None:
            check_integer("CachedContrastive", "text_chunk_size", text_chunk_size, 1)
        self.encode_image = encode_image
        self.encode_text = encode_text
        self.loss = loss
        self.chunk_size = chunk_size
        self.text_chunk_size = chunk_size if text_chunk_size is None else text_chunk_size
        self.no_sync = self._no_sync_of_encoders if no_sync is None else no_sync

    @contextmanager
    def _no_sync_of_encoders(self) -> Iterator[None]:
        with ExitStack() as stack:
            for encode in {id(e): e for e in (self.encode_image, self.encode_text)}.values():
                no_sync = getattr(encode, "no_sync", None)
                if no_sync is not None:
                    stack.enter_context(no_sync())
            yield

    def __call__(self, images: object, texts: object = None, *loss_args: object) -> Tensor:
        """Loss of the whole batch, to call ``backward`` on; see the class."""
        sides = [_Side("images", self.encode_image, images, self.chunk_size)]
        if (texts is None) != (self.encode_text is None):
            got = (
                "texts and no encode_text"
                if self.encode_text is None
                else "encode_text and no texts"
            )
            raise fail(
                "CachedContrastive",
                "texts and encode_text together",
                got,
                "With one tower, texts is None.",
            )
        if self.encode_text is not None:
            sides.append(_Side("texts", self.encode_text, texts, self.text_chunk_size))
        anchor = torch.empty(0, requires_grad=True)
        embeddings = _Encode.apply(anchor, sides, self.no_sync)
        if any(
            torch.is_autocast_enabled(kind)
            for side in sides
            for kind, _, _ in side.settings[0].autocasts
        ):
            # weights cast in the pass without graph must not be taken for those of a pass with one
            torch.clear_autocast_cache()
        return self.loss(*embeddings, *loss_args)
