"""The single checks of a validation.

Each returns the findings of the records, and the rows that these findings concern and that
``on_error="skip"`` leaves out.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from clipreid_kit.data.readers._near_names import near_groups
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.validation._image_looks import ImageLook, look_at, near_pairs
from clipreid_kit.data.validation.report import Finding

Found = tuple[list[Finding], set[int]]
Records = Sequence[ImageRecord]
Groups = Sequence[Sequence[str]]


def find_unreadable(records: Records) -> tuple[Found, dict[str, ImageLook]]:
    """Find images that cannot be decoded; return what the others look like, too, by path."""
    reasons: dict[str, str] = {}
    looks: dict[str, ImageLook] = {}
    for path in dict.fromkeys(record.path for record in records):
        look = look_at(path)
        if isinstance(look, str):
            reasons[path] = look
        else:
            looks[path] = look

    examples = [f"{path} ({reason})" for path, reason in reasons.items()]
    rows = {row for row, record in enumerate(records) if record.path in reasons}
    findings = _findings("unreadable", "error", "images that cannot be decoded", examples)
    return (findings, rows), looks


def find_bad_captions(records: Records, length: tuple[int, int]) -> Found:
    """Find captions that are missing, too short or too long."""
    fewest, most = length
    rows = []
    for row, record in enumerate(records):
        if not fewest <= len(record.caption or "") <= most:
            rows.append(row)

    text = f"captions that do not have {fewest} to {most} characters"
    return _findings("caption", "error", text, _paths(records, rows)), set(rows)


def find_overlap(records: Records, train: str | None, test: Collection[str | None]) -> Found:
    """Find identities in training and test; the rows are those of training."""
    if train is None:
        return [], set()

    trained = {record.identity for record in records if record.split == train}
    tested = {record.identity for record in records if record.split in test}
    both = trained & tested

    rows = set()
    for row, record in enumerate(records):
        if record.split == train and record.identity in both:
            rows.add(row)

    examples = [str(identity) for identity in sorted(both, key=str)]
    return _findings("overlap", "error", "identities in training and test", examples), rows


def find_equal_files(
    records: Records, groups: Groups, train: str | None, test: Collection[str | None]
) -> Found:
    """Find equal images: in training and test, of two identities, or repeated.

    ``groups`` are the paths of equal bytes or pixels. A path of several records is a group by
    itself, which is no duplicate: an image has several records if it has several captions.
    """
    rows_of_path = _rows_by_path(records)

    conflicts: list[str] = []
    leaks: list[str] = []
    duplicates: list[str] = []
    wrong: set[int] = set()
    for paths in _with_repeated_paths(rows_of_path, groups):
        names = " = ".join(paths)
        rows = [row for path in paths for row in rows_of_path[path]]
        in_training = {row for row in rows if records[row].split == train}
        in_test = {row for row in rows if records[row].split in test}
        identities = {records[row].identity for row in rows}

        if train is not None and in_training and in_test:
            leaks.append(names)
            wrong |= in_training
        elif len(identities) > 1:
            conflicts.append(names)
            wrong.update(rows)
        elif len(paths) > 1:
            duplicates.append(names)

    conflict_text = "equal images of two identities"
    leak_text = "equal images in training and test"
    duplicate_text = "images that occur under several names"
    return [
        *_findings("conflict", "error", conflict_text, conflicts),
        *_findings("leak", "error", leak_text, leaks),
        *_findings("duplicate", "note", duplicate_text, duplicates),
    ], wrong


def find_shared_images(records: Records, groups: Groups, pairs: Sequence[tuple[str, str]]) -> Found:
    """Find queries that are in the gallery themselves, where no camera rule leaves the pair out.

    Each such query finds itself first. ``groups`` are the paths of equal bytes or pixels; the rows
    are those of the gallery.
    """
    rows_of_path = _rows_by_path(records)

    examples: list[str] = []
    wrong: set[int] = set()
    for paths in _with_repeated_paths(rows_of_path, groups):
        rows = [row for path in paths for row in rows_of_path[path]]
        for query, gallery in pairs:
            shown = [row for row in rows if records[row].split == query]
            kept = [row for row in rows if records[row].split == gallery]
            copies = {row for row in kept if _finds_itself(records, shown, row)}
            if copies:
                examples.append(" = ".join(dict.fromkeys(records[row].path for row in rows)))
                wrong |= copies

    text = "images that are query and gallery, so that a query finds itself"
    return _findings("shared", "error", text, examples), wrong


def _finds_itself(records: Records, queries: Sequence[int], row: int) -> bool:
    """Return whether an image of the gallery counts as a match of one of equal queries."""
    for query in queries:
        same_identity = records[query].identity == records[row].identity
        camera = records[query].camera
        if same_identity and (camera is None or camera != records[row].camera):
            return True
    return False


def find_near_copies(
    records: Records,
    looks: Mapping[str, ImageLook],
    pairs: Sequence[tuple[str, str]],
    train: str | None,
    test: Collection[str | None],
) -> Found:
    """Find images that look alike in query and gallery, or in training and test.

    Of query and gallery only those of one identity, unless the camera rule leaves the pair out.
    """
    found: list[tuple[str, str]] = []
    for query, gallery in pairs:
        kept = _rows_by_identity(records, gallery)
        for (identity, camera), shown in _rows_by_camera(records, query).items():
            rows = kept.get(identity, [])
            if camera is not None:
                rows = [row for row in rows if records[row].camera != camera]
            found += near_pairs(_paths(records, shown), _paths(records, rows), looks)

    if train is not None:
        trained = [record.path for record in records if record.split == train]
        tested = [record.path for record in records if record.split in test]
        found += near_pairs(trained, tested, looks)

    examples = [f"{one} ~ {other}" for one, other in found]
    text = "images that look like one on the other side, as if saved in another format"
    return _findings("near_copy", "note", text, examples), set()


def _rows_by_identity(records: Records, split: str) -> dict[int | str, list[int]]:
    """Return the rows of each identity in a split."""
    rows_of: dict[int | str, list[int]] = {}
    for row, record in enumerate(records):
        if record.split == split:
            rows_of.setdefault(record.identity, []).append(row)
    return rows_of


def _rows_by_camera(
    records: Records, split: str
) -> dict[tuple[int | str, int | str | None], list[int]]:
    """Return the rows of each identity and camera in a split."""
    rows_of: dict[tuple[int | str, int | str | None], list[int]] = {}
    for row, record in enumerate(records):
        if record.split == split:
            rows_of.setdefault((record.identity, record.camera), []).append(row)
    return rows_of


def _rows_by_path(records: Records) -> dict[str, list[int]]:
    """Return the rows of each path."""
    rows_of_path: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        rows_of_path.setdefault(record.path, []).append(row)
    return rows_of_path


def _with_repeated_paths(rows_of_path: Mapping[str, list[int]], groups: Groups) -> list[list[str]]:
    """Return the groups of equal files, and each other path that several records have."""
    repeated: list[list[str]] = []
    grouped: set[str] = set()
    for group in groups:
        existing = [path for path in group if path in rows_of_path]
        grouped.update(existing)
        if len(existing) > 1:
            repeated.append(existing)

    for path, rows in rows_of_path.items():
        if len(rows) > 1 and path not in grouped:
            repeated.append([path])
    return repeated


def find_queries_without_match(records: Records, pairs: Sequence[tuple[str, str]]) -> Found:
    """Find queries without a match in the gallery, or with matches of their own camera only.

    ``pairs`` are the names of query splits, each with that of its gallery.
    """
    no_match: list[int] = []
    same_camera: list[int] = []
    galleries: set[str] = set()
    severity: Literal["error", "note"] = "note"

    for query, gallery in pairs:
        queries = [row for row, record in enumerate(records) if record.split == query]
        without, own_camera = _rows_without_match(records, queries, gallery)

        no_match += without
        same_camera += own_camera
        if without:
            galleries.add(gallery)
        # A pair without any valid query cannot be evaluated.
        if own_camera and len(own_camera) + len(without) == len(queries):
            severity = "error"

    more = ", ..." if len(galleries) > 3 else ""
    where = ", ".join(map(repr, sorted(galleries)[:3])) + more
    no_match_text = f"queries whose identity is not in {where}"
    same_camera_text = "queries whose matches are all from their own camera, which do not count"
    return [
        *_findings("no_match", "error", no_match_text, _paths(records, no_match)),
        *_findings("same_camera", severity, same_camera_text, _paths(records, same_camera)),
    ], set(no_match)


def find_single_images(records: Records, train: str | None) -> Found:
    """Find identities with one image, in training or without a split.

    An error if all are so, and no caption gives them another positive.
    """
    if train is None:
        return [], set()

    trainable = [record for record in records if record.split in (train, None)]
    counts = Counter(record.identity for record in trainable)
    single = [identity for identity, count in counts.items() if count == 1]

    text = "identities with one image"
    if any(record.split == train for record in trainable):
        text = f"training {text}"

    severity: Literal["error", "note"] = "note"
    all_are_single = len(single) == len(counts) > 1
    if all_are_single and not all(record.caption for record in trainable):
        severity = "error"
        text = f"{text}, which are all: there is no pair to train on"

    examples = sorted(map(str, single))
    return _findings("single_image", severity, text, examples), set()


def find_similar_names(records: Records) -> Found:
    """Find identities and cameras that a person would read as one, such as ``rex`` and ``Rex``."""
    findings: list[Finding] = []
    for field, plural in (("identity", "identities"), ("camera", "cameras")):
        groups = near_groups({getattr(record, field) for record in records})
        examples = [" and ".join(map(repr, group[:3])) for group in groups]
        findings += _findings(f"similar_{field}", "note", f"{plural} in several ways", examples)
    return findings, set()


def _rows_without_match(
    records: Records, queries: Sequence[int], gallery: str
) -> tuple[list[int], list[int]]:
    """Return the queries without a match in the gallery, and those with one camera's matches."""
    cameras_of: dict[int | str, set[int | str | None]] = {}
    for record in records:
        if record.split == gallery:
            cameras_of.setdefault(record.identity, set()).add(record.camera)

    without: list[int] = []
    own_camera: list[int] = []
    for row in queries:
        query = records[row]
        if query.identity not in cameras_of:
            without.append(row)
        elif query.camera is not None and cameras_of[query.identity] == {query.camera}:
            own_camera.append(row)
    return without, own_camera


def _paths(records: Records, rows: Sequence[int]) -> list[str]:
    """Return the paths of rows."""
    return [records[row].path for row in rows]


def _findings(
    kind: str, severity: Literal["error", "note"], text: str, affected: Sequence[str]
) -> list[Finding]:
    """Return one finding; none if nothing is affected."""
    if not affected:
        return []
    count = len(affected)
    return [Finding(kind, severity, count, f"{count} {text}", tuple(affected[:3]))]
