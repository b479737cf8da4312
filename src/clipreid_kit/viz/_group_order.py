"""Order the names of identities and cameras as people do."""

from collections.abc import Iterable


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Distinct names: numbers by value, then texts.

    Example:
        >>> in_natural_order(["10", "door", "2", "10", "a"])
        ['2', '10', 'a', 'door']
    """
    return sorted(set(names), key=_key)


def _key(name: str) -> tuple[bool, int, str]:
    is_number = name.isascii() and name.isdigit()
    return (not is_number, int(name) if is_number else 0, name)
