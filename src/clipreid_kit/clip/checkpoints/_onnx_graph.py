"""Write modules as ONNX files, and compare the files with the modules."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipreid_kit._files import check_replaceable, reason_of
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.tuning.lora import merge_lora

OpenSession = Any  # onnxruntime's, which has no types


def check_file_to_write(owner: str, path: str | PathLike[str]) -> None:
    """Raise ValueError if there can be no file at a path."""
    try:
        check_replaceable(Path(path))
    except OSError as error:
        raise ValueError(f"{owner}: cannot write {path}: {reason_of(error)}.") from error


class Steps:
    """The steps of an export: writing the graph, and each batch that is run.

    Args:
        progress: Called with the number of steps that are done, and that of all.
        total: How many there are.
    """

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        if progress is not None:
            progress(0, total)

    def finish_one(self) -> None:
        """Count a step."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)

    def through(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield batches, and count each when the next one is asked for."""
        for images in batches:
            yield images
            self.finish_one()


def require_onnx(owner: str) -> None:
    """Raise ValueError if the extra ``export`` is not installed."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise ValueError(
            f"{owner}: onnxruntime and onnxscript are needed ({error}). "
            "Run pip install clipreid_kit[export]."
        ) from None


def exportable(towers: ClipTowers) -> ClipTowers:
    """Return the towers, or a copy in float32 without adapters of those that are otherwise."""
    is_float32 = next(towers.image_parameters()).dtype == torch.float32
    if is_float32 and not towers.adapters:
        return towers

    copied = copy.deepcopy(towers)
    merge_lora(copied)
    return copied.float()


def write_graph(owner: str, module: nn.Module, images: Tensor, path: Path) -> None:
    """Write a module of one input ``images`` and one output ``embeddings``, for any batch size.

    Raises:
        ValueError: If torch cannot export the module, or the file cannot be written.
    """
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
        cause = _first_cause(error)
        if isinstance(cause, OSError):
            raise ValueError(
                f"{owner}: cannot write to the folder {path.parent}: {cause.strerror}."
            ) from error

        described = f"{type(cause).__name__}: {next(iter(str(cause).splitlines()), '')}"
        reason = f"torch {torch.__version__} cannot export this tower ({described})"
        raise ValueError(f"{owner}: {reason}. Try a newer version of torch.") from error


def _first_cause(error: BaseException) -> BaseException:
    """Return what an error began with; the exporter's own text has pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def run_file(owner: str, path: Path, batches: Sequence[Tensor], steps: Steps) -> list[Tensor]:
    """Return the embeddings of several batches by an ONNX file, on the CPU in float32.

    Raises:
        ValueError: If the file does not run.
    """
    import onnxruntime

    embeddings = []
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for images in steps.through(batches):
            outputs = session.run(["embeddings"], {"images": images.cpu().numpy()})
            embeddings.append(torch.from_numpy(outputs[0]).float())
    except Exception as error:
        raise ValueError(
            f"{owner}: The exported graph does not run with batches of "
            f"{', '.join(str(len(images)) for images in batches)} "
            f"({type(error).__name__}: {error}). Try newer versions of torch and onnxruntime."
        ) from error

    return embeddings


def run_module(module: nn.Module, batches: Sequence[Tensor], steps: Steps) -> list[Tensor]:
    """Return the embeddings of several batches by a module, on the CPU in float32."""
    with torch.no_grad():
        return [module(images).float().cpu() for images in steps.through(batches)]


def largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest absolute difference of two numbers of the outputs; NaN if one is."""
    differences = []
    for one, other in zip(found, expected, strict=True):
        differences.append((one - other).abs().max())
    return float(torch.stack(differences).max())
