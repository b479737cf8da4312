"""Report of a validation: findings, the balance of the splits, and the records to use."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from clipreid_kit.data.records import ImageRecord


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of problem.

    Attributes:
        kind: ``unreadable``, ``overlap``, ``leak``, ``conflict``, ``shared``, ``no_match``,
            ``same_camera``, ``single_image``, ``duplicate``, ``near_copy``, ``similar_identity``,
            ``similar_camera`` or ``caption``.
        severity: ``error`` if results would be wrong or training would stop, else ``note``.
        count: Number of records, queries, identities or images that are affected; ``text`` says of
            which.
        text: The problem in words.
        examples: The first three that are affected.
    """

    kind: str
    severity: Literal["error", "note"]
    count: int
    text: str
    examples: tuple[str, ...]

    def __str__(self) -> str:
        """Return the finding as one line."""
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.severity}: {self.text}: {', '.join(self.examples)}{more}"


@dataclass(frozen=True, slots=True)
class SplitBalance:
    """Distribution of the images of a split over its identities.

    Attributes:
        images: Number of images.
        identities: Number of identities.
        cameras: Number of cameras; 0 if none is known.
        fewest: Smallest number of images of an identity.
        median: Median number of images of an identity.
        most: Largest number of images of an identity.
    """

    images: int
    identities: int
    cameras: int
    fewest: int
    median: float
    most: int


@dataclass(frozen=True, slots=True, repr=False)
class ValidationReport:
    """Result of :func:`validate_records`. Print it, or save :meth:`to_dict` as JSON.

    Attributes:
        records: The records to use: all, or those that were not skipped.
        num_records: Number of records that were checked.
        findings: Problems, errors first.
        balance: Distribution of the images of each split, of ``records``.

    Example:
        >>> report = ValidationReport((), 0, (), {})
        >>> report.counts
        {'records': 0, 'skipped': 0}
    """

    records: Sequence[ImageRecord]
    num_records: int
    findings: Sequence[Finding]
    balance: Mapping[str, SplitBalance]

    @property
    def counts(self) -> dict[str, int]:
        """Numbers for a metrics file: records, skipped records, and the count of each finding."""
        counts = {
            "records": self.num_records,
            "skipped": self.num_records - len(self.records),
        }
        for finding in self.findings:
            counts[finding.kind] = finding.count
        return counts

    def to_dict(self) -> dict[str, object]:
        """Return everything but the records in JSON's types."""
        findings = [
            {**asdict(finding), "examples": list(finding.examples)} for finding in self.findings
        ]
        return {
            "counts": self.counts,
            "findings": findings,
            "balance": {name: asdict(balance) for name, balance in self.balance.items()},
        }

    def __str__(self) -> str:
        """Return one line for each finding, and a table of the splits."""
        num_skipped = self.num_records - len(self.records)
        skipped = f", {num_skipped} left out" if num_skipped else ""

        lines = [f"{self.num_records} records{skipped}"]
        lines += [str(finding) for finding in self.findings]
        if not self.findings:
            lines.append("nothing found")
        lines += _balance_table(self.balance)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def balance_of(records: Sequence[ImageRecord]) -> dict[str, SplitBalance]:
    """Return the balance of each split; records without a split are under ``-``."""
    records_of_split: dict[str, list[ImageRecord]] = {}
    for record in records:
        split = "-" if record.split is None else record.split
        records_of_split.setdefault(split, []).append(record)

    balances = {}
    for split, group in records_of_split.items():
        sizes = list(Counter(record.identity for record in group).values())
        cameras = {record.camera for record in group if record.camera is not None}
        balances[split] = SplitBalance(
            images=len(group),
            identities=len(sizes),
            cameras=len(cameras),
            fewest=min(sizes),
            median=statistics.median(sizes),
            most=max(sizes),
        )
    return balances


def _balance_table(balance: Mapping[str, SplitBalance]) -> list[str]:
    """Return the lines of a table with a row for each split."""
    per_identity = "images per identity (fewest, median, most)"
    rows = [("split", "images", "identities", "cameras", per_identity)]
    for name, split in balance.items():
        rows.append(
            (
                name,
                str(split.images),
                str(split.identities),
                str(split.cameras or "-"),
                f"{split.fewest}, {split.median:g}, {split.most}",
            )
        )

    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
