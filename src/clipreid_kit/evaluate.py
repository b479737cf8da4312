"""Evaluate saved features of any project: ``python -m clipreid_kit.evaluate features.npz``."""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from clipreid_kit import __version__
from clipreid_kit._evaluate_options import DRAWN, option_parser, superfluous
from clipreid_kit._features import Array, FeatureFile
from clipreid_kit._files import write_whole
from clipreid_kit.metrics import (
    CUHK03Protocol,
    HandsProtocol,
    KReciprocalReranker,
    ReidResult,
    SplitResults,
    VehicleIDProtocol,
    evaluate_reid,
)
from clipreid_kit.metrics.protocols.fixed_gallery import Rerank, evaluate_sides


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; ``None`` for that of the program. Returns the exit status."""
    parser = option_parser()
    options = parser.parse_args(arguments)
    try:
        files = {
            "query_embeddings": options.query_embeddings,
            "gallery_embeddings": options.gallery_embeddings,
        }
        given = {name: path for name, path in files.items() if path is not None}
        features = FeatureFile(options.features, dict(options.key), given)
        protocol = options.protocol or _protocol_for(features)
        wrong = superfluous(options, protocol)
        if wrong:
            parser.error(wrong)
        result = _evaluate(features, protocol, options)
        if options.json is not None:
            _write_json(options, protocol, result)
        if options.per_query is not None:
            result.write_csv(options.per_query)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except MemoryError:
        sys.stderr.write(
            "error: not enough memory. Give the embeddings as .npy files, which are read in parts.\n"
        )
        return 1
    if str(options.json) != "-":
        sys.stdout.write(
            f"{_heading(features, protocol, options)}\n{result.table(options.ranks)}\n"
        )
    return 0


def _protocol_for(features: FeatureFile) -> str:
    if features.has("query_embeddings") or features.has("gallery_embeddings"):
        cameras = features.has("query_cameras") or features.has("gallery_cameras")
        return "market1501" if cameras else "inshop"
    if features.has("embeddings"):
        return "leave-one-out"
    features.get("query_embeddings")  # raises the error that says what is there
    return "inshop"


def _heading(features: FeatureFile, protocol: str, options: argparse.Namespace) -> str:
    words = [protocol, "re-ranked" if options.rerank else options.distance, f"ties {options.ties}"]
    cameras = "cameras" if protocol == "leave-one-out" else "query_cameras"
    if protocol in ("market1501", "leave-one-out") and features.has(cameras):
        words.append("same identity and camera left out")
    elif protocol in ("inshop", "vehicleid", "hands") and (
        features.has("query_cameras") or features.has("cameras")
    ):
        words.append("cameras of the file not used")
    words += [f"same {name} left out" for name in options.exclude]
    return ", ".join(words)


def _evaluate(
    features: FeatureFile, protocol: str, options: argparse.Namespace
) -> ReidResult | SplitResults:
    rerank = (
        partial(KReciprocalReranker, **_chosen(options, "k1", "k2", "lambda_value"))
        if options.rerank
        else None
    )
    if protocol in DRAWN:
        return _evaluate_drawn(features, protocol, options, rerank)
    junk = options.junk_id or (["-1"] if protocol == "market1501" else [])
    if protocol == "leave-one-out":
        ids = features.column("ids")
        return evaluate_reid(
            features.get("embeddings"),
            query_ids=ids,
            query_cameras=features.column("cameras") if features.has("cameras") else None,
            exclude=[(features.column(name), None) for name in options.exclude],
            junk_ids=_like(ids, junk),
            distance=options.distance,
            ties=options.ties,
        )
    cameras = protocol == "market1501"
    gallery_ids = features.column("gallery_ids")
    return evaluate_sides(
        features.get("query_embeddings"),
        features.get("gallery_embeddings"),
        rerank,
        query_ids=features.column("query_ids"),
        gallery_ids=gallery_ids,
        query_cameras=features.column("query_cameras") if cameras else None,
        gallery_cameras=features.column("gallery_cameras") if cameras else None,
        exclude=[
            (features.column(f"query_{name}"), features.column(f"gallery_{name}"))
            for name in options.exclude
        ],
        junk_ids=_like(gallery_ids, junk),
        distance=options.distance,
        ties=options.ties,
        max_rank=50,
    )


def _evaluate_drawn(
    features: FeatureFile, protocol: str, options: argparse.Namespace, rerank: Rerank | None
) -> SplitResults:
    draws = {"num_splits": options.splits, "seed": options.seed}
    given: dict[str, Any] = {name: value for name, value in draws.items() if value is not None}
    if protocol == "cuhk03":
        cuhk03 = CUHK03Protocol(
            **given, distance=options.distance, ties=options.ties, rerank=rerank
        )
        return cuhk03.evaluate(
            features.get("query_embeddings"),
            features.get("gallery_embeddings"),
            query_ids=features.column("query_ids"),
            gallery_ids=features.column("gallery_ids"),
            query_cameras=features.column("query_cameras"),
            gallery_cameras=features.column("gallery_cameras"),
        )
    embeddings, ids = features.get("embeddings"), features.column("ids")
    if protocol == "vehicleid":
        vehicles = VehicleIDProtocol(
            **given, distance=options.distance, ties=options.ties, rerank=rerank
        )
        return vehicles.evaluate(embeddings, ids)
    hands = HandsProtocol(**given, distance=options.distance, ties=options.ties, rerank=rerank)
    return hands.evaluate(
        embeddings,
        ids,
        distractor_embeddings=features.get("distractor_embeddings")
        if features.has("distractor_embeddings")
        else None,
        distractor_ids=features.column("distractor_ids")
        if features.has("distractor_ids")
        else None,
    )


def _like(ids: Array, junk: Sequence[str]) -> list[str] | list[int]:
    """Junk ids as names or numbers, as the ids are."""
    if ids.dtype.kind == "U":
        return list(junk)
    try:
        return [int(name) for name in junk]
    except ValueError:
        raise ValueError(
            f"--junk-id {' '.join(junk)}: the ids of the file are whole numbers."
        ) from None


def _chosen(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _write_json(
    options: argparse.Namespace, protocol: str, result: ReidResult | SplitResults
) -> None:
    values = {
        "features": str(options.features),
        "protocol": protocol,
        "distance": None if options.rerank else options.distance,
        "ties": options.ties,
        "rerank": {"k1": 20, "k2": 6, "lambda_value": 0.3}
        | _chosen(options, "k1", "k2", "lambda_value")
        if options.rerank
        else None,
        "exclude": options.exclude,
        "clipreid_kit": __version__,
        "result": json.loads(result.to_json(options.ranks)),
    }
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    if str(options.json) == "-":
        sys.stdout.write(text)
    else:
        write_whole(options.json, text.encode(), flush=False)


if __name__ == "__main__":
    raise SystemExit(main())
