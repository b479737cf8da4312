"""Encode the images of a data loader into one matrix of embeddings."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from clipreid_kit.distances import l2_normalize


@torch.no_grad()
def encode_images(
    model: Callable[[Tensor], Any],
    loader: Iterable[Any],
    *,
    device: torch.device | str | None = None,
    normalize: bool = True,
) -> Float[Tensor, "n d"]:
    """Encode every image of a data loader, without gradients.

    Use it to evaluate, mine or index: one row for each item of the loader, in the order of the
    loader. The model is in evaluation mode during the call; afterwards every submodule is in the
    mode that it was in before, also after an error.

    Args:
        model: A module, such as :class:`ClipBaseline`, or a callable, such as
            ``towers.encode_image``. It takes a batch of images and returns embeddings (N, D), or an
            object that holds them as ``embedding``. The module behind a bound method is put into
            evaluation mode likewise; a plain function is called as it is.
        loader: A ``DataLoader`` of a :class:`ReidDataset`, not shuffled; or any iterable of batches
            that are tensors of images or hold them as ``image``.
        device: Device that images are moved to; the model stays where it is. Defaults to the device
            of the module's first parameter; for a plain function, or a module without parameters,
            images stay where they are.
        normalize: Whether to scale every row to unit length.

    Returns:
        Embeddings (N, D) on the CPU, in float32 (or float64, if the model computes in it).

    Raises:
        ValueError: If the loader yields no batch, no images, or items out of order; or if the model
            returns anything but one row for each image, or a row with NaN or infinity.

    Example:
        >>> class Mean(nn.Module):
        ...     def forward(self, images):
        ...         return images.mean((2, 3))
        >>> model = Mean()
        >>> loader = [torch.ones(2, 3, 4, 4), torch.zeros(1, 3, 4, 4)]  # in place of a DataLoader
        >>> encode_images(model, loader, normalize=False)
        tensor([[1., 1., 1.],
                [1., 1., 1.],
                [0., 0., 0.]])
        >>> model.training
        True

    Note:
        Mixed precision is the caller's: inside ``torch.autocast`` the model runs in its type. A
        loader that shuffles is an error, because the rows would not belong to the records any more.
    """
    if isinstance(loader, Dataset):
        raise ValueError(
            f"encode_images: got a {type(loader).__name__} instead of batches. "
            "Wrap it: DataLoader(dataset, batch_size=64)."
        )

    module = _module_of(model)
    if device is None:
        device = _device_of(module)

    batches: list[Tensor] = []
    last_row = -1
    with _evaluation_mode(module):
        for batch in loader:
            images = _images_of(batch)
            last_row = _check_order(batch, last_row)

            if device is not None:
                images = images.to(device, non_blocking=True)

            batches.append(_embeddings_of(model(images), len(images)).cpu())

    if not batches:
        raise ValueError(
            "encode_images: the loader yields no batch. "
            "Check that its data set is not empty, and that drop_last is False."
        )

    embeddings = torch.cat(batches)
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()

    _check_finite(embeddings)
    return l2_normalize(embeddings) if normalize else embeddings


def _module_of(model: Callable[[Tensor], Any]) -> nn.Module | None:
    """Return the module that runs: the model itself, or the owner of a bound method."""
    owner = getattr(model, "__self__", model)
    return owner if isinstance(owner, nn.Module) else None


def _device_of(module: nn.Module | None) -> torch.device | None:
    """Return the device of the module's first parameter; ``None`` if there is none."""
    if module is None:
        return None

    first = next(module.parameters(), None)
    return None if first is None else first.device


@contextmanager
def _evaluation_mode(module: nn.Module | None) -> Iterator[None]:
    """Put a module into evaluation mode, then each of its submodules back into its own mode."""
    if module is None:
        yield
        return

    # One mode a submodule: frozen batch norms stay in evaluation mode while the rest trains.
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _images_of(batch: object) -> Tensor:
    """Return the images of a batch."""
    images = batch if isinstance(batch, Tensor) else getattr(batch, "image", None)
    if isinstance(images, Tensor):
        return images

    raise ValueError(
        f"encode_images: the loader yields a {type(batch).__name__} without a tensor `image`. "
        "Use a DataLoader of a ReidDataset, or batches that are tensors of images."
    )


def _check_order(batch: object, last_row: int) -> int:
    """Check that the rows of the data set come in ascending order; return the last one."""
    rows = getattr(batch, "row", None)
    if not isinstance(rows, Tensor) or rows.numel() == 0:
        return last_row

    for row in rows.tolist():
        if row <= last_row:
            raise ValueError(
                f"encode_images: the loader yields row {row} of its data set after row {last_row}, "
                "so embeddings would not be in the order of the records. Use a DataLoader with "
                "shuffle=False and no sampler."
            )
        last_row = row

    return last_row


def _embeddings_of(output: object, num_images: int) -> Tensor:
    """Return the embeddings of a model's output, checked to be one row for each image."""
    embeddings = output if isinstance(output, Tensor) else getattr(output, "embedding", None)
    if not isinstance(embeddings, Tensor):
        raise ValueError(
            f"encode_images: the model returned a {type(output).__name__} without a tensor "
            "`embedding`. Pass a function or method that returns the embeddings, a tensor (N, D)."
        )

    shape = tuple(embeddings.shape)
    if len(shape) != 2 or shape[0] != num_images or not embeddings.is_floating_point():
        raise ValueError(
            f"encode_images: the model returned shape {shape} in {embeddings.dtype} for "
            f"{num_images} images. It has to return floating-point embeddings (N, D), one row for "
            "each image."
        )

    return embeddings


def _check_finite(embeddings: Tensor) -> None:
    """Raise ValueError if a row holds NaN or infinity."""
    broken = (~embeddings.isfinite().all(dim=1)).nonzero().flatten()
    if len(broken):
        raise ValueError(
            f"encode_images: {len(broken)} of {len(embeddings)} embeddings hold NaN or infinity, "
            f"the first in row {int(broken[0])}. Check the weights, the images of these rows, and "
            "the precision."
        )
