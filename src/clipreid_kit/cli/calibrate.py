"""``clipreid calibrate``: probabilities and "unknown" for the hits of an index."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from clipreid_kit._progress_line import progress_line
from clipreid_kit.cli._images import ImagesArgument, PatternOption, SplitOption, read_records
from clipreid_kit.cli._outputs import check_output
from clipreid_kit.cli._store import StoreArgument, TokenFileOption, open_index


def calibrate(
    store: StoreArgument,
    images: ImagesArgument,
    pattern: PatternOption = None,
    split: SplitOption = None,
    method: Annotated[
        Literal["isotonic", "logistic"],
        typer.Option(help="isotonic for thousands of pairs and more, logistic for few."),
    ] = "isotonic",
    false_positive_rate: Annotated[
        float, typer.Option(help="Share of pairs of different identities that may be accepted.")
    ] = 0.01,
    across_cameras: Annotated[
        bool, typer.Option("--across-cameras", help="Use pairs of different cameras only.")
    ] = False,
    per_camera_pair: Annotated[
        bool,
        typer.Option(
            "--per-camera-pair", help="Also a curve and a threshold for two cameras each."
        ),
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Draw a reliability diagram (.png, .svg or .pdf).")
    ] = None,
    milvus_token_file: TokenFileOption = None,
) -> None:
    """Learn which similarity means the same identity.

    What is learned is saved with the index.

    The images need known identities that the model was not trained on. A search then shows the
    probability of each hit, and "unknown" where no hit reaches the threshold.

    Example: clipreid calibrate gallery.index held-out.csv
    """
    from clipreid_kit.retrieval import calibrate as calibrate_pairs
    from clipreid_kit.viz import reliability_figure, save_figure
    from clipreid_kit.viz.write_figures import figure_kind

    index = open_index(store, milvus_token_file)
    if figure is not None:
        check_output("--figure", figure)
        figure_kind("--figure", figure)

    calibration = calibrate_pairs(
        index.encoder,
        read_records(images, pattern, split),
        method=method,
        false_positive_rate=false_positive_rate,
        across_cameras=across_cameras,
        per_camera_pair=per_camera_pair,
        progress=progress_line(sys.stderr),
    )
    index.set_calibration(calibration)
    print(calibration.table())
    if figure is not None:
        save_figure(reliability_figure(calibration), figure)
