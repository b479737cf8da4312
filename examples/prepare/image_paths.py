"""List the images of the fashion pipeline's folders, with their items and splits.

Run it as ``python -m examples.prepare.image_paths --images data/processed/splits --out
data/processed/metadata/image_paths.json``. The folder holds ``<split>/img/<SEX>/<Category>/<item>``
folders, or In-shop as it is distributed, with ``Eval/list_eval_partition.txt``.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path, PurePath

from clipreid_kit.data import ImageRecord, read_folder, read_inshop
from clipreid_kit.data.fashion import write_image_paths
from examples.prepare.one_line_errors import run

_SPLITS = ("train", "val", "query", "gallery")


def main(arguments: list[str] | None = None) -> None:
    """Write ``image_paths.json``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)

    records = [_listed(record) for record in _read(options.images)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_image_paths(records, options.out)

    items = {record.identity for record in records}
    print(f"{len(records)} images of {len(items)} items")


def _read(folder: Path) -> list[ImageRecord]:
    if any((folder / split).is_dir() for split in _SPLITS):
        return read_folder(folder, pattern="{split}/img/*/*/{identity}/*")
    return read_inshop(folder, counts="ignore")


def _listed(record: ImageRecord) -> ImageRecord:
    """A record with its path from ``img`` on."""
    parts = PurePath(record.path.replace(".zip::", "/")).parts
    last = len(parts) - 1 - parts[::-1].index("img")
    return replace(record, path="/".join(parts[last:]))


if __name__ == "__main__":
    sys.exit(run(main))
