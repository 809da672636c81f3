"""Claims about reading one picture: exact pixels, what is told of it, and damage of every format."""

from __future__ import annotations

import io
import random
import struct
import zlib
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from PIL import Image

from genkit.errors import DataError
from genkit_images import reading

RANDOM = np.random.RandomState(3)
DEEP = RANDOM.randint(0, 65536, (5, 7, 4))
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "GIF", "TIFF")


def saved(image, form, **options):
    image.save(buffer := io.BytesIO(), form, **options)
    return buffer.getvalue()


def colours(mode="RGB"):
    return Image.fromarray(RANDOM.randint(0, 256, (16, 12, 3)).astype(np.uint8)).convert(mode)


def read(raw, **options):
    image, told = reading.read("it", raw, **options)
    return np.asarray(image), told - {"colour"}


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits, by hand, since Pillow writes few: grey, grey with alpha, RGB or RGBA, values (H, W, C)."""
    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def deep_tiff(values: np.ndarray, order: str = "<", photometric: int | None = None, planes: int = 1) -> bytes:
    """A TIFF of 16 bits, grey or RGB, uncompressed, little- or big-endian."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    meaning = (1 if channels == 1 else 2) if photometric is None else photometric
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, 16 if channels == 1 else 8 + len(data)),
        (259, 3, 1, 1), (262, 3, 1, meaning), (273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, height),
        (279, 4, 1, len(data)), (284, 3, 1, planes),
    ]  # fmt: skip
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + (struct.pack(f"{order}HH", value, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", value))
        for tag, kind, count, value in tags
    )
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(data) + len(bits))
    return head + data + bits + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def deep_ppm(values: np.ndarray, largest: int) -> bytes:
    """A portable map, grey or RGB, of 0 ... largest."""
    height, width, channels = values.shape
    return f"P{5 if channels == 1 else 6}\n{width} {height}\n{largest}\n".encode() + values.astype(">u2").tobytes()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_is_the_upper_byte_whatever_its_channels(channels):
    values = DEEP[..., :channels].copy()
    if channels in (2, 4):
        values[..., -1] = 65535
    pixels, told = read(deep_png(values))
    assert np.array_equal(pixels, np.broadcast_to(values[..., : 1 if channels < 3 else 3] >> 8, (5, 7, 3)))
    assert told == {"cut"}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_16_bits_likewise(channels, order):
    values = DEEP[..., :channels]
    pixels, told = read(deep_tiff(values, order))
    assert np.array_equal(pixels, np.broadcast_to(values >> 8, (5, 7, 3))) and told == {"cut"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("largest", [65535, 4095])
def test_portable_maps_of_more_bits_are_scaled_by_their_largest_value(channels, largest):
    values = DEEP[..., :channels] % (largest + 1)
    pixels, told = read(deep_ppm(values, largest))
    assert np.abs(pixels - values * 255 / largest).max() < 0.51 and told == {"scaled"}


@pytest.mark.parametrize(
    "raw",
    [
        deep_tiff(DEEP[..., :1], photometric=0),  # white is 0
        deep_tiff(DEEP[..., :3], planes=2),
        saved(Image.new("F", (4, 4)), "TIFF"),
        saved(Image.new("I", (4, 4)), "TIFF"),
    ],
)
def test_what_pillow_would_misread_is_refused(raw):
    with pytest.raises(DataError, match=r"neither grey nor RGB of 8 or 16 bits; convert it to a PNG of 8 bits"):
        read(raw)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_lossless_formats_give_the_pixels_that_were_saved(form, mode):
    image = colours(mode)
    if (form, mode) == ("GIF", "RGB"):
        image = image.quantize(200)
    pixels, told = read(saved(image, form))
    assert np.array_equal(pixels, np.asarray(image.convert("RGB"))) and not told


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_too(compression):
    image = colours()
    assert np.array_equal(read(saved(image, "TIFF", compression=compression))[0], np.asarray(image))


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_used_and_told(form):
    exact = {"lossless": True} if form == "WEBP" else {}
    frames = [colours().quantize(64) if form == "GIF" else colours() for _ in range(3)]
    pixels, told = read(saved(frames[0], form, save_all=True, append_images=frames[1:], **exact))
    assert np.array_equal(pixels, np.asarray(frames[0].convert("RGB"))) and told == {"frames"}
    assert not read(saved(frames[0], form, **exact))[1]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_followed_and_told(form):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = colours("L")
    exact = {"lossless": True} if form == "WEBP" else {}
    pixels, told = read(saved(image, form, exif=exif, **exact))
    assert pixels.shape[:2] == image.size and told == {"turned"}
    if form != "JPEG":
        assert np.array_equal(pixels[..., 0], np.rot90(np.asarray(image), -1))
    assert form == "TIFF" or not read(saved(image, form, exif=exif), upright=False)[1]


def test_deep_pictures_are_turned_too():
    exif = Image.Exif()
    exif[0x0112] = 8
    values = DEEP[..., 0].astype(np.uint16)
    pixels, told = read(saved(Image.fromarray(values), "PNG", exif=exif))
    assert np.array_equal(pixels[..., 0], np.rot90(values >> 8)) and told == {"turned", "cut"}


def test_transparency_and_ink_are_told_where_they_matter():
    clear, opaque = (Image.new("RGBA", (4, 4), (200, 100, 50, alpha)) for alpha in (0, 255))
    assert read(saved(clear, "PNG"))[1] == {"clear"} and not read(saved(opaque, "PNG"))[1]
    assert read(saved(colours("CMYK"), "JPEG"))[1] == {"ink"}


# ---- damage --------------------------------------------------------------------------------------


def hurt(raw, chance):
    """Cut, or with some bytes changed, mostly near the beginning."""
    changed = bytearray(raw)
    if chance.random() < 0.25:
        return bytes(changed[: chance.randrange(len(changed))])
    for _ in range(chance.choice((1, 1, 3, 30))):
        changed[chance.randrange(min(len(changed), chance.choice((64, 10**6))))] = chance.randrange(256)
    return bytes(changed)


@contextmanager
def one_line():
    """Gives the messages of errors, each of which has to be a line with a place and a remedy."""
    lines = []
    try:
        yield lines
    except DataError as error:
        lines.append(str(error))
        assert str(error).startswith("it: ") and "\n" not in str(error) and error.hint  # noqa: PT017 - some succeed
        raise


@pytest.mark.parametrize("form", FORMATS)
def test_damage_is_one_line_and_nothing_else_on_stderr(form, capfd):
    chance, told = random.Random(form), 0
    options = {"compression": "tiff_adobe_deflate"} if form == "TIFF" else {}
    whole = saved(colours().quantize(60) if form == "GIF" else colours(), form, **options)
    for _ in range(60):
        with suppress(DataError), one_line() as lines:
            reading.read("it", hurt(whole, chance))
        told += len(lines)
    assert told >= 10 and capfd.readouterr().err == ""


def test_a_bomb_is_told_as_one_before_it_is_unpacked():
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    raw = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    with pytest.raises(DataError, match=r"it: has more than 178,956,970 pixels; scale it down, or remove it"):
        read(b"\x89PNG\r\n\x1a\n" + raw)


@pytest.mark.parametrize(("raw", "says"), [(b"", "it is empty"), (b"hello", "none of PNG, JPEG")])
def test_what_is_no_picture_is_told_apart(raw, says):
    with pytest.raises(DataError, match=says):
        read(raw)


def test_a_file_that_must_not_be_read_is_not_called_broken(tmp_path, monkeypatch):
    def refuse(*ignored, **also):
        raise PermissionError(13, "Permission denied", "it")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); mend its rights"):
        reading.read("it", tmp_path / "a.png")


def test_other_programs_are_never_started():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(DataError, match="no readable picture"):
        read(postscript)
