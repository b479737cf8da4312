"""Command line of ``python -m clipreid_kit.evaluate``."""

import argparse
from pathlib import Path

from clipreid_kit import __version__
from clipreid_kit._features import ALIASES

_PROTOCOLS = {
    "market1501": "queries and gallery with cameras: images of the query's identity and camera are left out (default "
    "where the file has cameras)",
    "inshop": "queries and gallery, nothing left out (default where it has none)",
    "leave-one-out": "one set, every image ranks all others: SOP, CUB (default where it has no queries)",
    "cuhk03": "queries rank one random image of every identity by other cameras, many times",
    "vehicleid": "one set: one random gallery image of every identity, all others are queries, several times",
    "hands": "as vehicleid, with the file's distractors in every gallery, if it has any",
}
_ONE_SET = ("leave-one-out", "vehicleid", "hands")
DRAWN = ("cuhk03", "vehicleid", "hands")

_EPILOG = f"""
the file, as numpy.savez writes it:
  query_embeddings (Q, D)    gallery_embeddings (G, D)     numbers as they come from the model
  query_ids (Q,)             gallery_ids (G,)              whole numbers or names
  query_cameras (Q,)         gallery_cameras (G,)          the same; may be left out
or, for one set of images:
  embeddings (N, D)          ids (N,)                      cameras (N,) may be left out
  distractor_embeddings      distractor_ids                for --protocol hands; may be left out
other names that are understood:
{chr(10).join(f"  {name}: {', '.join(others)}" for name, others in ALIASES.items())}

protocols:
{chr(10).join(f"  {name}: {text}" for name, text in _PROTOCOLS.items())}

examples:
  python -m clipreid_kit.evaluate features.npz
  python -m clipreid_kit.evaluate features.npz --rerank --json result.json --per-query queries.csv
  python -m clipreid_kit.evaluate ids.npz --query-embeddings q.npy --gallery-embeddings g.npy
  python -m clipreid_kit.evaluate features.npz --key query_ids=person_q --key gallery_ids=person_g
  python -m clipreid_kit.evaluate features.npz --exclude session   (columns query_session and gallery_session)

exit status: 0 if all went well, 1 if the data are at fault, 2 if the options are.
"""


def option_parser() -> argparse.ArgumentParser:
    """All options, with a help text that says what the file has to hold."""
    parser = argparse.ArgumentParser(
        prog="python -m clipreid_kit.evaluate",
        description="Evaluate saved features: Rank-k (CMC), mAP and mINP, by the protocols of re-identification.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("features", type=Path, help="the .npz file (see below)")
    add(
        "--query-embeddings",
        type=Path,
        metavar="NPY",
        help="embeddings from a file of their own, read in place",
    )
    add(
        "--gallery-embeddings",
        type=Path,
        metavar="NPY",
        help="the same; it may be larger than the memory",
    )
    add(
        "--key",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=KEY",
        help="what an array is called in the file",
    )
    add(
        "--protocol",
        choices=tuple(_PROTOCOLS),
        help="what is ranked, and what is left out; chosen by the file if not given",
    )
    add(
        "--distance",
        choices=("cosine", "euclidean"),
        default="cosine",
        help="of the embeddings as they are (default: cosine)",
    )
    add(
        "--ties",
        choices=("pessimistic", "optimistic", "mean"),
        default="pessimistic",
        help="where a wrong image exactly as near as a match stands: above it (default), below, or as by chance",
    )
    add(
        "--exclude",
        action="append",
        default=[],
        metavar="COLUMN",
        help="leave out matches with the query's value, too",
    )
    add(
        "--junk-id",
        action="append",
        default=[],
        metavar="ID",
        help="identity in no ranking (market1501: -1 unless given)",
    )
    add("--rerank", action="store_true", help="k-reciprocal re-ranking; say so beside the number")
    add("--k1", type=int, metavar="K", help="neighbours for --rerank (default: 20)")
    add("--k2", type=int, metavar="K", help="images that --rerank averages over (default: 6)")
    add(
        "--lambda-value",
        type=float,
        metavar="L",
        help="share of the original distance for --rerank (default: 0.3)",
    )
    add("--splits", type=int, metavar="N", help="random galleries (default: 10; cuhk03: 100)")
    add("--seed", type=int, metavar="S", help="seed of the random galleries (default: 0)")
    add(
        "--ranks",
        type=_rank,
        nargs="+",
        default=[1, 5, 10],
        metavar="K",
        help="Rank-k to show (default: 1 5 10)",
    )
    add(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the numbers (fractions); - for the standard output, without the table",
    )
    add(
        "--per-query",
        type=Path,
        metavar="CSV",
        help="write AP, INP, first rank and number of matches of each query",
    )
    add("--version", action="version", version=f"clipreid_kit {__version__}")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, _, key = text.partition("=")
    if name not in ALIASES or not key:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=KEY with one of the names {', '.join(ALIASES)}"
        )
    return name, key


def _rank(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no rank: ranks begin with 1")
    return value


def superfluous(options: argparse.Namespace, protocol: str) -> str:
    """An option that would do nothing, in words: none is ignored silently."""
    drawn, one_set = protocol in DRAWN, protocol in _ONE_SET
    rerank = any(value is not None for value in (options.k1, options.k2, options.lambda_value))
    checks = {
        "--k1, --k2 and --lambda-value need --rerank": rerank and not options.rerank,
        "--rerank is not for leave-one-out: an image would be its own neighbour": options.rerank
        and protocol == "leave-one-out",
        "--rerank with --distance is not supported: give one": options.rerank
        and options.distance != "cosine",
        f"--splits and --seed draw galleries, and {protocol} draws none": not drawn
        and (options.splits is not None or options.seed is not None),
        f"--exclude and --junk-id are not for {protocol}, whose galleries are drawn": drawn
        and bool(options.exclude or options.junk_id),
        f"--query-embeddings and --gallery-embeddings are not for {protocol}, which takes one set": one_set
        and (options.query_embeddings is not None or options.gallery_embeddings is not None),
    }
    return next((text for text, wrong in checks.items() if wrong), "")
