"""``clipreid discover``: the identities of a gallery without labels."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from clipreid_kit.cli._outputs import check_output
from clipreid_kit.cli._store import StoreArgument, TokenFileOption, open_index
from clipreid_kit.cli._where import WhereOption, parse_conditions


def discover(
    store: StoreArgument,
    out: Annotated[
        Path, typer.Option(help="Table to write, with the found identities (.csv, .json, ...).")
    ],
    method: Annotated[
        Literal["average", "threshold"],
        typer.Option(help="Join by the mean of all pairs, or whatever accepted pairs connect."),
    ] = "average",
    min_probability: Annotated[
        float | None, typer.Option(help="Accept pairs from this probability on; 0.5 by default.")
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option(help="Accept pairs from this similarity on, uncalibrated.")
    ] = None,
    neighbours: Annotated[
        int, typer.Option(min=1, help="Nearest images that each image is compared with.")
    ] = 50,
    images_per_identity: Annotated[
        float | None, typer.Option(help="Roughly expected number; moves the probabilities.")
    ] = None,
    unmatched: Annotated[
        Literal["own", "unknown", "leave-out"],
        typer.Option(help="Images that match no other: their own identity, 'unknown', or none."),
    ] = "own",
    where: WhereOption = None,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Find out which images of an index show the same identity.

    Pairs are accepted by the calibration of the index. If its records have identities, the found
    ones are compared with them.

    Example: clipreid discover gallery.index --out found.csv
    """
    from clipreid_kit.data import write_table
    from clipreid_kit.data.readers.table_by_suffix import written_suffix
    from clipreid_kit.retrieval import discover_identities

    index = open_index(store, milvus_token_file)
    check_output("--out", out)
    written_suffix("--out", out)

    found = discover_identities(
        index,
        method=method,
        min_probability=min_probability,
        min_similarity=min_similarity,
        num_neighbours=neighbours,
        images_per_identity=images_per_identity,
        where=parse_conditions(where),
    )
    choice: Literal["own", "unknown", "leave_out"]
    choice = "leave_out" if unmatched == "leave-out" else unmatched
    records = found.records(choice)
    write_table(records, out)

    print(found.table())
    given = {record.extra["given_identity"] for record in found.records()}
    if len(given) > 1:
        print(found.evaluate().table())
    print(f"{out}: {len(records)} images")
