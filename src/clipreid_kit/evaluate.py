"""Evaluate saved features of any project: ``python -m clipreid_kit.evaluate features.npz``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from clipreid_kit import __version__
from clipreid_kit._evaluate_options import DRAWN, option_parser, unused_option
from clipreid_kit._feature_file import Array, FeatureFile
from clipreid_kit._files import check_replaceable, error_line, write_whole
from clipreid_kit._progress_line import progress_line
from clipreid_kit._read_files import parse_json
from clipreid_kit.metrics import (
    CUHK03Protocol,
    HandsProtocol,
    KReciprocalReranker,
    ReidResult,
    SplitResults,
    TextToPersonProtocol,
    TrackletProtocol,
    VehicleIDProtocol,
    evaluate_reid,
)
from clipreid_kit.metrics.protocols._evaluate_sides import Rerank, evaluate_sides

_RERANK_DEFAULTS = {"k1": 20, "k2": 6, "lambda_value": 0.3}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command-line arguments; defaults to those of the program.

    Returns:
        The exit status: 0 for success, 1 for an error in the data. An error in the options exits
        with 2.
    """
    parser = option_parser()
    options = parser.parse_args(arguments)
    try:
        features = _open_features(options)
        protocol = options.protocol or _suitable_protocol(features)
        problem = unused_option(options, protocol)
        if problem is not None:
            parser.error(problem)
        _check_outputs(options)

        result = _evaluate(features, protocol, options)
        _write_files(options, protocol, result)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error_line(error)}\n")
        return 1
    except MemoryError:
        sys.stderr.write(
            "error: not enough memory. Pass embeddings as .npy files, which are read in parts.\n"
        )
        return 1

    if str(options.json) != "-":
        heading = _heading(features, protocol, options)
        sys.stdout.write(f"{heading}\n{result.table(options.ranks)}\n")
    return 0


def _open_features(options: argparse.Namespace) -> FeatureFile:
    files = _files_of_folder(options.features)
    if options.query_embeddings is not None:
        files["query_embeddings"] = options.query_embeddings
    if options.gallery_embeddings is not None:
        files["gallery_embeddings"] = options.gallery_embeddings
    path = options.features / "columns.npz" if options.features.is_dir() else options.features
    return FeatureFile(path, dict(options.key), files)


def _files_of_folder(folder: Path) -> dict[str, Path]:
    """Return the single arrays in a folder that ``write_embeddings`` wrote; none of a file."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in folder.glob("*embeddings.npy")}


def _suitable_protocol(features: FeatureFile) -> str:
    """Return the protocol that suits the arrays of the file."""
    if features.has("query_tracklets") or features.has("gallery_tracklets"):
        return "tracklets"
    if features.has("query_embeddings") or features.has("gallery_embeddings"):
        has_cameras = features.has("query_cameras") or features.has("gallery_cameras")
        return "market1501" if has_cameras else "inshop"
    if features.has("embeddings"):
        return "leave-one-out"

    features.get("query_embeddings")  # raises the error that lists the arrays
    return "inshop"


def _heading(features: FeatureFile, protocol: str, options: argparse.Namespace) -> str:
    """Describe the evaluation in one line above the table."""
    words = [protocol, "re-ranked" if options.rerank else options.distance, f"ties {options.ties}"]

    cameras = "cameras" if protocol == "leave-one-out" else "query_cameras"
    has_any_cameras = features.has("query_cameras") or features.has("cameras")
    by_camera = protocol in ("market1501", "tracklets", "leave-one-out")
    if by_camera and features.has(cameras):
        words.append("same identity and camera left out")
    elif protocol in ("inshop", "vehicleid", "hands") and has_any_cameras:
        words.append("cameras of the file not used")

    words += [f"same {name} left out" for name in options.exclude]
    return ", ".join(words)


def _evaluate(
    features: FeatureFile, protocol: str, options: argparse.Namespace
) -> ReidResult | SplitResults:
    if protocol in DRAWN:
        return _evaluate_drawn(features, protocol, options)
    if protocol == "leave-one-out":
        return _evaluate_leave_one_out(features, options)
    if protocol == "text-to-person":
        return _evaluate_captions(features, options)
    if protocol == "tracklets":
        return _evaluate_tracklets(features, options)
    return _evaluate_fixed(features, protocol, options)


def _evaluate_leave_one_out(features: FeatureFile, options: argparse.Namespace) -> ReidResult:
    ids = features.column("ids")
    return evaluate_reid(
        features.get("embeddings"),
        query_ids=ids,
        query_cameras=features.column("cameras") if features.has("cameras") else None,
        exclude=[(features.column(name), None) for name in options.exclude],
        junk_ids=_convert_like(ids, options.junk_id),
        distance=options.distance,
        ties=options.ties,
        progress=progress_line(sys.stderr),
        state_file=options.state,
    )


def _evaluate_captions(features: FeatureFile, options: argparse.Namespace) -> ReidResult:
    """Evaluate captions against the gallery of the file, or against its one set of images."""
    images = "gallery_" if features.has("gallery_embeddings") else ""
    return TextToPersonProtocol(options.distance, options.ties).evaluate(
        features.get("text_embeddings"),
        features.get(f"{images}embeddings"),
        text_ids=features.column("text_ids"),
        image_ids=features.column(f"{images}ids"),
    )


def _evaluate_tracklets(features: FeatureFile, options: argparse.Namespace) -> ReidResult:
    """Evaluate the tracklets that the frames of the file belong to."""
    gallery_ids = features.column("gallery_ids")
    names = ["query_tracklets", "gallery_tracklets", "query_ids"]
    if features.has("query_cameras") or features.has("gallery_cameras"):
        names += ["query_cameras", "gallery_cameras"]
    elif options.junk_id:
        raise ValueError(
            "--junk-id has no effect: the file has no cameras, and nothing is left out."
        )

    protocol = TrackletProtocol(
        _convert_like(gallery_ids, options.junk_id or ["-1"]),
        options.distance,
        options.ties,
        rerank=_reranker(options),
    )
    columns = {name: features.column(name) for name in names}
    return protocol.evaluate(
        features.get("query_embeddings"),
        features.get("gallery_embeddings"),
        gallery_ids=gallery_ids,
        **columns,
    )


def _evaluate_fixed(
    features: FeatureFile, protocol: str, options: argparse.Namespace
) -> ReidResult:
    """Evaluate queries against the gallery of the file."""
    gallery_ids = features.column("gallery_ids")
    query_cameras = gallery_cameras = None
    junk_ids = options.junk_id
    if protocol == "market1501":
        query_cameras = features.column("query_cameras")
        gallery_cameras = features.column("gallery_cameras")
        junk_ids = junk_ids or ["-1"]

    exclude = []
    for name in options.exclude:
        of_query = features.column(f"query_{name}")
        exclude.append((of_query, features.column(f"gallery_{name}")))

    return evaluate_sides(
        features.get("query_embeddings"),
        features.get("gallery_embeddings"),
        _reranker(options),
        query_ids=features.column("query_ids"),
        gallery_ids=gallery_ids,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
        exclude=exclude,
        junk_ids=_convert_like(gallery_ids, junk_ids),
        distance=options.distance,
        ties=options.ties,
        max_rank=50,
        progress=None if options.rerank else progress_line(sys.stderr),
        state_file=options.state,
    )


def _evaluate_drawn(
    features: FeatureFile, protocol: str, options: argparse.Namespace
) -> SplitResults:
    """Evaluate by a protocol that draws its galleries."""
    settings: dict[str, Any] = {
        "distance": options.distance,
        "ties": options.ties,
        "rerank": _reranker(options),
    }
    if options.splits is not None:
        settings["num_splits"] = options.splits
    if options.seed is not None:
        settings["seed"] = options.seed

    if protocol == "cuhk03":
        return CUHK03Protocol(**settings).evaluate(
            features.get("query_embeddings"),
            features.get("gallery_embeddings"),
            query_ids=features.column("query_ids"),
            gallery_ids=features.column("gallery_ids"),
            query_cameras=features.column("query_cameras"),
            gallery_cameras=features.column("gallery_cameras"),
        )

    embeddings, ids = features.get("embeddings"), features.column("ids")
    if protocol == "vehicleid":
        return VehicleIDProtocol(**settings).evaluate(embeddings, ids)

    distractors = distractor_ids = None
    if features.has("distractor_embeddings"):
        distractors = features.get("distractor_embeddings")
    if features.has("distractor_ids"):
        distractor_ids = features.column("distractor_ids")
    return HandsProtocol(**settings).evaluate(
        embeddings, ids, distractor_embeddings=distractors, distractor_ids=distractor_ids
    )


def _reranker(options: argparse.Namespace) -> Rerank | None:
    """Return the re-ranker with the options of the command; ``None`` without re-ranking."""
    if not options.rerank:
        return None
    return partial(KReciprocalReranker, **_rerank_options(options))


def _rerank_options(options: argparse.Namespace) -> dict[str, Any]:
    values = dict(_RERANK_DEFAULTS)
    for name in values:
        if getattr(options, name) is not None:
            values[name] = getattr(options, name)
    return values


def _convert_like(ids: Array, junk_ids: Sequence[str]) -> list[str] | list[int]:
    """Return junk ids as names or integers, like the ids of the file."""
    if ids.dtype.kind == "U":
        return list(junk_ids)
    try:
        return [int(name) for name in junk_ids]
    except ValueError:
        raise ValueError(
            f"--junk-id {' '.join(junk_ids)}: the ids of the file are integers."
        ) from None


def _check_outputs(options: argparse.Namespace) -> None:
    """Check the files to write, before there is anything to write.

    Raises:
        ValueError: If one is of those that are read, or two are the same.
        OSError: If one cannot be written.
    """
    taken = {"the features": options.features}
    for name in ("query_embeddings", "gallery_embeddings"):
        if getattr(options, name) is not None:
            taken[f"--{name.replace('_', '-')}"] = getattr(options, name)

    targets = (
        ("--state", options.state),
        ("--json", options.json),
        ("--per-query", options.per_query),
    )
    for option, target in targets:
        if target is None or str(target) == "-":
            continue
        for other, path in taken.items():
            if _is_one_file(target, path):
                raise ValueError(f"{option} {target}: it would replace {other}. Name another file.")
        taken[option] = target
        check_replaceable(target)


def _is_one_file(first: Path, second: Path) -> bool:
    """Return whether two paths lead to one file, which may not exist yet; a device is no file."""
    if first.exists() and not first.is_file():
        return False
    return os.path.realpath(first) == os.path.realpath(second) or (
        first.exists() and second.exists() and first.samefile(second)
    )


def _write_files(
    options: argparse.Namespace, protocol: str, result: ReidResult | SplitResults
) -> None:
    """Write the JSON and CSV files that were requested."""
    if options.json is not None:
        _write_json(options, protocol, result)
    if options.per_query is not None:
        _write_queries(options.per_query, result)


def _write_queries(path: Path, result: ReidResult | SplitResults) -> None:
    """Write a row for each query; a JSON file is one that ``clipreid compare`` reads."""
    if path.suffix.lower() != ".json":
        result.write_csv(path)
        return

    if isinstance(result, SplitResults):
        raise ValueError(
            f"--per-query {path}: a protocol that draws several galleries has no result of each "
            "query as JSON; name a .csv file."
        )
    write_whole(path, result.to_json(per_query=True).encode(), flush=False)


def _write_json(
    options: argparse.Namespace, protocol: str, result: ReidResult | SplitResults
) -> None:
    values = {
        "features": str(options.features),
        "protocol": protocol,
        "distance": None if options.rerank else options.distance,
        "ties": options.ties,
        "rerank": _rerank_options(options) if options.rerank else None,
        "exclude": options.exclude,
        "clipreid_kit": __version__,
        "result": parse_json(result.to_json(options.ranks)),
    }
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    if str(options.json) == "-":
        sys.stdout.write(text)
    else:
        write_whole(options.json, text.encode(), flush=False)


if __name__ == "__main__":
    raise SystemExit(main())
