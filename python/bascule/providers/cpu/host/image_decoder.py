# SPDX-License-Identifier: Apache-2.0
"""ImageDecoder, by Pillow: an optional package, asked for when a model has the operator."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from bascule.errors import InvalidGraph
from bascule.ir.graph import Node
from bascule.providers.cpu.host.registry import HostFunction, Unavailable, host_operator

_FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Those that the operator names: other readers of Pillow see no bytes of a caller."""

_MODES = {"RGB": "RGB", "BGR": "RGB", "Grayscale": "L"}


@host_operator("ImageDecoder")
def image_decoder(node: Node) -> HostFunction:
    pixel_format = node.attribute("pixel_format", "RGB")
    if pixel_format not in _MODES:
        raise InvalidGraph(
            f"ImageDecoder node '{node.name}': pixel_format '{pixel_format}' is none of "
            + ", ".join(_MODES)
        )
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise Unavailable('Pillow is not installed: pip install "bascule[image]"') from None

    def run(encoded: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if encoded.ndim != 1:
            raise ValueError(f"the encoded image has shape {list(encoded.shape)}; expected [bytes]")
        pixels = _decode(encoded.tobytes(), _MODES[pixel_format])
        if pixel_format == "Grayscale":
            return pixels[:, :, None]
        return pixels[:, :, ::-1] if pixel_format == "BGR" else pixels

    return run


def _decode(encoded: bytes, mode: str) -> np.ndarray[Any, Any]:
    """The pixels, as 8-bit samples of Pillow's `mode`."""
    import PIL
    from PIL import Image

    if not len(encoded):
        raise ValueError("there are no bytes to decode")
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            # Pillow itself only warns up to twice its limit.
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise ValueError(
                    f"{image.width} x {image.height} pixels are more than {limit}, the limit that "
                    "PIL.Image.MAX_IMAGE_PIXELS sets"
                )
            image.load()
            return np.array(_converted(image, mode))
    except PIL.UnidentifiedImageError:
        raise ValueError(f"{len(encoded)} bytes are no image of {', '.join(_FORMATS)}") from None
    except Exception as error:
        name = type(error).__name__
        raise ValueError(
            f"{len(encoded)} bytes cannot be decoded as an image ({name}: {error})"
        ) from error


def _converted(image: Any, mode: str) -> Any:
    """A loaded image in `mode`: no alpha, no palette, and of longer samples the upper 8 bits."""
    from PIL import Image

    image.info.pop("transparency", None)  # alpha is dropped, not blended in
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        samples = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
        image = Image.fromarray((samples >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"samples of 32 bits, Pillow's mode {image.mode}, have no 8-bit form")
    return image if image.mode == mode else image.convert(mode)
