# SPDX-License-Identifier: Apache-2.0
"""ImageDecoder: every format and kind of pixel, and bytes that are no image."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

import numpy as np
import onnx.parser
import pytest
from PIL import Image

import bascule
from bascule import errors
from tests.support.native import run_node

HEADER = '<ir_version: 10, opset_import: ["" : 21]>'
NESTED = """g (uint8[N] a, bool c) => (uint8[h,w,d] y) {
    y = If(c) <then_branch = p () => (z) { z = ImageDecoder(a) },
               else_branch = q () => (w) { w = ImageDecoder<pixel_format = "BGR">(a) }> }"""

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
LOSSLESS: dict[str, dict[str, Any]] = {
    "BMP": {},
    "PNG": {},
    "PPM": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "JPEG2000": {"irreversible": False},
}


def encoded(image: Image.Image, format: str, **options: Any) -> np.ndarray:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return np.frombuffer(stream.getvalue(), np.uint8)


def decode(data: np.ndarray, pixel_format: str = "RGB") -> np.ndarray:
    (result,) = run_node("ImageDecoder", [data], {"pixel_format": pixel_format})
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    return result


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats(format: str) -> None:
    image = Image.fromarray(PIXELS)
    data = encoded(image, format, **LOSSLESS[format])
    np.testing.assert_array_equal(decode(data), PIXELS)
    np.testing.assert_array_equal(decode(data, "BGR"), PIXELS[:, :, ::-1])
    np.testing.assert_array_equal(decode(data, "Grayscale")[:, :, 0], np.array(image.convert("L")))


def test_jpeg() -> None:
    data = encoded(Image.fromarray(PIXELS), "JPEG", quality=95)
    reference = np.array(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data), reference)
    np.testing.assert_array_equal(decode(data, "BGR"), reference[:, :, ::-1])


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_kinds_of_pixels(format: str, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    if (format, mode) == ("PNG", "CMYK"):
        return
    if mode == "RGBA":
        image.putalpha(Image.fromarray(PIXELS[:, :, 0]))
    data = encoded(image, format)
    np.testing.assert_array_equal(decode(data), np.array(image.convert("RGB")))
    gray = decode(data, "Grayscale")
    assert gray.shape == (5, 7, 1)
    np.testing.assert_array_equal(gray[:, :, 0], np.array(image.convert("L")))


def test_alpha_is_dropped() -> None:
    image = Image.fromarray(PIXELS)
    image.putalpha(7)
    np.testing.assert_array_equal(decode(encoded(image, "PNG")), PIXELS)


def test_palette_with_transparent_entries() -> None:
    image = Image.fromarray(PIXELS).convert("P")
    data = encoded(image, "PNG", transparency=bytes(range(200)))
    np.testing.assert_array_equal(decode(data), np.array(image.convert("RGB")))


def test_cmyk_jpeg() -> None:
    data = encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG")
    reference = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data), reference)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000"])
def test_samples_of_16_bits_keep_their_upper_8(format: str) -> None:
    samples = np.random.default_rng(1).integers(0, 1 << 16, (5, 7), dtype=np.uint16)
    data = encoded(Image.fromarray(samples), format, **LOSSLESS[format])
    upper = (samples >> 8).astype(np.uint8)
    np.testing.assert_array_equal(decode(data, "Grayscale")[:, :, 0], upper)
    np.testing.assert_array_equal(decode(data), np.repeat(upper[:, :, None], 3, axis=2))


def test_graymap_of_16_bits() -> None:
    samples = np.array([[0, 255, 256], [4660, 65280, 65535]], np.uint16)
    data = np.frombuffer(b"P5 3 2 65535\n" + samples.astype(">u2").tobytes(), np.uint8)
    assert decode(data, "Grayscale")[:, :, 0].tolist() == [[0, 0, 1], [18, 255, 255]]


# --- what is no image


def refused(data: bytes, message: str, pixel_format: str = "RGB") -> None:
    with pytest.raises(errors.Fail, match=rf"(?s)ImageDecoder node. Name:'node'.*{message}"):
        decode(np.frombuffer(data, np.uint8), pixel_format)


def test_no_bytes_and_no_image() -> None:
    refused(b"", "there are no bytes to decode")
    refused(b"not an image", "12 bytes are no image of BMP, JPEG")
    refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "are no image of")
    refused(b"GIF89a" + bytes(100), "are no image of")


@pytest.mark.parametrize("format", ["BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"])
def test_truncated_images_are_refused(format: str) -> None:
    data = bytes(encoded(Image.fromarray(PIXELS), format))
    # The first part only: half a JPEG 2000 stream may count as a coarser image.
    for size in range(0, len(data) // 3, 5):
        refused(data[:size], "no bytes|are no image|cannot be decoded")


def test_damaged_bytes_are_decoded_or_refused() -> None:
    source = np.random.default_rng(2)
    for format in ("BMP", "JPEG", "PNG", "PPM", "WEBP"):
        for _ in range(30):
            data = encoded(Image.fromarray(PIXELS), format).copy()
            data[source.integers(0, len(data), 3)] = source.integers(0, 256, 3)
            with contextlib.suppress(errors.Fail):
                assert decode(data).shape[2] == 3


@pytest.mark.parametrize("size", ["20000 20000", "9000 10000", "4000000000 4000000000"])
def test_decompression_bombs_are_refused(size: str) -> None:
    refused(f"P6 {size} 255\n".encode() + bytes(100), "cannot be decoded as an image")


def test_the_limit_of_pillow_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(PIXELS), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 35)
    decode(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 34)
    with pytest.warns(Image.DecompressionBombWarning):
        refused(bytes(data), "7 x 5 pixels are more than 34, the limit")


def test_32_bits_are_refused() -> None:
    for dtype, mode in ((np.int32, "I"), (np.float32, "F")):
        data = encoded(Image.fromarray(PIXELS[:, :, 0].astype(dtype)), "TIFF")
        refused(bytes(data), f"mode {mode}, have no 8-bit form")


def test_rank() -> None:
    with pytest.raises(errors.Fail, match=r"shape \[1, 5\]; expected \[bytes\]"):
        run_node("ImageDecoder", [np.ones((1, 5), np.uint8)])


# --- sessions


def make(text: str) -> bascule.InferenceSession:
    return bascule.InferenceSession(onnx.parser.parse_model(HEADER + text).SerializeToString())


def test_in_nested_graphs() -> None:
    data = encoded(Image.fromarray(PIXELS), "PNG")
    session = make(NESTED)
    for _ in range(2):
        for rgb in (True, False):
            (result,) = session.run(None, {"a": data, "c": np.array(rgb)})
            np.testing.assert_array_equal(result, PIXELS if rgb else PIXELS[:, :, ::-1])


def test_unknown_pixel_format() -> None:
    with pytest.raises(
        errors.InvalidGraph, match=r"'node'.*pixel_format 'HSV' is none of RGB, BGR"
    ):
        run_node("ImageDecoder", [np.ones(3, np.uint8)], {"pixel_format": "HSV"})


@pytest.mark.parametrize(
    "text", [NESTED, "g (uint8[N] a) => (uint8[h,w,d] y) { y = ImageDecoder(a) }"]
)
def test_without_pillow_no_session_is_made(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    message = r'(?s)ImageDecoder.*Pillow is not installed: pip install "bascule\[image\]"'
    with pytest.raises(errors.NotImplemented, match=message):
        make(text)
