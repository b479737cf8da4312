"""Validation of records: everything that makes results wrong or stops training, in one report."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from clipreid_kit._checks import check_choice
from clipreid_kit.data.records import ImageRecord, check_records
from clipreid_kit.data.validation._checks_of_records import (
    Found,
    find_bad_captions,
    find_equal_files,
    find_near_copies,
    find_overlap,
    find_queries_without_match,
    find_shared_images,
    find_similar_names,
    find_single_images,
    find_unreadable,
)
from clipreid_kit.data.validation._image_looks import ImageLook, group_equal_images
from clipreid_kit.data.validation.equal_files import group_equal_files
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
    """Find everything that makes results wrong or stops training, and report it at once.

    Use it once for new data; :func:`check_files` and :func:`check_splits` are the quick checks
    before each run. Splits that do not occur are not checked. Besides ``query`` and ``gallery``,
    splits with the same names and an addition are pairs: ``val_query`` and ``val_gallery``,
    ``query3`` and ``gallery3``. Test identities are those of all pairs and of a split ``test``.

    Errors are:

    - ``unreadable``: images that cannot be decoded;
    - ``overlap``: identities in training and test;
    - ``leak``: equal images in training and test;
    - ``conflict``: other equal images of two identities;
    - ``shared``: images that are query and gallery, with the same identity and no camera or
      different ones, so that each such query finds itself;
    - ``single_image``: if every training identity has one image, and not all have captions;
    - ``no_match``: queries whose identity is not in the gallery;
    - ``same_camera``: queries whose matches are all from their own camera, which do not count, if
      no query of a pair has another match;
    - ``caption``: captions that are missing, too short or too long.

    Images are equal if they are one file, have the same bytes, or (with ``images``) decode to the
    same pixels, as a BMP and a PNG of one image do.

    Notes are:

    - ``same_camera``: such queries, if others have a match;
    - ``single_image``: other identities with one image, which have no positive pair, in training or
      without a split;
    - ``duplicate``: other equal images under several names;
    - ``near_copy``: images that look like one on the other side, such as an image that was saved as
      JPEG again: in training and test, or query and gallery of one identity, unless the camera
      rule leaves the pair out;
    - ``similar_identity``, ``similar_camera``: names that differ only in case, white space, Unicode
      form or leading zeros, and count as different.

    Args:
        records: Records of all splits.
        train: Name of the training split; ``None`` for evaluation alone.
        query: Name of the query split.
        gallery: Name of the gallery split.
        images: Whether to decode every image, which takes a few milliseconds each.
        duplicates: Whether to compare images: their bytes (only files of equal size are read), and
            with ``images`` their pixels and what they look like in small.
        caption_length: Fewest and most characters of every caption, such as (3, 1000); ``None``
            does not check captions.
        on_error: If there is an error, ``"raise"`` a ``ValueError`` with the whole report;
            ``"skip"`` the records that errors concern (of an overlap or a leak those in training,
            of shared images those in the gallery); or ``"report"`` only.

    Returns:
        The report, with the records to use in ``records``, in their order; its ``counts`` are made
        for a metrics file. After skipping, no errors of these kinds are left, except for queries
        that all lack a match from another camera, and training without any pair: these records
        stay.

    Raises:
        ValueError: If there is an error and ``on_error`` is ``"raise"``; or if some identities are
            integers and others strings.

    Example:
        >>> records = [
        ...     ImageRecord("0.jpg", 0, split="train"),
        ...     ImageRecord("1.jpg", 0, split="train"),
        ...     ImageRecord("2.jpg", 1, split="query"),
        ...     ImageRecord("3.jpg", 1, split="gallery"),
        ...     ImageRecord("4.jpg", 2, split="query"),
        ... ]
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
    check_records("validate_records", everything)
    _check_one_type(everything)

    pairs = _query_gallery_pairs(everything, query, gallery)
    test = _test_splits(pairs, train)

    state = _State(everything, skips=on_error == "skip")
    looks: dict[str, ImageLook] = {}
    if images:
        unreadable, looks = find_unreadable(state.kept)
        state.add(unreadable)
    if caption_length is not None:
        state.add(find_bad_captions(state.kept, caption_length))
    state.add(find_overlap(state.kept, train, test))

    paths = [record.path for record in state.kept]
    groups: list[list[str]] = []
    if duplicates:
        groups = group_equal_images(group_equal_files(dict.fromkeys(paths)), looks)
    state.add(find_equal_files(state.kept, groups, train, test))
    state.add(find_shared_images(state.kept, groups, pairs))
    if duplicates:
        state.add(find_near_copies(state.kept, looks, pairs, train, test))
    state.add(find_queries_without_match(state.kept, pairs))
    state.add(find_single_images(state.kept, train))
    state.add(find_similar_names(state.kept))

    findings = sorted(state.findings, key=lambda finding: finding.severity)  # errors before notes
    report = ValidationReport(state.kept, len(everything), tuple(findings), balance_of(state.kept))

    has_errors = any(finding.severity == "error" for finding in findings)
    if has_errors and on_error == "raise":
        raise ValueError(
            f"validate_records: the data has errors.\n{report}\nCorrect the data, or pass "
            'on_error="skip" to leave out the records that errors concern.'
        )
    return report


@dataclass
class _State:
    """The findings so far, and the records that are left for the next check."""

    kept: list[ImageRecord]
    skips: bool
    findings: list[Finding] = field(default_factory=list)

    def add(self, found: Found) -> None:
        """Add what a check found; leave out the rows that its errors concern."""
        findings, rows = found
        self.findings += findings
        if self.skips and rows:
            self.kept = [record for row, record in enumerate(self.kept) if row not in rows]


def _check_one_type(records: Sequence[ImageRecord]) -> None:
    """Raise ValueError if some identities are integers and others strings."""
    example_of = {type(record.identity).__name__: record.identity for record in records}
    if len(example_of) > 1:
        types = " and ".join(f"{name} ({example_of[name]!r})" for name in sorted(example_of))
        raise ValueError(
            f"validate_records: identities are of several types: {types}. The integer 1 and the "
            "string '1' are different identities: map all of them to one type."
        )


def _query_gallery_pairs(
    records: Sequence[ImageRecord], query: str, gallery: str
) -> list[tuple[str, str]]:
    """Return the names of query splits, each with that of the gallery that it is searched in."""
    names = {record.split for record in records if record.split is not None} - {query}

    pairs = [(query, gallery)]
    for name in sorted(names):
        partner = name.replace(query, gallery)
        if query in name and partner in names:
            pairs.append((name, partner))
    return pairs


def _test_splits(pairs: Sequence[tuple[str, str]], train: str | None) -> set[str]:
    """Return the names of all test splits."""
    splits = {"test"}
    for pair in pairs:
        splits.update(pair)
    return splits - {train} if train is not None else splits
