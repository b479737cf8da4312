"""Export the image tower for a tracker: ONNX with resizing and normalisation inside."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_choice,
    check_integer,
    check_labels,
    check_number,
    check_positive,
    check_seed,
    describe,
    fail,
)
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
from clipreid_kit.distances import l2_normalize
from clipreid_kit.metrics import evaluate_retrieval

_OWNER = "export_for_tracker"
_BATCH = 32  # images that are run at once

Pixels = Literal["0..1", "0..255", "uint8", "-1..1", "imagenet"]
Precision = Literal["float32", "float16", "int8"]
_Colour = tuple[float, float, float]

# (mean, std) that bring red, green and blue from the tracker's values back to [0, 1].
_STATISTICS: dict[Pixels, tuple[_Colour, _Colour]] = {
    "0..1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "0..255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "uint8": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "-1..1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

# Differences between two numbers of embeddings of length 1 that are allowed; 2 allows any.
_TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "float16": 1e-2, "int8": 2.0}

# Sums and exponentials that lose too much in half precision; nor can every runtime load the first.
_FLOAT32_OPERATORS = ("LayerNormalization", "Softmax", "ReduceL2")


class TrackerExport(NamedTuple):
    """Comparison of an exported file with the towers.

    Attributes:
        difference: Largest absolute difference between two numbers of the outputs.
        lowest_cosine: Lowest cosine similarity between the two embeddings of an image.
        mean_ap: Mean average precision of the file on the labelled images, each searched among all
            others; ``None`` without labels.
        mean_ap_of_towers: The same of the towers in float32.
    """

    difference: float
    lowest_cosine: float
    mean_ap: float | None
    mean_ap_of_towers: float | None


def export_for_tracker(
    towers: ClipTowers,
    path: str | PathLike[str],
    *,
    pixels: Pixels = "0..1",
    input_size: tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    precision: Precision = "float32",
    images: UInt8[Tensor, "n 3 h w"] | None = None,
    labels: Int[Tensor, " n"] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> TrackerExport:
    """Write an ONNX file that a tracker can feed with crops as it has them.

    Use it for trackers that load an appearance model by its file and prepare crops in a way of
    their own. Resizing and normalisation are part of the graph, so the tracker needs no setting.
    It has one input ``images`` (N, 3, H, W), red first, and one output ``embeddings`` (N, D) of
    length 1, for any N. The file is run and compared with the towers before it is kept. Needs the
    extra ``export``.

    The crop is resized from ``input_size`` to the size of the towers by a bicubic filter with
    antialiasing, as images are in training, whatever their aspect ratio.

    Args:
        towers: The towers; left unchanged. Those in another precision are exported in float32.
        path: The file to write; an existing one is replaced only if the comparison succeeds.
        pixels: What the tracker feeds: ``"0..1"``, ``"0..255"`` or ``"-1..1"`` as floats,
            ``"uint8"`` as bytes, or ``"imagenet"`` for values normalised by ImageNet's mean and
            standard deviation.
        input_size: (height, width) of the crops that the tracker feeds, such as (256, 256).
            ``None`` for the size of the towers.
        mean: Mean of red, green and blue in [0, 1] that the towers were trained with. ``None`` for
            that of their weights.
        std: Standard deviation, likewise.
        precision: ``"float32"``; ``"float16"`` for half the size, with an input in float32; or
            ``"int8"``: matrix products and convolutions with weights and activations of 8 bits,
            whose ranges are those of ``images``.
        images: Crops to compare and, for ``"int8"``, to calibrate with: RGB of ``input_size``, at
            least one; some hundred for ``"int8"``. ``None`` for noise.
        labels: Identity of each of the images, to measure the loss of mAP. ``None`` not to.
        tolerance: Largest absolute difference allowed between two numbers of the outputs; above 0.
            ``None`` for 1e-4 in float32, 1e-2 in float16, and no limit for int8.
        seed: Seed of the noise.
        progress: Called with the number of steps that are done, and that of all: the graph, and
            each batch that is run.

    Returns:
        The comparison of the file with the towers.

    Raises:
        ValueError: If the extra is not installed, an argument is out of range, the tower cannot be
            exported, ``"int8"`` has no images, or the outputs differ.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(128, 64))
        >>> square = {"input_size": (128, 128)}
        >>> export_for_tracker(towers, "reid.onnx", **square).difference < 1e-4  # doctest: +SKIP
        True

    Note:
        int8 is fitted to ``images``: state the loss on others, which the returned figures are not.
    """
    check_towers(_OWNER, towers)
    check_choice(_OWNER, "pixels", pixels, tuple(_STATISTICS))
    check_choice(_OWNER, "precision", precision, tuple(_TOLERANCE))
    tolerance = _TOLERANCE[precision] if tolerance is None else tolerance
    check_positive(_OWNER, "tolerance", tolerance)
    size = _checked_size(input_size, towers.image_size)
    crops = _checked_crops(images, labels, precision, size, seed)
    colours = _checked_colours(towers, mean, std)
    require_onnx(_OWNER)
    check_file_to_write(_OWNER, path)

    training = towers.training
    try:
        exported = exportable(towers)
        module = _TrackerTower(exported, pixels, size, *colours).eval()
        batches = _batches(_as_fed(crops, pixels).to(next(towers.image_parameters()).device))
        num_passes = 3 if precision == "int8" else 2
        steps = Steps(progress, num_passes * len(batches) + 1)
        expected = run_module(module, batches, steps)

        with replaced_file(Path(path)) as temporary:
            _write(module, batches, precision, temporary, steps)
            found = run_file(_OWNER, temporary, batches, steps)
            comparison = _compare(found, expected, labels, tolerance)
            _write_metadata(temporary, module, pixels, size, precision, comparison)
    finally:
        towers.train(training)

    return comparison


def _checked_size(input_size: Sequence[int] | None, of_towers: tuple[int, int]) -> tuple[int, int]:
    """Size of the crops that the tracker feeds."""
    if input_size is None:
        return of_towers

    if not isinstance(input_size, tuple | list) or len(input_size) != 2:
        raise fail(_OWNER, "input_size as (height, width)", input_size)
    for side in input_size:
        check_integer(_OWNER, "input_size", side, 1)
    return input_size[0], input_size[1]


def _checked_crops(
    images: Tensor | None,
    labels: Tensor | None,
    precision: Precision,
    size: tuple[int, int],
    seed: int,
) -> Tensor:
    """Crops to compare and calibrate with, as bytes; noise if there are none."""
    check_seed(_OWNER, seed)
    if images is None:
        if precision == "int8":
            raise ValueError(
                f"{_OWNER}: int8 needs images, from which it takes the ranges of activations. Pass "
                "some hundred crops like those that the tracker will see."
            )
        if labels is not None:
            raise ValueError(f"{_OWNER}: labels belong to images. Pass both, or neither.")

        generator = torch.Generator().manual_seed(seed)
        return torch.randint(256, (3, 3, *size), generator=generator, device="cpu").to(torch.uint8)

    is_right = images.dtype == torch.uint8 and images.ndim == 4 and len(images) > 0
    if not is_right or tuple(images.shape[1:]) != (3, *size):
        expected = f"images as uint8 (N, 3, {size[0]}, {size[1]}), N >= 1"
        raise fail(_OWNER, expected, describe(images), "Resize the crops to input_size.")
    if labels is not None:
        check_labels(_OWNER, "labels", labels, len(images))
    return images.cpu()


def _checked_colours(
    towers: ClipTowers, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that the towers were trained with."""
    means = tuple(towers.image_mean if mean is None else mean)
    deviations = tuple(towers.image_std if std is None else std)

    for name, values in (("mean", means), ("std", deviations)):
        if len(values) != 3:
            raise fail(_OWNER, f"{name} of red, green and blue", values)
        for value in values:
            check_number(_OWNER, name, value)
    for value in deviations:
        check_positive(_OWNER, "std", value)

    return means, deviations


class _TrackerTower(nn.Module):
    """The image tower behind the resizing and normalisation that a tracker leaves to it."""

    fed_mean: Tensor
    fed_std: Tensor
    image_mean: Tensor
    image_std: Tensor
    resize_rows: Tensor
    resize_columns: Tensor

    def __init__(
        self,
        towers: ClipTowers,
        pixels: Pixels,
        input_size: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.towers = towers
        self.mean = mean
        self.std = std
        self.is_resized = input_size != towers.image_size
        device = next(towers.image_parameters()).device

        fed_mean, fed_std = _STATISTICS[pixels]
        height, width = input_size
        buffers = {
            "fed_mean": torch.tensor(fed_mean, dtype=torch.float32, device="cpu")[:, None, None],
            "fed_std": torch.tensor(fed_std, dtype=torch.float32, device="cpu")[:, None, None],
            "image_mean": torch.tensor(self.mean, dtype=torch.float32, device="cpu")[:, None, None],
            "image_std": torch.tensor(self.std, dtype=torch.float32, device="cpu")[:, None, None],
            "resize_rows": _resize_matrix(height, towers.image_size[0]),
            "resize_columns": _resize_matrix(width, towers.image_size[1]).T.contiguous(),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer.to(device), persistent=False)

    def forward(self, images: Tensor) -> Float[Tensor, "n d"]:
        """Embeddings of length 1 of crops as the tracker feeds them."""
        unit = images.float() * self.fed_std + self.fed_mean
        if self.is_resized:
            # OpenVINO would take the channels of a product of four axes for those of its rows
            planes = unit.flatten(0, 1)
            resized = self.resize_rows @ planes @ self.resize_columns
            # a bicubic filter overshoots at edges; resizing of images in bytes clips it, too
            unit = resized.clamp(0.0, 1.0).reshape(-1, 3, *self.towers.image_size)

        normalised = (unit - self.image_mean) / self.image_std
        return self.towers.encode_image(normalised, normalize=True)


def _resize_matrix(length: int, new_length: int) -> Float[Tensor, "m n"]:
    """Weights by which a bicubic filter with antialiasing makes each new row of the old ones."""
    identity = torch.eye(length, dtype=torch.float32, device="cpu")[None, None]
    size = (new_length, length)
    return F.interpolate(identity, size=size, mode="bicubic", antialias=True)[0, 0]


def _as_fed(crops: UInt8[Tensor, "n 3 h w"], pixels: Pixels) -> Tensor:
    """Crops as the tracker feeds them."""
    if pixels == "uint8":
        return crops

    mean, std = (
        torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None]
        for values in _STATISTICS[pixels]
    )
    return (crops.float() / 255 - mean) / std


def _batches(images: Tensor) -> list[Tensor]:
    """Parts of the images, and the first one alone, as the graph is for any batch size."""
    return [*torch.split(images, _BATCH), images[:1]]


def _write(
    module: nn.Module, batches: Sequence[Tensor], precision: Precision, path: Path, steps: Steps
) -> None:
    """Write the graph in the precision."""
    example = torch.cat([batches[-1]] * 2)
    if precision == "float32":
        write_graph(_OWNER, module, example, path)
        steps.finish_one()
        return

    # in the same folder, where there is room for the file anyway
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        full = Path(folder) / "float32.onnx"
        write_graph(_OWNER, module, example, full)
        steps.finish_one()
        if precision == "float16":
            _write_float16(full, path)
        else:
            _write_int8(full, path, steps.through(batches))


def _write_float16(source: Path, path: Path) -> None:
    """Convert the weights and activations to float16, but neither the input nor the output."""
    import onnx
    from onnxruntime.transformers import float16

    converted = float16.convert_float_to_float16(
        onnx.load(str(source)),
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPERATORS],
    )
    onnx.save(converted, str(path))


def _write_int8(source: Path, path: Path, batches: Iterable[Tensor]) -> None:
    """Quantise matrix products and convolutions, with ranges of activations from the batches."""
    from onnxruntime import quantization

    prepared = source.with_name("prepared.onnx")
    quantization.shape_inference.quant_pre_process(
        str(source), str(prepared), skip_symbolic_shape=True
    )
    quantization.quantize_static(
        str(prepared),
        str(path),
        _CalibrationImages(batches),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=_resizing_nodes(prepared),
    )


def _resizing_nodes(path: Path) -> list[str]:
    """Names of the matrix products that resize, which keep their precision."""
    import onnx

    nodes = onnx.load(str(path)).graph.node
    return [str(node.name) for node in nodes if _resizes(node.input)]


def _resizes(inputs: Sequence[str]) -> bool:
    """Whether a node has a matrix of the resizing among its inputs."""
    return any(name.startswith("resize_") for name in inputs)


class _CalibrationImages:
    """Batches for onnxruntime's calibration, one after the other."""

    def __init__(self, batches: Iterable[Tensor]) -> None:
        self._inputs: Iterator[dict[str, Any]] = (
            {"images": batch.cpu().numpy()} for batch in batches
        )

    def get_next(self) -> dict[str, Any] | None:
        """Inputs of the next batch; ``None`` after the last one."""
        return next(self._inputs, None)


def _compare(
    found: Sequence[Tensor],
    expected: Sequence[Tensor],
    labels: Tensor | None,
    tolerance: float,
) -> TrackerExport:
    """Compare the outputs of the file with those of the towers."""
    difference = largest_difference(found, expected)
    if not difference <= tolerance:
        raise fail(_OWNER, f"outputs that differ by at most {tolerance}", difference)

    # the last batch repeats an image
    ours, theirs = (l2_normalize(torch.cat(list(part[:-1]))) for part in (found, expected))
    lowest_cosine = float((ours * theirs).sum(dim=1).min())
    if labels is None:
        return TrackerExport(difference, lowest_cosine, None, None)

    return TrackerExport(
        difference, lowest_cosine, _mean_ap(ours, labels), _mean_ap(theirs, labels)
    )


def _write_metadata(
    path: Path,
    module: _TrackerTower,
    pixels: Pixels,
    size: tuple[int, int],
    precision: Precision,
    comparison: TrackerExport,
) -> None:
    """Add to the file what it expects and returns, and what Ultralytics reads of any file."""
    import onnx

    from clipreid_kit import __version__

    towers = module.towers
    described = {
        "version": __version__,
        "model": towers.name,
        "input": f"RGB (N, 3, {size[0]}, {size[1]}), {pixels}",
        "image_size": f"{towers.image_size[0]} x {towers.image_size[1]}",
        "mean": str(module.mean),
        "std": str(module.std),
        "output": f"embeddings (N, {towers.embed_dim}) of length 1",
        "precision": precision,
        "difference": f"{comparison.difference:.3g}",
    }
    if comparison.mean_ap is not None:
        described["mean_ap"] = f"{comparison.mean_ap:.6f}"
        described["mean_ap_of_towers"] = f"{comparison.mean_ap_of_towers:.6f}"

    properties = {f"clipreid_kit.{name}": text for name, text in described.items()}
    # A file with metadata, but without these, is refused there.
    properties |= {
        "task": "reid",
        "stride": "32",
        "batch": "1",
        "imgsz": str(list(size)),
        "names": "{0: 'item'}",
        "args": "{'dynamic': True}",
    }

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, str(path))


def _mean_ap(embeddings: Tensor, labels: Tensor) -> float:
    """Mean average precision of searching each image among all others."""
    return evaluate_retrieval(embeddings, query_ids=labels.cpu()).mean_ap
