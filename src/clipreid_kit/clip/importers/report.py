"""Report of an import: where each tensor of a foreign checkpoint went."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_MAX_NAMES = 5


@dataclass(frozen=True, repr=False)
class ImportReport:
    """Report of where each tensor of an imported checkpoint went.

    Every tensor of the checkpoint is in exactly one of ``loaded``, ``dropped`` and ``unexpected``.

    Attributes:
        loaded: Name in the checkpoint, and name of the tensor that was set from it.
        dropped: Name in the checkpoint, and the reason why it is not used.
        unexpected: Names in the checkpoint that the importer does not know; they are not used.
        missing: Tensors of the imported modules that the checkpoint does not set, or sets in part.
    """

    loaded: Mapping[str, str]
    dropped: Mapping[str, str] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Show the number of tensors of each kind; :meth:`summary` names them."""
        return (
            f"ImportReport(loaded: {len(self.loaded)}, dropped: {len(self.dropped)}, "
            f"unexpected: {len(self.unexpected)}, missing: {len(self.missing)})"
        )

    @property
    def is_complete(self) -> bool:
        """Whether every tensor was used or dropped on purpose, and none of the modules is unset."""
        return not (self.unexpected or self.missing)

    def summary(self) -> str:
        """Describe the report in a few lines, with at most five names of a kind.

        Returns:
            One line for the loaded tensors, and one for each other kind that occurred.

        Example:
            >>> print(ImportReport({"a": "x.a"}, {"b": "belongs to the optimiser"}).summary())
            1 tensors loaded
            1 dropped: b (belongs to the optimiser)
        """
        kinds = {
            "dropped": [f"{name} ({reason})" for name, reason in self.dropped.items()],
            "unexpected": self.unexpected,
            "missing": self.missing,
        }

        lines = [f"{len(self.loaded)} tensors loaded"]
        for kind, names in kinds.items():
            if names:
                shown = [*names[:_MAX_NAMES], "..."] if len(names) > _MAX_NAMES else names
                lines.append(f"{len(names)} {kind}: {', '.join(shown)}")
        return "\n".join(lines)
