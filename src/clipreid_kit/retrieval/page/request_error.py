"""The error of a request that cannot be answered, with its HTTP status."""


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
