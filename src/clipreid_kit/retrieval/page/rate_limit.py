"""A limit on how often each client may ask for work."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CLIENTS = 10_000


class RateLimit:
    """Let each client do a number of things at once, and a number per second on average.

    Args:
        rate: Things per second, on average.
        burst: Things at once.
        clock: Seconds, rising.

    Example:
        >>> limit = RateLimit(rate=2.0, burst=1, clock=lambda: 0.0)
        >>> limit.seconds_to_wait("ann"), limit.seconds_to_wait("ann"), limit.seconds_to_wait("bob")
        (0.0, 0.5, 0.0)
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def seconds_to_wait(self, client: str) -> float:
        """Count one thing, and return 0; or return in how many seconds it may be done."""
        now = self._clock()
        with self._lock:
            left, since = self._left.pop(client, (self._burst, now))
            left = min(self._burst, left + (now - since) * self._rate)
            is_allowed = left >= 1
            self._left[client] = (left - 1 if is_allowed else left, now)
            if len(self._left) > _MOST_CLIENTS:
                self._left.popitem(last=False)

        return 0.0 if is_allowed else (1 - left) / self._rate
