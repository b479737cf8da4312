"""A cache of bounded size, for files in memory."""

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Key = TypeVar("Key")


class ByteCache(Generic[Key]):
    """Keep the contents that were used last, up to a number of bytes.

    Any thread may use it.

    Args:
        max_bytes: Limit for all contents together; a larger one is not kept.

    Example:
        >>> cache = ByteCache[str](5)
        >>> for name in ("a", "b", "c"):
        ...     cache.put(name, name.encode() * 2)
        >>> cache.get("a"), cache.get("c")
        (None, b'cc')
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._contents: OrderedDict[Key, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> bytes | None:
        """Return a content; ``None`` if it is not kept."""
        with self._lock:
            content = self._contents.get(key)
            if content is not None:
                self._contents.move_to_end(key)
            return content

    def put(self, key: Key, content: bytes) -> None:
        """Keep a content, and drop those that were not used for the longest time."""
        with self._lock:
            old = self._contents.pop(key, b"")
            self._size -= len(old)
            if len(content) > self._max_bytes:
                return

            self._contents[key] = content
            self._size += len(content)
            while self._size > self._max_bytes:
                _, dropped = self._contents.popitem(last=False)
                self._size -= len(dropped)
