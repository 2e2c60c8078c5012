"""Every kind of image file becomes the right RGB pixels, or a BadImage with a plain reason."""

import io
import os
import socket
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sltdino.data import decode as decode_module
from sltdino.data.decode import BadImage, count_pixels, decode


@pytest.fixture
def colours() -> np.ndarray:
    """`[20, 30, 3]` smooth colours, different along both axes."""
    y, x = np.mgrid[0:20, 0:30]
    return np.stack((x * 8, y * 12, 255 - x * 4 - y * 4), axis=-1).astype(np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def png(path: Path, width: int, height: int, bit_depth: int, colour_type: int, rows: bytes, extra: bytes = b"") -> Path:
    """A PNG written by hand: Pillow cannot write 16-bit RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_lossless_rgb_is_kept(suffix: str, colours: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(colours))
    np.testing.assert_array_equal(decode(path), colours)
    assert decode(path).flags.writeable  # torch warns about the others


def test_the_content_decides_and_not_the_name(colours: np.ndarray, tmp_path: Path) -> None:
    saved(tmp_path / "a.png", Image.fromarray(colours)).rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(decode(tmp_path / "a.jpg"), colours)


def test_jpeg_grey_and_rgb(colours: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(colours), quality=95, subsampling=0)
    assert np.abs(decode(path).astype(int) - colours).max() < 12
    grey = Image.fromarray(colours[:, :, 0])
    pixels = decode(saved(tmp_path / "b.jpg", grey, quality=95)).astype(int)
    assert pixels.shape == (20, 30, 3)
    assert np.abs(pixels - colours[:, :, :1]).max() < 8


def test_cmyk_jpeg(colours: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(colours).convert("CMYK"), quality=98, subsampling=0)
    assert np.abs(decode(path).astype(int) - colours).mean() < 4


def test_16_bit_grey_is_scaled_and_not_saturated(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    for name in ("a.png", "a.tiff"):
        pixels = decode(saved(tmp_path / name, Image.fromarray(values)))
        for channel in range(3):
            np.testing.assert_array_equal(pixels[:, :, channel], expected)


def test_big_endian_16_bit_tiff(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    image = Image.frombytes("I;16B", (30, 20), values.astype(">u2").tobytes())
    pixels = decode(saved(tmp_path / "a.tiff", image))
    np.testing.assert_array_equal(pixels[:, :, 0], np.rint(values / 257))


def test_16_bit_rgb_and_alpha_are_scaled(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    pixels = decode(png(tmp_path / "a.png", 30, 20, 16, 2, rows))
    assert np.abs(pixels - values / 257).max() <= 1
    grey = np.stack((values[:, :, 0], np.full((20, 30), 65535, np.uint16)), axis=-1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    pixels = decode(png(tmp_path / "b.png", 30, 20, 16, 4, rows))
    assert np.abs(pixels[:, :, 0] - grey[:, :, 0] / 257).max() <= 1


def test_16_bit_grey_with_a_transparent_value(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    transparent = b"tRNS" + struct.pack(">H", int(values[3, 4]))
    extra = struct.pack(">I", 2) + transparent + struct.pack(">I", zlib.crc32(transparent))
    expected = np.rint(values / 257)
    expected[3, 4] = 128
    np.testing.assert_array_equal(decode(png(tmp_path / "a.png", 30, 20, 16, 0, rows, extra))[:, :, 1], expected)


def test_float_tiff_in_0_to_1_is_scaled_and_others_are_refused(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    pixels = decode(saved(tmp_path / "a.tiff", Image.fromarray(values)))
    np.testing.assert_array_equal(pixels[:, :, 1], np.rint(values * 255))
    for name, wrong in (("b.tiff", values * 255), ("c.tiff", values - 0.5), ("d.tiff", values + np.inf)):
        with pytest.raises(BadImage, match=r"outside 0\.\.1"):
            decode(saved(tmp_path / name, Image.fromarray(wrong.astype(np.float32))))


def test_32_bit_integers_without_a_known_range_are_refused(tmp_path: Path) -> None:
    values = np.full((4, 4), 70_000, np.int32)
    with pytest.raises(BadImage, match="32-bit"):
        decode(saved(tmp_path / "a.tiff", Image.fromarray(values)))


def test_alpha_lies_over_mid_grey(colours: np.ndarray, tmp_path: Path) -> None:
    alpha = np.linspace(0, 255, 600).reshape(20, 30, 1).astype(np.uint8)
    expected = np.rint(colours * (alpha / 255) + 128 * (1 - alpha / 255))
    pixels = decode(saved(tmp_path / "a.png", Image.fromarray(np.concatenate((colours, alpha), axis=2))))
    assert np.abs(pixels - expected).max() <= 1
    pixels = decode(saved(tmp_path / "b.png", Image.fromarray(np.concatenate((colours[:, :, :1], alpha), axis=2))))
    assert np.abs(pixels - expected[:, :, :1]).max() <= 1


def test_a_palette_is_looked_up_and_its_transparency_laid_over_grey(tmp_path: Path) -> None:
    image = Image.frombytes("P", (30, 20), bytes(number % 4 for number in range(600)))
    palette = [[10, 20, 30], [200, 100, 50], [0, 255, 0], [255, 255, 255]]
    image.putpalette(np.ravel(palette).tolist())
    wanted = np.array(palette)[np.asarray(image)]
    np.testing.assert_array_equal(decode(saved(tmp_path / "a.png", image)), wanted)
    wanted[np.asarray(image) == 2] = 128
    np.testing.assert_array_equal(decode(saved(tmp_path / "b.png", image, transparency=2)), wanted)
    several = saved(tmp_path / "c.png", image, transparency=bytes([255, 255, 0, 255]))
    np.testing.assert_array_equal(decode(several), wanted)


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp"])
def test_1_bit_is_black_and_white(suffix: str, tmp_path: Path) -> None:
    bits = np.random.default_rng(1).random((20, 30)) > 0.5
    pixels = decode(saved(tmp_path / f"a.{suffix}", Image.fromarray(bits)))
    np.testing.assert_array_equal(pixels, np.repeat(bits[:, :, None] * np.uint8(255), 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(suffix: str, orientation: int, colours: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(colours), exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert upright.shape[:2] == ((30, 20) if orientation >= 5 else (20, 30))
    np.testing.assert_array_equal(decode(path), upright)


def test_damaged_exif_leaves_the_picture(colours: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(colours), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(path), colours)


def test_lab_is_converted(tmp_path: Path) -> None:
    pixels = decode(saved(tmp_path / "a.tiff", Image.new("LAB", (4, 4), (255, 128, 128))))
    assert pixels.min() > 250


def test_the_first_frame_is_taken(colours: np.ndarray, tmp_path: Path) -> None:
    frames = [Image.fromarray(colours), Image.fromarray(255 - colours)]
    for name in ("a.tiff", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(decode(tmp_path / name), colours)


def test_a_large_jpeg_is_decoded_smaller_but_large_enough(tmp_path: Path) -> None:
    y, x = np.mgrid[0:600, 0:900]
    picture = np.stack((x / 4, y / 3, (x + y) / 8), axis=-1).astype(np.uint8)
    path = saved(tmp_path / "a.jpg", Image.fromarray(picture), quality=95)
    assert decode(path).shape == (600, 900, 3)
    small = decode(path, at_least=150)
    assert small.shape == (150, 225, 3)
    assert count_pixels(path, at_least=150) == 150 * 225
    averaged = picture.reshape(150, 4, 225, 4, 3).mean((1, 3))
    assert np.abs(small - averaged).max() < 6
    assert decode(path, at_least=700).shape == (600, 900, 3)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("jpg", {}),
        ("jpg", {"progressive": True}),
        ("png", {}),
        ("bmp", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("tiff", {"compression": "tiff_deflate"}),
    ],
)
def test_a_truncated_file_is_bad(
    suffix: str, options: dict[str, object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    whole = saved(tmp_path / f"a.{suffix}", Image.fromarray(noise), **options).read_bytes()
    for share in (0.3, 0.9):
        path = tmp_path / f"cut{share}.{suffix}"
        path.write_bytes(whole[: int(share * len(whole))])
        for at_least in (0, 50):
            with pytest.raises(BadImage) as caught:
                decode(path, at_least=at_least)
            assert 0 < len(caught.value.reason) <= 200
            assert str(tmp_path) not in caught.value.reason
    streams = capfd.readouterr()
    assert streams.out + streams.err == ""


def test_a_flipped_byte_in_a_png_is_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    data = bytearray(saved(tmp_path / "a.png", Image.fromarray(noise)).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "b.png").write_bytes(data)
    with pytest.raises(BadImage):
        decode(tmp_path / "b.png")


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        b"RIFF\x24\0\0\0WEBPVP8 ",
        b"\0" * 100,
        b"P6 2 2 255\n" + b"\0" * 12,
    ],
    ids=["eps", "webp", "zeros", "ppm"],
)
def test_other_formats_are_bad_whatever_their_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadImage, match="not a PNG, JPEG, BMP or TIFF file"):
        decode(tmp_path / "a.png")


def test_a_gif_called_png_is_bad(colours: np.ndarray, tmp_path: Path) -> None:
    saved(tmp_path / "a.gif", Image.fromarray(colours)).rename(tmp_path / "a.png")
    with pytest.raises(BadImage, match="not a PNG, JPEG, BMP or TIFF file"):
        decode(tmp_path / "a.png")


def test_an_eps_never_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: started.append(args))
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(BadImage):
        decode(tmp_path / "a.png")
    assert started == []


@pytest.mark.parametrize(("width", "height"), [(60_000, 1_000), (9_500, 9_500), (30_000, 30_000)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int, tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", width, height, 8, 0, b"\0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadImage, match=r"more than 50,000,000 pixels"):
            decode(path)
        with pytest.raises(BadImage, match=r"more than 50,000,000 pixels"):
            count_pixels(path)


def test_missing_empty_folder_and_special_files_are_bad(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="No such file"):
        decode(tmp_path / "gone.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(BadImage, match="empty file"):
        decode(tmp_path / "empty.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(BadImage, match="not a regular file"):
        decode(tmp_path / "folder.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadImage, match="not a regular file"):
        decode(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s.png"))
        with pytest.raises(BadImage):
            decode(tmp_path / "s.png")


def test_hostile_bytes_never_raise_anything_else(
    colours: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(4)
    path = tmp_path / "fuzz"
    num_bad = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("PNG", "JPEG", "BMP", "TIFF"):
            buffer = io.BytesIO()
            Image.fromarray(colours).save(buffer, kind)
            for _ in range(60):
                data = bytearray(buffer.getvalue())
                for place in rng.integers(0, min(len(data), 300), 4):
                    data[place] = rng.integers(0, 256)
                path.write_bytes(data)
                try:
                    assert decode(path).shape[2] == 3
                except BadImage:
                    num_bad += 1
    assert num_bad > 50
    streams = capfd.readouterr()
    assert streams.out + streams.err == ""


def test_running_out_of_file_handles_is_not_the_image_s_fault(
    colours: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(colours))

    def no_handles(*args: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(decode_module.os, "open", no_handles)
    with pytest.raises(decode_module.ResourceError, match="Too many open files"):
        decode(path)
