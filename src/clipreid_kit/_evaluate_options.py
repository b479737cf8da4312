"""Command-line options of ``python -m clipreid_kit.evaluate``."""

import argparse
from pathlib import Path

from clipreid_kit import __version__
from clipreid_kit._feature_file import ALIASES

_PROTOCOLS = {
    "market1501": (
        "queries and gallery with cameras: images of the query's identity and camera are left out "
        "(default if the file has cameras)"
    ),
    "inshop": "queries and gallery, nothing left out (default if it has none)",
    "tracklets": (
        "frames of tracklets: pooled to their mean, then as market1501, or as inshop without "
        "cameras (default if the file has tracklets)"
    ),
    "leave-one-out": (
        "one set, every image ranks all others: SOP, CUB (default if it has no queries)"
    ),
    "text-to-person": (
        "every caption ranks all images, nothing left out; reads the captions and images that "
        "a run writes with --features"
    ),
    "cuhk03": "queries rank one random image of every identity by other cameras, many times",
    "vehicleid": (
        "one set: one random gallery image of every identity, all others are queries, several times"
    ),
    "hands": "as vehicleid, with the file's distractors in every gallery, if it has any",
}
_ONE_SET = ("leave-one-out", "vehicleid", "hands")
DRAWN = ("cuhk03", "vehicleid", "hands")

_FORMAT = """
the file, as numpy.savez writes it:
  query_embeddings (Q, D)    gallery_embeddings (G, D)     numbers, not normalised or normalised
  query_ids (Q,)             gallery_ids (G,)              integers or names
  query_cameras (Q,)         gallery_cameras (G,)          integers or names; optional
  query_tracklets (Q,)       gallery_tracklets (G,)        integers or names; where rows are frames
or, for one set of images:
  embeddings (N, D)          ids (N,)                      cameras (N,), optional
  distractor_embeddings      distractor_ids                for --protocol hands; optional
  text_embeddings (T, D)     text_ids (T,)                 for --protocol text-to-person
"""
_EXAMPLES = """
examples:
  python -m clipreid_kit.evaluate features.npz
  python -m clipreid_kit.evaluate features.npz --rerank --json result.json --per-query queries.csv
  python -m clipreid_kit.evaluate ids.npz --query-embeddings q.npy --gallery-embeddings g.npy
  python -m clipreid_kit.evaluate features.npz --key query_ids=person_q --key gallery_ids=person_g
  python -m clipreid_kit.evaluate features.npz --exclude session
    (columns query_session and gallery_session)

exit status: 0 for success, 1 for an error in the data, 2 for an error in the options.
"""


def option_parser() -> argparse.ArgumentParser:
    """Build the parser of all options, with a help text that describes the file."""
    parser = argparse.ArgumentParser(
        prog="python -m clipreid_kit.evaluate",
        description=(
            "Evaluate saved features: Rank-k (CMC), mAP and mINP, by the protocols of "
            "re-identification."
        ),
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_data_options(parser)
    _add_protocol_options(parser)
    _add_rerank_options(parser)
    _add_output_options(parser)
    parser.add_argument("--version", action="version", version=f"clipreid_kit {__version__}")

    return parser


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "features", type=Path, help="the .npz file (see below), or a folder of write_embeddings"
    )
    parser.add_argument(
        "--query-embeddings",
        type=Path,
        metavar="NPY",
        help="read the query embeddings from a separate file, memory-mapped",
    )

    parser.add_argument(
        "--gallery-embeddings",
        type=Path,
        metavar="NPY",
        help="the same for the gallery; the file may be larger than the memory",
    )

    parser.add_argument(
        "--key",
        type=_name_and_key,
        action="append",
        default=[],
        metavar="NAME=KEY",
        help="name of an array in the file",
    )


def _add_protocol_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--protocol",
        choices=tuple(_PROTOCOLS),
        help="gallery of each query, and what is left out; defaults to what suits the file",
    )

    parser.add_argument(
        "--distance",
        choices=("cosine", "euclidean"),
        default="cosine",
        help="distance of the embeddings, without normalisation if euclidean (default: cosine)",
    )

    parser.add_argument(
        "--ties",
        choices=("pessimistic", "optimistic", "mean"),
        default="pessimistic",
        help="rank of a match tied with wrong images: below them (default), above, or the mean",
    )

    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="COLUMN",
        help="leave out matches with the query's value in this column, too",
    )

    parser.add_argument(
        "--junk-id",
        action="append",
        default=[],
        metavar="ID",
        help="identity that is left out of every ranking (default for market1501: -1)",
    )

    parser.add_argument(
        "--splits", type=int, metavar="N", help="random galleries (default: 10; cuhk03: 100)"
    )

    parser.add_argument(
        "--seed", type=int, metavar="S", help="seed of the random galleries (default: 0)"
    )


def _add_rerank_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rerank", action="store_true", help="k-reciprocal re-ranking; report it with the result"
    )

    parser.add_argument("--k1", type=int, metavar="K", help="neighbours for --rerank (default: 20)")
    parser.add_argument(
        "--k2", type=int, metavar="K", help="images that --rerank averages over (default: 6)"
    )

    parser.add_argument(
        "--lambda-value",
        type=float,
        metavar="L",
        help="weight of the original distance for --rerank (default: 0.3)",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ranks",
        type=_rank,
        nargs="+",
        default=[1, 5, 10],
        metavar="K",
        help="the k of Rank-k (default: 1 5 10)",
    )

    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the numbers (fractions); - for the standard output instead of the table",
    )

    parser.add_argument(
        "--per-query",
        type=Path,
        metavar="FILE",
        help="write AP, INP, first rank and number of matches of each query, as .csv, or as .json "
        "for `clipreid compare --test`",
    )

    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help=(
            "save how far a long evaluation is; if it is killed, the same command continues from "
            "there (removed at the end)"
        ),
    )


def _epilog() -> str:
    """Describe the file, its aliases and the protocols."""
    lines = [_FORMAT.rstrip(), "aliases of these names:"]
    for name, aliases in ALIASES.items():
        lines.append(f"  {name}: {', '.join(aliases)}")

    lines += ["", "protocols:"]
    for name, text in _PROTOCOLS.items():
        lines.append(f"  {name}: {text}")
    return "\n".join([*lines, _EXAMPLES])


def _name_and_key(text: str) -> tuple[str, str]:
    name, _, key = text.partition("=")
    if name not in ALIASES or not key:
        names = ", ".join(ALIASES)
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=KEY, with NAME one of {names}")
    return name, key


def _rank(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a rank: ranks start at 1")
    return value


def unused_option(options: argparse.Namespace, protocol: str) -> str | None:
    """Return a message about an option that would have no effect; ``None`` if all have one."""
    return _unused_rerank_option(options, protocol) or _unused_data_option(options, protocol)


def _unused_rerank_option(options: argparse.Namespace, protocol: str) -> str | None:
    if _any_given(options.k1, options.k2, options.lambda_value) and not options.rerank:
        return "--k1, --k2 and --lambda-value need --rerank"
    if options.rerank and protocol == "leave-one-out":
        return "--rerank does not suit leave-one-out: an image would be its own neighbour"
    if options.rerank and protocol == "text-to-person":
        return "--rerank does not suit text-to-person: captions are no neighbours of images"
    if options.rerank and options.distance != "cosine":
        return "--rerank and --distance exclude each other"
    return None


def _unused_data_option(options: argparse.Namespace, protocol: str) -> str | None:
    if options.state is not None and (options.rerank or protocol in (*DRAWN, "tracklets")):
        return "--state has no effect with --rerank, cuhk03, vehicleid, hands and tracklets"

    if _any_given(options.splits, options.seed) and protocol not in DRAWN:
        return f"--splits and --seed have no effect: {protocol} draws no galleries"

    return _unused_rule(options, protocol) or _unused_file(options, protocol)


def _unused_rule(options: argparse.Namespace, protocol: str) -> str | None:
    """Return a message about a rule that leaves nothing out under a protocol."""
    if options.exclude and protocol == "tracklets":
        return "--exclude has no effect: tracklets leaves out those of one camera alone"
    if not options.exclude and not options.junk_id:
        return None

    if protocol in DRAWN:
        return f"--exclude and --junk-id have no effect: {protocol} draws its galleries"
    if protocol == "text-to-person":
        return "--exclude and --junk-id have no effect: text-to-person leaves nothing out"
    return None


def _unused_file(options: argparse.Namespace, protocol: str) -> str | None:
    """Return a message about a file of embeddings that a protocol does not read."""
    if not _any_given(options.query_embeddings, options.gallery_embeddings):
        return None

    names = "--query-embeddings and --gallery-embeddings"
    if protocol == "text-to-person":
        return f"{names} have no effect: text-to-person takes captions and images from the file"
    if protocol in _ONE_SET:
        return f"{names} have no effect: {protocol} takes one set"
    return None


def _any_given(*values: object) -> bool:
    return any(value is not None for value in values)
