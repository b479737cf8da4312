"""Export the image tower to ONNX, and verify the file against the module."""

import copy
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, check_positive, check_seed, fail
from clipreid_kit._files import replaced_file
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.tuning.lora import merge_lora

_OWNER = "export_image_tower"

OpenSession = Any  # onnxruntime's, which has no types


def export_image_tower(
    towers: ClipTowers,
    path: str | PathLike[str],
    *,
    normalize: bool = True,
    tolerance: float = 1e-4,
    batch_size: int = 3,
    seed: int = 0,
) -> float:
    """Write the image tower to an ONNX file, run the file, and compare it with the tower.

    Use it to serve embeddings without torch. The graph has one input ``images`` (N, 3, H, W),
    normalised as for :meth:`ClipTowers.encode_image`, and one output ``embeddings`` (N, D), for
    any N. A camera embedding is exported as its mean. Needs the extra ``export`` (onnx,
    onnxscript, onnxruntime).

    Args:
        towers: The towers; left unchanged. Those in bfloat16 or float16 are exported in float32,
            and LoRA adapters are merged into the weights.
        path: The file to write; an existing one is replaced only if the comparison succeeds.
        normalize: Whether the graph scales every row to length 1.
        tolerance: Largest absolute difference allowed between two numbers of the outputs; above 0.
        batch_size: Number of images to compare with, besides a single one; at least 1.
        seed: Seed of these images, which are normal noise.

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

    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise ValueError(
            f"{_OWNER}: onnxruntime and onnxscript are needed ({error}). "
            "Run pip install clipreid_kit[export]."
        ) from None

    check_towers(_OWNER, towers)
    training = towers.training
    exported = _in_exportable_dtype(towers)
    wrapped = _ImageTower(exported, normalize=normalize)
    images = _random_images(exported, batch_size, seed)

    try:
        with replaced_file(Path(path)) as temporary:
            wrapped.eval()
            _write(wrapped, torch.cat([images, images]), temporary)
            difference = _verify(wrapped, temporary, images, tolerance)
    finally:
        towers.train(training)

    return difference


def _in_exportable_dtype(towers: ClipTowers) -> ClipTowers:
    """Return the towers, or a copy in float32 of those in half precision or with adapters."""
    is_half = next(towers.image_parameters()).dtype in (torch.bfloat16, torch.float16)
    if not (is_half or towers.adapters):
        return towers

    exported = copy.deepcopy(towers)
    merge_lora(exported)
    return exported.float() if is_half else exported


def _verify(module: nn.Module, file: Path, images: Tensor, tolerance: float) -> float:
    """Compare the file with the module, for one image and several; return the difference."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    difference = max(
        _largest_difference(session, module, images),
        _largest_difference(session, module, images[:1]),
    )
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
    images = torch.randn(count, 3, *towers.image_size, generator=generator)
    return images.to(next(towers.image_parameters()))


def _write(module: nn.Module, images: Tensor, path: Path) -> None:
    options: dict[str, Any] = {"dynamic_shapes": {"images": {0: torch.export.Dim("batch", min=1)}}}

    try:
        # the exporter warns about its own internals, which the caller cannot change
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (images,),
                str(path),
                input_names=["images"],
                output_names=["embeddings"],
                dynamo=True,
                external_data=False,
                verbose=False,
                **options,
            )
    except Exception as error:
        raise ValueError(
            f"{_OWNER}: torch cannot export this tower ({type(error).__name__}: {error})."
        ) from error


def _largest_difference(session: OpenSession, module: nn.Module, images: Tensor) -> float:
    try:
        outputs = session.run(["embeddings"], {"images": images.cpu().numpy()})
    except Exception as error:
        raise ValueError(
            f"{_OWNER}: The exported graph does not run with a batch of {len(images)} "
            f"({type(error).__name__}: {error})."
        ) from error

    with torch.no_grad():
        expected = module(images).cpu()
    return float((torch.from_numpy(outputs[0]) - expected).abs().max())
