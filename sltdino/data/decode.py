"""Decode one image file to RGB pixels, or say in a few words why it cannot be."""

import errno
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from sltdino.errors import ResourceError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
"""The only decoders tried, by content. Without this list an EPS called .png starts Ghostscript."""
_PLUGINS = (PngImagePlugin, JpegImagePlugin, BmpImagePlugin, TiffImagePlugin)  # imported, hence registered
MAX_PIXELS = 50_000_000
"""A bigger image is refused before its pixels are read: 150 MB of RGB."""

_MID_GREY = (128, 128, 128)
_ORIENTATION = 0x0112  # EXIF
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class BadImage(Exception):  # noqa: N818  # says what the image is; "Error" adds nothing
    """A file that cannot be used as an image. `reason` is short, plain, and does not repeat the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Picture(NamedTuple):
    """A decoded image, and what its file says it is."""

    pixels_HWC: NDArray[np.uint8]
    """Upright RGB."""
    format: str
    """One of `FORMATS`, by content."""
    mode: str
    """Pillow's name of the stored pixels: RGB, L, P, RGBA, I;16, ..."""


def decode(path: Path, *, at_least: int = 0) -> NDArray[np.uint8]:
    """Read the first frame of a PNG, JPEG, BMP or TIFF as `[H, W, 3]` uint8 RGB, upright.

    Transparency is laid over mid-grey, 16-bit and float pixels are scaled to 8 bits, EXIF orientation is applied.

    Args:
        at_least: when positive, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if both sides stay this long.

    Raises:
        BadImage: not such a file, damaged, cut short, gone, or of more than 50 million pixels.
        ResourceError: the machine is out of memory or file handles; the image is not to blame.
    """
    with quiet():
        return decode_loudly(path, at_least=at_least)


def count_pixels(path: Path, *, at_least: int = 0) -> int:
    """How many pixels `decode` would return, from the header alone. Like `decode_loudly`, to be put inside `quiet`.

    Raises:
        BadImage: the header is bad; the pixels may still turn out to be.
    """
    with _reasons(), _open_regular(path) as file, _open_image(file, at_least) as image:
        return image.width * image.height


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings and log lines off stderr. Not for use in several threads at once: put it around them."""
    logger, handler = logging.getLogger("PIL"), logging.NullHandler()
    logger.addHandler(handler)  # else logging's last resort prints them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        logger.removeHandler(handler)


def decode_loudly(path: Path, *, at_least: int = 0) -> NDArray[np.uint8]:
    """`decode` without `quiet`, for threads that share one."""
    return read_loudly(path, at_least=at_least).pixels_HWC


def read_loudly(path: Path, *, at_least: int = 0) -> Picture:
    """`decode_loudly`, with the format and the mode of the file."""
    with _reasons(), _open_regular(path) as file, _open_image(file, at_least) as image:
        image.load()  # the check: verify() passes truncated files
        kind = "JPEG" if image.format == "MPO" else image.format or ""  # MPO: a JPEG with further ones behind it
        mode = image.mode
        return Picture(_upright(to_rgb(image), _orientation(image)), kind, mode)


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever opening, reading and Pillow raise into a BadImage."""
    try:
        yield
    except (BadImage, ResourceError):
        raise
    except MemoryError as error:
        raise ResourceError("out of memory while decoding an image; use fewer --num-workers") from error
    except UnidentifiedImageError as error:
        raise BadImage("not a PNG, JPEG, BMP or TIFF file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"more than {MAX_PIXELS:,} pixels") from error
    except OSError as error:
        if error.errno in _OUT_OF_RESOURCES:
            raise ResourceError(f"cannot open images: {error.strerror}; use fewer --num-workers") from error
        raise BadImage(_plain(error.strerror or str(error))) from error
    except Exception as error:  # hostile files raise anything from Pillow: struct.error, KeyError, TypeError, ...
        raise BadImage(_plain(f"damaged ({type(error).__name__}: {error})")) from error


def _plain(reason: str) -> str:
    return " ".join(reason.split())[:200]


def _open_regular(path: Path) -> BinaryIO:
    # O_NONBLOCK: a FIFO that took the file's place since the scan must not block, and is refused
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadImage("not a regular file")
    return os.fdopen(descriptor, "rb")


def _open_image(file: BinaryIO, at_least: int) -> Image.Image:
    if not file.peek(1):  # type: ignore[attr-defined]  # a BufferedReader
        raise BadImage("empty file")
    image = Image.open(file, formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
    if at_least > 0 and image.format in ("JPEG", "MPO"):
        image.draft(None, (at_least, at_least))
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 when there is none or the EXIF block cannot be read, which leaves the pixels fine."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises a dozen kinds on damaged EXIF
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation. 2 to 4 mirror or turn by 180 degrees; 5 to 8 also swap the axes."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    mirrored, flipped = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return np.ascontiguousarray(pixels[:: -1 if flipped else 1, :: -1 if mirrored else 1])


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an opened picture of any mode as `[H, W, 3]` uint8 RGB, without regard to its EXIF orientation.

    Raises:
        BadImage: grey pixels of no known range.
    """
    mode, transparent = image.mode, image.info.get("transparency")
    if mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        pixels = _scaled(values, 65535, "32-bit integer pixels beyond 16 bits")
        if transparent is not None:
            pixels[values == transparent] = _MID_GREY
        return pixels
    if mode == "F":
        return _scaled(np.asarray(image).astype(np.float64), 1, "float pixels outside 0..1")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or transparent is not None:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", image.size, _MID_GREY)
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return np.array(flat)
    return np.array(image if mode == "RGB" else image.convert("RGB"))


def _scaled(values: NDArray[Any], white: float, otherwise: str) -> NDArray[np.uint8]:
    """Grey pixels of range 0..white as 8-bit RGB; numbers of no known range are refused rather than saturated."""
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= white):
        raise BadImage(otherwise)
    grey = np.rint(values * (255 / white)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
