"""The error of a request that cannot be answered, with its HTTP status."""

import re

_OWNER = re.compile(r"[A-Z]\w*\.[a-z_]+: ")


class RequestError(ValueError):
    """A request that cannot be answered.

    Args:
        status: HTTP status, such as 404.
        reason: One sentence for the person at the page.
        wait: Seconds after which the request may be repeated; ``None`` if that does not help.
    """

    def __init__(self, status: int, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.wait = wait


def reason_of(error: Exception) -> str:
    """Return what is wrong, without the method that found it, which a page's reader does not know.

    >>> reason_of(ValueError("Encoder.encode_texts: texts need a text tower."))
    'Texts need a text tower.'
    """
    reason = str(error)
    owner = _OWNER.match(reason)
    if owner is None:
        return reason
    return reason[owner.end()].upper() + reason[owner.end() + 1 :]
