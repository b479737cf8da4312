"""The image tower as an ONNX file for any batch size, compared with the module that it came from."""

import warnings
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, check_positive, fail

if TYPE_CHECKING:
    from clipreid_kit.clip.towers.clip_towers import ClipTowers

_OWNER = "export_image_tower"

OpenSession = Any  # onnxruntime's, which has no types


def export_image_tower(
    towers: "ClipTowers",
    path: str | PathLike[str],
    *,
    normalize: bool = True,
    tolerance: float = 1e-4,
    batch_size: int = 3,
    seed: int = 0,
) -> float:
    """Write the image tower as an ONNX file, run it, and compare.

    Use it to serve embeddings without torch. The graph has one input ``images`` (N, 3, H, W), normalised as for
    :meth:`ClipTowers.encode_image`, one output ``embeddings`` (N, D), and takes any N. A camera embedding is
    written as its mean. Needs the extra ``export`` (onnx, onnxscript, onnxruntime).

    Args:
        towers: The towers; left as they are.
        path: The file to write; it is replaced only by one that passed.
        normalize: Whether the graph gives every row length 1.
        tolerance: Largest difference allowed between any two numbers of the outputs.
        batch_size: Number of pictures to compare with, besides a single one; at least 1.
        seed: Seed of these pictures, which are normal noise.

    Returns:
        The largest difference that was found.

    Raises:
        ValueError: If the extra is not installed, the tower cannot be exported, or the outputs differ.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(128, 64))
        >>> export_image_tower(towers, "tower.onnx") < 1e-4  # doctest: +SKIP
        True
    """
    check_positive(_OWNER, "tolerance", tolerance)
    check_integer(_OWNER, "batch_size", batch_size, 1)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise fail(
            _OWNER,
            "onnxruntime and onnxscript",
            f"{error}",
            "Run pip install clipreid_kit[export].",
        ) from None
    path = Path(path)
    wrapped, training = _ImageTower(towers, normalize=normalize), towers.training
    weight = next(towers.image_parameters())
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch_size, 3, *towers.image_size, generator=generator).to(weight)
    temporary = path.with_name(path.name + ".tmp")
    try:
        wrapped.eval()
        _write(wrapped, torch.cat([images, images]), temporary)
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        difference = max(_difference(session, wrapped, batch) for batch in (images, images[:1]))
        if not difference <= tolerance:
            raise fail(_OWNER, f"outputs that differ by at most {tolerance}", difference)
        temporary.replace(path)
    finally:
        towers.train(training)
        temporary.unlink(missing_ok=True)
    return difference


def _difference(session: OpenSession, module: nn.Module, images: Tensor) -> float:
    try:
        found = torch.from_numpy(session.run(["embeddings"], {"images": images.cpu().numpy()})[0])
    except Exception as error:
        raise fail(
            _OWNER, "a graph that takes any batch", f"{type(error).__name__}: {error}"
        ) from error
    with torch.no_grad():
        return float((found - module(images).cpu()).abs().max())


class _ImageTower(nn.Module):
    def __init__(self, towers: "ClipTowers", *, normalize: bool) -> None:
        super().__init__()
        self.towers, self.normalize = towers, normalize

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.towers.encode_image(images, normalize=self.normalize)


def _write(module: nn.Module, images: Tensor, path: Path) -> None:
    options: dict[str, Any] = {"dynamic_shapes": {"images": {0: torch.export.Dim("batch", min=1)}}}
    try:
        # the exporter warns of its own parts, which is not the caller's to mend
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
        raise fail(
            _OWNER, "a tower that torch exports", f"{type(error).__name__}: {error}"
        ) from error
