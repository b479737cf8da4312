"""Facts about the data of a run, kept in its folder; a run is resumed on the same data only."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipreid_kit.data import ImageRecord, image_fingerprint
from clipreid_kit.reports import write_json
from examples.settings.images import Images

_FILE = "trained_on.json"


def trained_on(
    records: Sequence[ImageRecord], num_processes: int, files: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Numbers and fingerprints of the records, in their order, and the number of processes.

    The first fingerprint is of paths below the folder that all images lie in, identities, cameras,
    views, captions, splits, modalities and tracklets. It stays the same when that folder moves. The
    second is
    of the images themselves.

    Args:
        records: The records of all splits.
        num_processes: How many processes train.
        files: Other files that the run reads, by the keys that name them.
    """
    folder = _common_folder(records)
    digest = hashlib.sha256()
    for record in records:
        path = os.path.relpath(record.path, folder) if folder else record.path
        columns = [path, record.identity, record.camera, record.view, record.caption, record.split]
        if record.modality is not None:
            columns.append(record.modality)
        if record.tracklet is not None:
            columns += [record.tracklet, record.frame]
        digest.update(json.dumps(columns).encode())

    return {
        "images": len(records),
        "identities": len({record.identity for record in records}),
        "fingerprint": digest.hexdigest(),
        "content": image_fingerprint(records),
        "files": {key: _digest_of(Path(path)) for key, path in (files or {}).items()},
        "processes": num_processes,
    }


def files_of(data: Images) -> dict[str, str]:
    """Files that a recipe reads while it trains, beside the images and their texts."""
    return {} if data.synonyms is None else {"data.synonyms": data.synonyms}


def _digest_of(file: Path) -> str:
    """Digest of a file; empty if it cannot be read, which is an error where it is used."""
    if not file.is_file():  # reading a pipe would wait for ever
        return ""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _common_folder(records: Sequence[ImageRecord]) -> str:
    """The folder that all images lie in; empty if there is none."""
    try:
        return os.path.commonpath([os.path.dirname(record.path) for record in records])  # noqa: PTH120
    except ValueError:  # relative and absolute paths, or several drives
        return ""


def keep_or_check(out: Path, facts: dict[str, Any], *, resumes: bool) -> None:
    """Keep the facts of a new run, or check that the run to resume has the same.

    Raises:
        ValueError: If they differ, or the file is damaged.
    """
    path = out / _FILE
    if not resumes or not path.is_file():
        write_json(path, facts)
        return

    kept = _read(path)
    if kept["processes"] != facts["processes"]:
        raise ValueError(
            f"{out}: the run to resume has {kept['processes']} processes, not "
            f"{facts['processes']}; its batches would have another size. Start as many, or change "
            "--out."
        )
    if kept["fingerprint"] != facts["fingerprint"]:
        raise ValueError(
            f"{out}: the run to resume was trained on other data: {_counts(kept)}, now "
            f"{_counts(facts)}{_hint(kept, facts)}. Restore the data, or change --out."
        )
    # Runs of earlier versions have neither.
    if kept["content"] not in (None, facts["content"]):
        raise ValueError(
            f"{out}: the run to resume was trained on other images: files of the same names have "
            "other content now. Restore them, or change --out."
        )
    for key, digest in facts["files"].items():
        if kept["files"].get(key, digest) != digest:
            raise ValueError(
                f"{out}: the file of {key} has changed since the run to resume was started. "
                "Restore it, or change --out."
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: facts[key] for key in ("images", "identities", "fingerprint", "processes")}
        return kept | {"content": facts.get("content"), "files": dict(facts.get("files", {}))}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path}: the file of the run is damaged. Restore it.") from None


def _counts(facts: dict[str, Any]) -> str:
    return f"{facts['images']} images of {facts['identities']} identities"


def _hint(kept: dict[str, Any], facts: dict[str, Any]) -> str:
    """Describe the difference if the numbers are the same."""
    if _counts(kept) != _counts(facts):
        return ""
    return ", but with other names, captions or splits, or in another order"
