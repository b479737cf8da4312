"""Everything that can be wrong with a list of records, looked for before a day of training is spent on it."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.files.archives import open_archive, read_bytes, split_member
from clipreid_kit.data.images.load import load_image
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.validation.report import Finding, ValidationReport, balance_of


def validate_records(
    records: Iterable[ImageRecord],
    *,
    train: str | None = "train",
    query: str = "query",
    gallery: str = "gallery",
    images: bool = True,
    duplicates: bool = True,
    caption_length: tuple[int, int] | None = None,
    on_error: Literal["raise", "skip", "report"] = "raise",
) -> ValidationReport:
    """Look for everything that makes results wrong or stops training, and report all of it at once.

    Use it once for new data; :func:`check_files` and :func:`check_splits` are the quick checks before each
    run. Splits that do not occur are not checked. Splits named like a pair are one: besides ``query`` and
    ``gallery``, ``val_query`` and ``val_gallery``, or ``query3`` and ``gallery3``. Test identities are those of
    all pairs and of a split ``test``.

    Errors are: images that cannot be decoded; identities in training and test (``overlap``); an image's bytes
    in both (``leak``) or else under two identities (``conflict``); queries whose identity is not in the gallery
    (``no_match``), or all of whose matches are from their own camera, which does not count, if that is so for
    every query (``same_camera``); captions that are missing or too short or long. Notes are: some such
    queries; identities with one image, of which no pair can be made, in training or without a split
    (``single_image``); other images with the same bytes (``duplicate``).

    Args:
        records: Records of all splits.
        train: Name of the training split; ``None`` for evaluation alone.
        query: Name of the query split.
        gallery: Name of the gallery split.
        images: Whether to decode every image, which takes a few milliseconds each.
        duplicates: Whether to compare the bytes of images (of equal size in bytes: only these are read).
        caption_length: Fewest and most characters of every caption, such as (3, 1000); ``None`` does not look
            at captions.
        on_error: ``"raise"`` a ``ValueError`` with the whole report if there is an error; ``"skip"`` the
            records that errors concern (of an overlap or a leak those in training); or ``"report"`` only.

    Returns:
        The report, with the records to go on with in ``records``, in their order; ``counts`` is made for a
        metrics file. What skipping leaves has no errors of these kinds, but for queries that all lack a match
        from another camera: these records stay.

    Raises:
        ValueError: If there is an error and ``on_error`` is ``"raise"``; or if some identities are integers and
            others strings.

    Example:
        >>> splits = ("train", "train", "query", "gallery", "query")
        >>> records = [ImageRecord(f"{n}.jpg", max(n, 1) // 2, split=s) for n, s in enumerate(splits)]
        >>> report = validate_records(records, images=False, duplicates=False, on_error="skip")
        >>> report.counts
        {'records': 5, 'skipped': 1, 'no_match': 1}
        >>> print(report)
        5 records, 1 left out
        error: 1 queries whose identity is not in 'gallery': 4.jpg
        split    images  identities  cameras  images per identity (fewest, median, most)
        train    2       1           -        2, 2, 2
        query    1       1           -        1, 1, 1
        gallery  1       1           -        1, 1, 1
    """
    check_choice("validate_records", "on_error", on_error, ("raise", "skip", "report"))
    everything = list(records)
    kinds = {type(record.identity).__name__: record.identity for record in everything}
    if len(kinds) > 1:
        shown = " and ".join(f"{kind} ({kinds[kind]!r})" for kind in sorted(kinds))
        remedy = "Map all of them to one type: the integer 1 and the string '1' are different identities."
        raise fail(
            "validate_records", "all identities as integers or all as strings", shown, remedy
        )
    kept, findings = everything, []
    pairs = _pairs(everything, query, gallery)
    test = {"test", *(name for pair in pairs for name in pair)} - {train}
    looks: list[Callable[[list[ImageRecord]], tuple[list[Finding], set[int]]]] = [
        lambda rows: _unreadable(rows) if images else ([], set()),
        lambda rows: _captions(rows, caption_length) if caption_length else ([], set()),
        lambda rows: _overlap(rows, train, test),
        lambda rows: _same_bytes(rows, train, test) if duplicates else ([], set()),
        lambda rows: _matches(rows, pairs),
        lambda rows: _single(rows, train),
    ]
    for look in looks:
        found, wrong = look(kept)
        findings += found
        if on_error == "skip" and wrong:
            kept = [record for row, record in enumerate(kept) if row not in wrong]
    findings.sort(key=lambda finding: finding.severity)
    report = ValidationReport(kept, len(everything), tuple(findings), balance_of(kept))
    if on_error == "raise" and any(finding.severity == "error" for finding in findings):
        remedy = 'Correct the data, or pass on_error="skip" to leave out what cannot be used.'
        raise fail("validate_records", "sound records", f"these:\n{report}", remedy)
    return report


_Found = tuple[list[Finding], set[int]]


def _finding(
    kind: str, text: str, concerned: Sequence[object], severity: Literal["error", "note"]
) -> Finding:
    return Finding(
        kind, severity, len(concerned), f"{len(concerned)} {text}", tuple(map(str, concerned[:3]))
    )


def _unreadable(rows: list[ImageRecord]) -> _Found:
    reasons: dict[str, str] = {}
    for path in dict.fromkeys(record.path for record in rows):
        reason = _cannot_decode(path)
        if reason is not None:
            reasons[path] = reason
    if not reasons:
        return [], set()
    shown = [f"{path} ({reason})" for path, reason in reasons.items()]
    wrong = {row for row, record in enumerate(rows) if record.path in reasons}
    return [_finding("unreadable", "images that cannot be decoded", shown, "error")], wrong


def _cannot_decode(path: str) -> str | None:
    try:
        load_image(path)
    except ValueError as error:
        return (
            str(error).partition(", got ")[2].rpartition(". ")[0]
        )  # without what was expected and the remedy
    return None


def _captions(rows: list[ImageRecord], length: tuple[int, int]) -> _Found:
    fewest, most = length
    wrong = [
        row for row, record in enumerate(rows) if not fewest <= len(record.caption or "") <= most
    ]
    if not wrong:
        return [], set()
    text = f"captions that have not {fewest} to {most} characters"
    return [_finding("caption", text, [rows[row].path for row in wrong], "error")], set(wrong)


def _overlap(rows: list[ImageRecord], train: str | None, test: Collection[str | None]) -> _Found:
    trained = {record.identity for record in rows if record.split == train and train is not None}
    both = trained & {record.identity for record in rows if record.split in test}
    if not both:
        return [], set()
    wrong = {
        row for row, record in enumerate(rows) if record.split == train and record.identity in both
    }
    return [
        _finding("overlap", "identities in training and test", sorted(both, key=str), "error")
    ], wrong


def _same_bytes(rows: list[ImageRecord], train: str | None, test: Collection[str | None]) -> _Found:
    by_path: dict[str, list[int]] = {}
    for row, record in enumerate(rows):
        by_path.setdefault(record.path, []).append(row)
    leaks: list[str] = []
    conflicts: list[str] = []
    others: list[str] = []
    wrong: set[int] = set()
    for paths in _equal_files(by_path):
        together = [row for path in paths for row in by_path[path]]
        splits = {rows[row].split for row in together}
        names = " = ".join(paths)
        if train is not None and train in splits and splits & {*test}:
            leaks.append(names)
            wrong.update(row for row in together if rows[row].split == train)
        elif len({rows[row].identity for row in together}) > 1:
            conflicts.append(names)
            wrong.update(together)
        else:
            others.append(names)
    found = [
        _finding("conflict", "images whose bytes stand under two identities", conflicts, "error"),
        _finding("leak", "images whose bytes are in training and test", leaks, "error"),
        _finding("duplicate", "images that occur under several names", others, "note"),
    ]
    return [finding for finding in found if finding.count], wrong


def _equal_files(paths: Iterable[str]) -> list[list[str]]:
    """Group files of equal bytes; only files of equal size are read, and files that cannot be read are left out."""
    sizes: dict[int, list[str]] = {}
    for path in paths:
        size = _size(path)
        if size is not None:
            sizes.setdefault(size, []).append(path)
    groups: dict[tuple[int, bytes], list[str]] = {}
    for size, alike in sizes.items():
        for path in alike if len(alike) > 1 else ():
            try:
                digest = hashlib.sha256(read_bytes("validate_records", path)).digest()
            except ValueError:  # a damaged archive member; decoding has reported it
                continue
            groups.setdefault((size, digest), []).append(path)
    return [group for group in groups.values() if len(group) > 1]


def _size(path: str) -> int | None:
    file, member = split_member(path)
    try:
        if member is None:
            return os.stat(file).st_size  # noqa: PTH116
        return open_archive(file).getinfo(member).file_size
    except (OSError, KeyError, ValueError):
        return None


def _pairs(rows: list[ImageRecord], query: str, gallery: str) -> list[tuple[str, str]]:
    """Name the splits that are searched, each with the one that it is searched in."""
    names = {record.split for record in rows if record.split is not None} - {query}
    likewise = [(name, name.replace(query, gallery)) for name in sorted(names) if query in name]
    return [(query, gallery), *(pair for pair in likewise if pair[1] in names)]


def _matches(rows: list[ImageRecord], pairs: Sequence[tuple[str, str]]) -> _Found:
    lost: list[int] = []
    same: list[int] = []
    without: set[str] = set()
    unscored = False  # whether no query of some pair can be scored
    for query, gallery in pairs:
        cameras: dict[int | str, set[int | str | None]] = {}
        for record in rows:
            if record.split == gallery:
                cameras.setdefault(record.identity, set()).add(record.camera)
        queries = [row for row, record in enumerate(rows) if record.split == query]
        missing = {row for row in queries if rows[row].identity not in cameras}
        own = [
            row for row in queries if row not in missing and _only_own_camera(rows[row], cameras)
        ]
        unscored |= bool(own) and len(own) + len(missing) == len(queries)
        lost += sorted(missing)
        same += own
        without |= {gallery} if missing else set()
    found = []
    if lost:
        where = ", ".join(map(repr, sorted(without)[:3])) + (", ..." if len(without) > 3 else "")
        text = f"queries whose identity is not in {where}"
        found.append(_finding("no_match", text, [rows[row].path for row in lost], "error"))
    if same:
        text = "queries whose matches are all from their own camera, which do not count"
        found.append(
            _finding(
                "same_camera",
                text,
                [rows[row].path for row in same],
                "error" if unscored else "note",
            )
        )
    return found, set(lost)


def _only_own_camera(
    record: ImageRecord, cameras: Mapping[int | str, set[int | str | None]]
) -> bool:
    return record.camera is not None and not cameras[record.identity] - {record.camera}


def _single(rows: list[ImageRecord], train: str | None) -> _Found:
    looked_at = [record for record in rows if train is not None and record.split in (train, None)]
    counts = Counter(record.identity for record in looked_at)
    single = sorted((identity for identity, count in counts.items() if count == 1), key=str)
    text = "identities with one image"
    if any(record.split == train for record in looked_at):
        text = f"training {text}"
    return ([_finding("single_image", text, single, "note")] if single else []), set()
