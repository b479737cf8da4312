"""What a check of records found: to be read, to be kept beside results, and to go on with."""

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
        kind: A word that stays the same: ``unreadable``, ``overlap``, ``leak``, ``conflict``, ``no_match``,
            ``same_camera``, ``single_image``, ``duplicate`` or ``caption``.
        severity: ``error`` where results would be wrong or training would stop, else ``note``.
        count: How many records, queries or identities are concerned; ``text`` says which of these.
        text: What was found, as a sentence.
        examples: The first three.
    """

    kind: str
    severity: Literal["error", "note"]
    count: int
    text: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitBalance:
    """How images are spread over the identities of a split.

    Attributes:
        images: Number of records.
        identities: Number of identities.
        cameras: Number of cameras; 0 where none is known.
        fewest: Images of the identity with the fewest.
        median: Images of the identity in the middle.
        most: Images of the identity with the most.
    """

    images: int
    identities: int
    cameras: int
    fewest: int
    median: float
    most: int


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What :func:`validate_records` found. ``str(report)`` is for people, :meth:`to_dict` for JSON.

    Attributes:
        records: The records to go on with: all of them, or those that were not skipped.
        num_records: How many were checked.
        findings: Problems, errors first.
        balance: How each split is made up, of the records that are left.

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
        """Numbers for a metrics file: records checked, records skipped, and how many each finding concerns."""
        found = {finding.kind: finding.count for finding in self.findings}
        return {
            "records": self.num_records,
            "skipped": self.num_records - len(self.records),
            **found,
        }

    def to_dict(self) -> dict[str, object]:
        """Give all but the records as plain values for JSON."""
        return {
            "counts": self.counts,
            "findings": [
                {**asdict(finding), "examples": list(finding.examples)} for finding in self.findings
            ],
            "balance": {name: asdict(balance) for name, balance in self.balance.items()},
        }

    def __str__(self) -> str:
        """Write the findings a line each, and a table of the splits."""
        skipped = self.num_records - len(self.records)
        lines = [
            f"{self.num_records} records, {skipped} left out"
            if skipped
            else f"{self.num_records} records"
        ]
        lines += [
            f"{f.severity}: {f.text}: {', '.join(f.examples)}{_more(f)}" for f in self.findings
        ]
        if not self.findings:
            lines.append("nothing found")
        rows = [
            (
                "split",
                "images",
                "identities",
                "cameras",
                "images per identity (fewest, median, most)",
            )
        ]
        for name, b in self.balance.items():
            spread = f"{b.fewest}, {b.median:g}, {b.most}"
            rows.append((name, str(b.images), str(b.identities), str(b.cameras or "-"), spread))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(lines + ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows])


def balance_of(records: Sequence[ImageRecord]) -> dict[str, SplitBalance]:
    """Count images, identities and cameras of each split; records without a split are under ``-``."""
    splits: dict[str, list[ImageRecord]] = {}
    for record in records:
        splits.setdefault(record.split if record.split is not None else "-", []).append(record)
    balances = {}
    for name, group in splits.items():
        sizes = list(Counter(record.identity for record in group).values())
        cameras = {record.camera for record in group} - {None}
        spread = min(sizes), statistics.median(sizes), max(sizes)
        balances[name] = SplitBalance(len(group), len(sizes), len(cameras), *spread)
    return balances


def _more(finding: Finding) -> str:
    return ", ..." if finding.count > len(finding.examples) else ""
