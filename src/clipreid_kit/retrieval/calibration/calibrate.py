"""Calibrate similarities on images with known identities."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, check_number, check_seed
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.calibration.calibration import Calibration
from clipreid_kit.retrieval.calibration.camera_pairs import fit_camera_pairs
from clipreid_kit.retrieval.calibration.labelled_pairs import labelled_pairs
from clipreid_kit.retrieval.calibration.pair_fit import FitOptions, fit_pairs
from clipreid_kit.retrieval.encoding.encoder import Encoder

_OWNER = "calibrate"


def calibrate(
    embeddings: Encoder | Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
    records: Sequence[ImageRecord],
    *,
    text_embeddings: Float[Tensor, "_ _"] | Float[np.ndarray, "_ _"] | None = None,
    method: Literal["isotonic", "logistic"] = "isotonic",
    false_positive_rate: float = 0.01,
    base_rate: float | None = None,
    across_cameras: bool = False,
    per_camera_pair: bool = False,
    min_pairs: int = 200,
    max_pairs: int = 200_000,
    num_resamples: int = 200,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Learn which similarity means "the same identity", from images whose identities are known.

    Use it for scores that mean something, and for an answer "unknown": on identities that the model
    was not trained on, with images like those that will be searched. All pairs of the images are
    compared, or a sample of them; the probability of a similarity is fitted by scikit-learn, and
    judged on identities that were held out from the fit, in five folds. Needs the extra
    ``calibrate``.

    Args:
        embeddings: An :class:`Encoder`, or embeddings (N, D).
        records: N records.
        text_embeddings: Embeddings (N, D) of a text about each record, such as its caption. Then
            texts are compared with the images of others: the calibration is one of a search by
            text, for :class:`FusedIndex`.
        method: ``"isotonic"``: any rising curve, for some thousand pairs and more; ``"logistic"``:
            a curve of two parameters, for few.
        false_positive_rate: Share of pairs of different identities that may be accepted, which
            decides about the threshold.
        base_rate: Share of pairs of the same identity where the probabilities will be used.
            ``None`` for that of these images.
        across_cameras: Use pairs of different cameras only, as in a search that leaves out the
            query's camera.
        per_camera_pair: Also fit a curve and a threshold to each pair of cameras. A search that is
            given ``query_cameras`` uses them; ``camera_pairs`` of the result lists them.
        min_pairs: Pairs of images of the same identity from which on two cameras have a curve of
            their own, if ten pairs of different identities may be accepted as well. Other cameras
            use the common one.
        max_pairs: Pairs of the same identity, and of different ones, above which a sample is drawn;
            for each pair of cameras anew.
        num_resamples: Resamples of the identities for the interval of the threshold.
        seed: Of samples and folds.
        progress: Called with the number of steps that are done, and that of all: resamples, and
            with ``per_camera_pair`` pairs of cameras, counted anew.

    Returns:
        The calibration; :meth:`GalleryIndex.set_calibration` saves it with an index.

    Raises:
        ValueError: If scikit-learn is not installed, there are fewer than four identities or no two
            images of one in two folds, too few pairs for the false positive rate, or a record
            lacks a camera that is needed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> centres = rng.standard_normal((20, 8)).repeat(5, axis=0)
        >>> rows = centres + 0.3 * rng.standard_normal((100, 8))
        >>> records = [ImageRecord(f"{n}.jpg", n // 5) for n in range(100)]
        >>> calibration = calibrate(rows, records, method="logistic")
        >>> 0.5 < calibration.threshold < 0.9, calibration.true_positive_rate > 0.9
        (True, True)
    """
    _check_options(method, false_positive_rate, base_rate, num_resamples, seed)
    check_integer(_OWNER, "max_pairs", max_pairs, 1)
    check_integer(_OWNER, "min_pairs", min_pairs, 1)
    rows = _rows(embeddings, records)
    fingerprint = embeddings.fingerprint if isinstance(embeddings, Encoder) else None
    _check_cameras(records, across_cameras=across_cameras, per_camera_pair=per_camera_pair)

    texts = None if text_embeddings is None else _rows(text_embeddings, records)
    if texts is not None and texts.shape != rows.shape:
        raise ValueError(
            f"{_OWNER}: text_embeddings are {tuple(texts.shape)} and those of the images "
            f"{tuple(rows.shape)}. Take both from the same model."
        )

    pairs = labelled_pairs(
        rows, records, across_cameras=across_cameras, max_pairs=max_pairs, seed=seed, texts=texts
    )
    options = FitOptions(method, false_positive_rate, base_rate, num_resamples, seed)
    advance = None if progress is None else _counter(progress, num_resamples)
    common = fit_pairs(pairs, options, fingerprint, advance)
    if not per_camera_pair:
        return common

    camera_pairs = fit_camera_pairs(
        rows,
        records,
        options,
        across_cameras=across_cameras,
        max_pairs=max_pairs,
        min_pairs=min_pairs,
        fingerprint=fingerprint,
        texts=texts,
        progress=progress,
    )
    return replace(common, camera_pairs=camera_pairs)


def _counter(progress: Callable[[int, int], None], total: int) -> Callable[[], None]:
    """Return a function that counts its calls, and reports them."""
    steps = itertools.count(1)
    progress(0, total)
    return lambda: progress(next(steps), total)


def _check_options(
    method: str,
    false_positive_rate: float,
    base_rate: float | None,
    num_resamples: int,
    seed: int,
) -> None:
    check_choice(_OWNER, "method", method, ("isotonic", "logistic"))
    check_integer(_OWNER, "num_resamples", num_resamples, 1)
    check_seed(_OWNER, seed)
    for name, value in (("false_positive_rate", false_positive_rate), ("base_rate", base_rate)):
        if value is None:
            continue
        check_number(_OWNER, name, value)
        if not 0 < value < 1:
            raise ValueError(f"{_OWNER}: {name} is {value}; it has to be between 0 and 1.")


def _rows(
    embeddings: Encoder | Tensor | npt.NDArray[Any], records: Sequence[ImageRecord]
) -> Tensor:
    """Return embeddings (N, D) on the CPU, checked to be as many as the records."""
    if isinstance(embeddings, Encoder):
        return embeddings.encode_images(list(records))

    rows = torch.as_tensor(embeddings, device="cpu").detach()
    if rows.ndim != 2 or len(rows) != len(records):
        raise ValueError(
            f"{_OWNER}: got embeddings {tuple(rows.shape)} for {len(records)} records; pass one "
            "row for each."
        )
    if not bool(rows.isfinite().all()):
        raise ValueError(f"{_OWNER}: the embeddings hold NaN or infinity.")
    return rows


def _check_cameras(
    records: Sequence[ImageRecord], *, across_cameras: bool, per_camera_pair: bool
) -> None:
    """Raise ValueError if a camera is needed and not known."""
    if not (across_cameras or per_camera_pair):
        return

    option = "across_cameras" if across_cameras else "per_camera_pair"
    for record in records:
        if record.camera is None:
            raise ValueError(
                f"{_OWNER}: {option} needs the camera of every record, and {record.path} has none. "
                "Read the cameras as well, or leave the option out."
            )
    if len({record.camera for record in records}) == 1 and across_cameras:
        raise ValueError(
            f"{_OWNER}: across_cameras needs images of two cameras, and all are of "
            f"{records[0].camera!r}."
        )
