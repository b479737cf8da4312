"""Files of images as the page shows them: drawn anew, so that nothing else of a file is served."""

import io

from PIL import Image

_SMALL = 160  # pixels of a side up to which an image is kept without loss
_QUALITY = 88


def shown_file(image: Image.Image, max_side: int) -> tuple[bytes, str]:
    """Write an image, made smaller if a side is longer, to a file in memory.

    Metadata, such as the place where a photograph was taken, are not in it.

    Args:
        image: The image, RGB.
        max_side: Longest side, in pixels.

    Returns:
        The content and its media type.

    Example:
        >>> content, kind = shown_file(Image.new("RGB", (900, 300)), max_side=300)
        >>> kind, Image.open(io.BytesIO(content)).size
        ('image/jpeg', (300, 100))
    """
    scale = min(1.0, max_side / max(image.size))
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)

    buffer = io.BytesIO()
    pixels = Image.frombytes("RGB", image.size, image.tobytes())
    if max(image.size) <= _SMALL:
        pixels.save(buffer, "PNG")
        return buffer.getvalue(), "image/png"

    pixels.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue(), "image/jpeg"
