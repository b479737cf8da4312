"""Gradient caching: contrastive batches of any size in the memory of one chunk (GradCache)."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clipreid_kit._checks import check_integer, describe, fail, inside_a_transform
from clipreid_kit.losses._engine.execution_state import ExecutionState
from clipreid_kit.losses._engine.nested_batch import num_rows_of, slice_rows, tensors_in
from clipreid_kit.losses._engine.watched_tensor import WatchedTensor

Encoder = Callable[[Any], Tensor]


def cached_contrastive_definition(
    encode_image: Encoder,
    encode_text: Encoder | None,
    loss: Callable[..., Tensor],
    images: object,
    texts: object = None,
    *loss_args: object,
) -> Tensor:
    """The plain step that :class:`CachedContrastive` equals, with all activations in memory.

    Example:
        >>> tower, rows = torch.nn.Identity(), torch.eye(2)
        >>> cached_contrastive_definition(tower, tower, torch.dist, rows, 2 * rows)
        tensor(1.4142)
    """
    image_embeddings = encode_image(images)
    if encode_text is None:
        return loss(image_embeddings, *loss_args)

    text_embeddings = encode_text(texts)
    return loss(image_embeddings, text_embeddings, *loss_args)


class CachedContrastive:
    r"""Contrastive loss of a whole batch, with the activations of one chunk in memory (GradCache).

    Contrastive losses need all rows at once, and a large batch needs the activations of all rows.
    Here the batch is encoded in chunks without a graph. The loss of all embeddings gives the
    gradient of each embedding. The backward pass encodes each chunk again, with a graph, and passes
    its part of that gradient on. The gradients are those of the plain step, up to rounding, for
    batches that would never fit.

    The price is one more forward pass: as a backward pass costs about two forward passes, 4/3 of
    the plain step. With ``kept_chunks`` the first chunks are not encoded again, because their graph
    is kept: a share :math:`f` of kept chunks costs :math:`4/3 - f/3` of the plain step, in a share
    :math:`f` of its memory. So 1.15 times its time needs more than half of its memory.

    .. math:: \frac{\partial L}{\partial \theta} = \sum_{\text{chunks } B} \Big\langle
        \frac{\partial L}{\partial z_B}, \frac{\partial z_B}{\partial \theta} \Big\rangle

    A call returns an ordinary scalar with a graph: call ``backward`` on it (through a
    ``GradScaler`` or ``accelerator.backward`` if there is one), divide it, add it to other losses,
    accumulate. The parameters of the loss (a learned temperature) get their gradient, too. Under
    ``torch.no_grad()`` it is the loss alone, computed in chunks.

    Both passes of a chunk use the same random numbers (so dropout masks are equal) and the same
    autocast.

    Args:
        encode_image: Called with a chunk of the images (the same structure with fewer rows);
            returns (n, D). A Module, a method such as ``model.encode_image``, or any function.
        encode_text: The same for texts; it may be the same object. ``None`` for a single tower.
        loss: Called as ``loss(image_embeddings, text_embeddings, *loss_args)``, or with a single
            tower as ``loss(embeddings, *loss_args)``. A custom function may sum several losses.
        chunk_size: Rows of a chunk, at least 1: as many as fit with a graph.
        text_chunk_size: The same for texts; defaults to ``chunk_size``.
        kept_chunks: Number of chunks of each side whose graph is kept, each with the activations
            of a chunk; the last chunk of a side never is.
        no_sync: Returns a context in which gradients are not synchronised, such as
            ``ddp_model.no_sync``. It is entered for all backward passes but the last, which two
            encoders share. Defaults to the encoders' own ``no_sync`` where they have one
            (``DistributedDataParallel`` itself is an encoder).

    Raises:
        ValueError: If a size is below 1. In a call, if inputs differ in their rows or require
            gradient, if texts are given without ``encode_text`` or the other way round, or if an
            encoder does not return (n, D).
        RuntimeError: In ``backward``, if the batch or the weights changed after the call; in a
            call, inside a transform of ``torch.func``.

    Example:
        >>> from clipreid_kit import InfoNCELoss
        >>> tower = torch.nn.Linear(4, 2)
        >>> step = CachedContrastive(tower, tower, InfoNCELoss(), chunk_size=2)
        >>> step(torch.randn(6, 4), torch.randn(6, 4)).backward()
        >>> tower.weight.grad.shape
        torch.Size([2, 4])

    Relations:
        Equals :func:`cached_contrastive_definition`, the plain step.

    Note:
        Inputs are a tensor, or tensors in dicts, lists, tuples and dataclasses (a tokenizer's dict,
        for example), all with the same number of rows. Other values inside are passed to every
        chunk unchanged. Each pass gets a copy of the chunk, so an encoder may change its input.
        Encode a side whose encoder is frozen beforehand, and pass it through ``loss_args``.

        On several ranks give the loss ``distributed=True`` and wrap the towers as usual. Each step
        makes one reduction, for any number of chunks, so ranks may hold different numbers of
        rows (at least one). If the encoders are functions that call a wrapped model, pass
        ``no_sync=model.no_sync``: without it every chunk reduces, which is slow, and waits for ever
        where ranks differ in their numbers of chunks. Two towers behind one wrapper are two forward
        passes for one backward pass: with batch norm, give DDP ``broadcast_buffers=False``.

        Batch norm in training mode uses the statistics of a chunk, not of the batch: the loss
        differs from the plain step, as it does with any smaller batch. Running statistics are
        updated once if the encoder is a Module or its method, and twice behind another function.
        Random numbers are replayed on the CPU and on the devices of the inputs. The batch and
        the model must not change between the call and ``backward``: a change in place of the
        batch, or of the weights of a Module (itself, its method, or one that a function names), is
        an error. Apply ``torch.compile`` to the encoders: this
        class runs a backward pass inside a backward pass, which cannot be one graph.

    References:
        Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
        RepL4NLP 2021.
    """

    def __init__(
        self,
        encode_image: Encoder,
        encode_text: Encoder | None,
        loss: Callable[..., Tensor],
        *,
        chunk_size: int = 32,
        text_chunk_size: int | None = None,
        kept_chunks: int = 0,
        no_sync: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        check_integer("CachedContrastive", "chunk_size", chunk_size, 1)
        if text_chunk_size is not None:
            check_integer("CachedContrastive", "text_chunk_size", text_chunk_size, 1)

        check_integer("CachedContrastive", "kept_chunks", kept_chunks, 0)

        self.encode_image = encode_image
        self.encode_text = encode_text
        self.loss = loss
        self.chunk_size = chunk_size
        self.text_chunk_size = text_chunk_size
        self.kept_chunks = kept_chunks
        self.no_sync = self._no_sync_of_encoders if no_sync is None else no_sync

    def __call__(self, images: object, texts: object = None, *loss_args: object) -> Tensor:
        """Compute the loss of the whole batch; call ``backward`` on it."""
        if inside_a_transform():
            raise RuntimeError(
                "CachedContrastive: it runs a backward pass of its own, which torch.func cannot "
                "transform. Take cached_contrastive_definition, the plain step."
            )
        sides = self._sides(images, texts)

        # The input of the graph: it requires gradient, so that the backward pass is run.
        graph_input = torch.empty(0, requires_grad=True, device="cpu")
        kept_chunks = self.kept_chunks if torch.is_grad_enabled() else 0
        embeddings = _EncodeInChunks.apply(graph_input, sides, kept_chunks, self.no_sync)

        # Weights that were cast in the pass without a graph must not be reused in one with a graph.
        if any(side.states[0].uses_autocast() for side in sides):
            torch.clear_autocast_cache()

        value = self.loss(*embeddings, *loss_args)

        # After the loss, which may clamp a temperature that an encoder holds, too.
        for side in sides:
            side.watch()
        return value

    def _sides(self, images: object, texts: object) -> "list[_Side]":
        if self.encode_text is None and texts is not None:
            raise ValueError(
                "CachedContrastive: texts are given, but there is no encode_text. "
                "With a single tower leave texts out, or pass them through loss_args."
            )
        if self.encode_text is not None and texts is None:
            raise ValueError(
                "CachedContrastive: there is an encode_text, but no texts are given. "
                "For a single tower construct it with encode_text=None."
            )

        sides = [_Side("images", self.encode_image, images, self.chunk_size)]
        if self.encode_text is not None:
            chunk_size = self.chunk_size if self.text_chunk_size is None else self.text_chunk_size
            sides.append(_Side("texts", self.encode_text, texts, chunk_size))

        return sides

    @contextmanager
    def _no_sync_of_encoders(self) -> Iterator[None]:
        encoders: list[object] = [self.encode_image]
        if self.encode_text is not self.encode_image:
            encoders.append(self.encode_text)

        with ExitStack() as stack:
            for encode in encoders:
                no_sync = getattr(encode, "no_sync", None)
                if no_sync is not None:
                    stack.enter_context(no_sync())

            yield

    def __repr__(self) -> str:
        """Sizes, encoders and loss on one line."""
        encoders = _name(self.encode_image)
        if self.encode_text is not None:
            encoders = f"{encoders}, {_name(self.encode_text)}"

        return (
            f"CachedContrastive({encoders}, {_name(self.loss)}, chunk_size={self.chunk_size}, "
            f"text_chunk_size={self.text_chunk_size}, kept_chunks={self.kept_chunks})"
        )


class _EncodeInChunks(torch.autograd.Function):
    """Embeddings of all rows without a graph; the backward pass encodes chunk by chunk with one."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        graph_input: Tensor,  # noqa: ARG004 (requires gradient, so that the backward pass is run)
        sides: "list[_Side]",
        kept_chunks: int,
        no_sync: Callable[[], AbstractContextManager[object]],
    ) -> tuple[Tensor, ...]:
        ctx.sides = sides
        ctx.no_sync = no_sync
        return tuple(side.encode_all(kept_chunks, no_sync) for side in sides)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        *gradients: Tensor,
    ) -> tuple[None, None, None, None]:
        sides = ctx.sides
        for side in sides:
            side.check_unchanged()
        for side, gradient in zip(sides, gradients, strict=True):
            side.set_gradient(gradient)

        *unsynchronised, last = _backward_passes(sides)
        with torch.enable_grad(), _fixed_running_statistics(side.owner() for side in sides):
            for backward_pass in unsynchronised:
                with ctx.no_sync():
                    _run_backward_pass(backward_pass)

            _run_backward_pass(last)

        return None, None, None, None


class _Side:
    """One encoder and its batch in chunks, with what is needed to encode them a second time."""

    def __init__(self, name: str, encode: Encoder, batch: object, chunk_size: int) -> None:
        num_rows = num_rows_of("CachedContrastive", name, batch)
        if any(tensor.requires_grad for tensor in tensors_in(batch)):
            raise ValueError(
                f"CachedContrastive: {name} require gradient, which would be lost. "
                "Pass what the encoder reads, and let the encoder hold what is trained."
            )

        self.starts = range(0, max(num_rows, 1), chunk_size)
        self.name = name
        self.encode = encode
        # New containers: the caller may put other tensors into the given ones.
        self.batch = slice_rows(batch, 0, num_rows)
        self.sizes = [min(start + chunk_size, num_rows) - start for start in self.starts]
        self.states: list[ExecutionState] = []
        self.watched: list[WatchedTensor] = []
        self.gradients: tuple[Tensor, ...] = ()
        self.kept: dict[int, Tensor] = {}

    def owner(self) -> object:
        """The object behind a bound method, or the encoder itself."""
        return self.encode.__self__ if inspect.ismethod(self.encode) else self.encode

    def chunk(self, index: int) -> Any:  # noqa: ANN401 (any structure)
        """A copy of the rows of a chunk, which the encoder may change."""
        start = self.starts[index]
        return slice_rows(self.batch, start, start + self.sizes[index], copy_rows=True)

    def watch(self) -> None:
        """Note the versions of what both passes read: the batch, and the encoder's weights."""
        for tensor in tensors_in(self.batch):
            self.watched.append(WatchedTensor.of(self.name, tensor))

        for module in _modules_of(self.encode):
            for name, parameter in module.named_parameters():
                self.watched.append(
                    WatchedTensor.of(f"the weight {name} of {self.name}", parameter)
                )

    def check_unchanged(self) -> None:
        """Raise RuntimeError if something was changed in place since :meth:`watch`."""
        for watched in self.watched:
            if watched.is_changed():
                raise RuntimeError(
                    f"CachedContrastive: {watched.name} changed between the call and backward, "
                    "which encodes the batch again. Call backward before the optimiser's step, "
                    "and before you fill the batch's tensors anew."
                )

    def encode_all(
        self, kept_chunks: int, no_sync: Callable[[], AbstractContextManager[object]]
    ) -> Tensor:
        """First pass: embeddings of all chunks, and the state at the time of each.

        The first chunks are encoded with a graph, which is kept. The last chunk is not among them:
        its second pass is the one that synchronises gradients.
        """
        self.states.clear()
        embeddings = []
        num_kept = min(kept_chunks, len(self.sizes) - 1)

        for index, size in enumerate(self.sizes):
            chunk = self.chunk(index)
            state = ExecutionState(chunk)
            self.states.append(state)

            if index < num_kept:
                # A weight that was cast without a graph must not be reused in one with a graph.
                if state.uses_autocast():
                    torch.clear_autocast_cache()
                with torch.enable_grad(), no_sync():
                    encoded: object = self.encode(chunk)
            else:
                encoded = self.encode(chunk)

            embedding = self._check_encoded(encoded, size)
            if index < num_kept:
                self.kept[index] = embedding
            embeddings.append(embedding.detach())

        return torch.cat(embeddings)

    def _check_encoded(self, encoded: object, size: int) -> Tensor:
        expected = f"the encoder of {self.name} to return ({size}, D) for a chunk"

        if not isinstance(encoded, Tensor):
            raise fail("CachedContrastive", expected, type(encoded).__name__)
        if encoded.ndim != 2 or encoded.shape[0] != size:
            raise fail("CachedContrastive", expected, describe(encoded))

        return encoded

    def encode_again(self, index: int) -> Tensor:
        """Second pass: embeddings of a chunk, in the same state as in the first, or those kept."""
        if index in self.kept:
            return self.kept.pop(index)

        with self.states[index].restored():
            return self.encode(self.chunk(index))

    def set_gradient(self, gradient: Tensor) -> None:
        """Split the gradient of the embeddings into those of the chunks."""
        self.gradients = torch.split(gradient, self.sizes)


def _modules_of(encode: object) -> list[nn.Module]:
    """Modules that an encoder calls, as far as they can be seen from outside."""
    if isinstance(encode, partial):
        return _modules_of(encode.func)

    owner = encode.__self__ if inspect.ismethod(encode) else encode
    if isinstance(owner, nn.Module):
        return [owner]
    if not inspect.isfunction(owner):
        return []

    try:
        names = inspect.getclosurevars(owner)
    except ValueError:  # a name that has no value yet
        return []
    values = [*names.nonlocals.values(), *names.globals.values()]
    return [value for value in values if isinstance(value, nn.Module)]


# The chunks of a backward pass, each a side and the index of a chunk.
_BackwardPass = list[tuple[_Side, int]]


def _backward_passes(sides: list[_Side]) -> list[_BackwardPass]:
    """Chunks that share a backward pass, in order.

    Only the last pass is synchronised, so it has to reach all parameters: with two encoders it has
    the last chunk of both. One encoder for both sides takes one chunk at a time, because DDP does
    not support two forward passes for one backward pass.
    """
    if len(sides) == 2 and sides[0].encode == sides[1].encode:
        return [[(side, index)] for side in sides for index in range(len(side.sizes))]

    num_passes = max(len(side.sizes) for side in sides)
    passes: list[_BackwardPass] = [[] for _ in range(num_passes)]

    for side in sides:
        # Aligned at the end.
        offset = num_passes - len(side.sizes)
        for index in range(len(side.sizes)):
            passes[offset + index].append((side, index))

    return passes


def _run_backward_pass(backward_pass: _BackwardPass) -> None:
    """Encode the chunks with a graph, and pass their part of the gradient on."""
    embeddings = []
    gradients = []

    for side, index in backward_pass:
        encoded = side.encode_again(index)
        if encoded.requires_grad:
            embeddings.append(encoded)
            gradients.append(side.gradients[index])

    if embeddings:
        torch.autograd.backward(embeddings, gradients)


@contextmanager
def _fixed_running_statistics(owners: Iterable[object]) -> Iterator[None]:
    """Let batch norms use the statistics of their batch without adding them to the running ones."""
    norms: set[_BatchNorm] = set()
    for owner in owners:
        if isinstance(owner, nn.Module):
            norms.update(_tracking_batch_norms(owner))

    for norm in norms:
        norm.track_running_stats = False

    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _tracking_batch_norms(module: nn.Module) -> Iterator[_BatchNorm]:
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.training and part.track_running_stats:
            yield part


def _name(callable_object: object) -> str:
    """Name of a function, a method or a class, for a repr."""
    name = getattr(callable_object, "__qualname__", type(callable_object).__name__)
    return str(name)
