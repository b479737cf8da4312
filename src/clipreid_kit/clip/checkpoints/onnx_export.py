"""Export the image tower to ONNX, and verify the file against the module."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, check_positive, check_seed, fail
from clipreid_kit._files import replaced_file
from clipreid_kit.clip.checkpoints._onnx_graph import (
    Steps,
    check_file_to_write,
    exportable,
    largest_difference,
    require_onnx,
    run_file,
    run_module,
    write_graph,
)
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers

_OWNER = "export_image_tower"


def export_image_tower(
    towers: ClipTowers,
    path: str | PathLike[str],
    *,
    normalize: bool = True,
    tolerance: float = 1e-4,
    batch_size: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Write the image tower to an ONNX file, run the file, and compare it with the tower.

    Use it to serve embeddings without torch. The graph has one input ``images`` (N, 3, H, W),
    normalised as for :meth:`ClipTowers.encode_image`, and one output ``embeddings`` (N, D), for
    any N. A camera embedding is exported as its mean. Needs the extra ``export`` (onnx,
    onnxscript, onnxruntime). For a tracker, which does not normalise the images in this way, use
    :func:`export_for_tracker`.

    Args:
        towers: The towers; left unchanged. Those in another precision are exported in float32, and
            LoRA adapters are merged into the weights.
        path: The file to write; an existing one is replaced only if the comparison succeeds.
        normalize: Whether the graph scales every row to length 1.
        tolerance: Largest absolute difference allowed between two numbers of the outputs; above 0.
        batch_size: Number of images to compare with, besides a single one; at least 1.
        seed: Seed of these images, which are normal noise.
        progress: Called with the number of steps that are done, and that of all: the graph, and
            each batch that is run.

    Returns:
        The largest absolute difference that was found.

    Raises:
        ValueError: If the extra is not installed, the tower cannot be exported, or the outputs
            differ.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(128, 64))
        >>> export_image_tower(towers, "tower.onnx") < 1e-4  # doctest: +SKIP
        True
    """
    check_positive(_OWNER, "tolerance", tolerance)
    check_integer(_OWNER, "batch_size", batch_size, 1)
    check_seed(_OWNER, seed)

    require_onnx(_OWNER)
    check_file_to_write(_OWNER, path)

    check_towers(_OWNER, towers)
    training = towers.training
    exported = exportable(towers)
    wrapped = _ImageTower(exported, normalize=normalize)
    images = _random_images(exported, batch_size, seed)
    batches = [images, images[:1]]
    steps = Steps(progress, 2 * len(batches) + 1)

    try:
        with replaced_file(Path(path)) as temporary:
            wrapped.eval()
            write_graph(_OWNER, wrapped, torch.cat([images, images]), temporary)
            steps.finish_one()
            difference = _verify(wrapped, temporary, batches, tolerance, steps)
    finally:
        towers.train(training)

    return difference


def _verify(
    module: nn.Module, file: Path, batches: Sequence[Tensor], tolerance: float, steps: Steps
) -> float:
    """Compare the file with the module on some batches; return the difference."""
    found = run_file(_OWNER, file, batches, steps)
    difference = largest_difference(found, run_module(module, batches, steps))
    if not difference <= tolerance:
        raise fail(_OWNER, f"outputs that differ by at most {tolerance}", difference)
    return difference


class _ImageTower(nn.Module):
    """The image tower as a module with images as its only input."""

    def __init__(self, towers: ClipTowers, *, normalize: bool) -> None:
        super().__init__()
        self.towers = towers
        self.normalize = normalize

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.towers.encode_image(images, normalize=self.normalize)


def _random_images(towers: ClipTowers, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(
        count, 3, *towers.image_size, generator=generator, dtype=torch.float32, device="cpu"
    )
    return images.to(next(towers.image_parameters()))
