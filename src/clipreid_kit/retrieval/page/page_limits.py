"""Limits of the search page: on what it accepts, keeps and does at once."""

from dataclasses import dataclass

_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class PageLimits:
    """Limits on what the search page accepts from its clients and keeps in memory.

    Attributes:
        max_upload_bytes: Largest file of an image.
        max_pixels: Largest number of pixels of an image that is dropped.
        max_hits: Most hits of one search.
        max_text: Longest text, in characters.
        kept_bytes: Memory for dropped images; the oldest make room for new ones.
        thumbnail_bytes: Memory for thumbnails.
        rate: Images and texts to encode that one address may send, per second and on average.
        burst: Images and texts that it may send at once.
        uploads_at_once: Images that are received at the same time; others wait.
        upload_seconds: Longest time for one image to arrive.
    """

    max_upload_bytes: int = 20 * _MB
    max_pixels: int = 50_000_000
    max_hits: int = 200
    max_text: int = 1000
    kept_bytes: int = 256 * _MB
    thumbnail_bytes: int = 64 * _MB
    rate: float = 20.0
    burst: int = 100
    uploads_at_once: int = 4
    upload_seconds: float = 30.0
