"""From image files to the network's input: what decodes to what, and that the rest is refused in one line."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from grafiqs.errors import UnreadableSampleError
from grafiqs.faces.template import SIZE
from grafiqs.images import decoding
from grafiqs.images.decoding import decode
from grafiqs.images.preprocessing import IMAGENET, Preprocessing
from grafiqs.images.tensors import normalise, read, resized
from support.making import picture

# The decoder warns of broken metadata; the command line keeps that quiet, and so do these tests.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

Pixels = NDArray[np.uint8]


def encoded(pixels: Pixels | Image.Image, kind: str, **settings: Any) -> bytes:
    """The bytes of an image file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG file written by hand: `rows` are the scan lines, each after its filter byte."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def tiff(width: int, height: int, data: bytes) -> bytes:
    """An 8-bit grey TIFF file written by hand."""
    tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, len(data)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """A JPEG file with an EXIF segment, whatever that holds."""
    segment = b"Exif\0\0" + exif
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def reason(data: bytes) -> str:
    """Why the data cannot be decoded."""
    with pytest.raises(UnreadableSampleError) as caught:
        decode(data)
    return str(caught.value)


# -- decoding ----------------------------------------------------------------------------------------------

TRANSPARENCY = png_chunk(b"tRNS", bytes((0, 128)))

PNGS: dict[str, tuple[bytes, list[list[int]]]] = {
    "1 bit grey": (png(2, 1, 1, 0, b"\0\x40"), [[0, 0, 0], [255, 255, 255]]),
    "2 bit grey": (png(2, 1, 2, 0, b"\0\x60"), [[85, 85, 85], [170, 170, 170]]),
    "4 bit grey": (png(2, 1, 4, 0, b"\0\x1e"), [[17, 17, 17], [238, 238, 238]]),
    "8 bit grey": (png(2, 1, 8, 0, b"\0\x07\xf0"), [[7, 7, 7], [240, 240, 240]]),
    "8 bit grey with a transparent level": (
        png(2, 1, 8, 0, b"\0\x07\xf0", png_chunk(b"tRNS", b"\0\x07")),
        [[7, 7, 7], [240, 240, 240]],
    ),
    "16 bit grey": (png(2, 1, 16, 0, b"\0\x12\xff\xab\x00"), [[18, 18, 18], [171, 171, 171]]),
    "16 bit grey with a transparent level": (
        png(2, 1, 16, 0, b"\0\x12\xff\xab\x00", png_chunk(b"tRNS", b"\x12\xff")),
        [[18, 18, 18], [171, 171, 171]],
    ),
    "8 bit grey and alpha": (png(2, 1, 8, 4, b"\0\x07\x00\xf0\x80"), [[7, 7, 7], [240, 240, 240]]),
    "16 bit grey and alpha": (
        png(2, 1, 16, 4, b"\0\x12\xff\x00\x00\xab\x00\x80\x00"),
        [[18, 18, 18], [171, 171, 171]],
    ),
    "8 bit colour": (png(2, 1, 8, 2, b"\0\x01\x02\x03\xfd\xfe\xff"), [[1, 2, 3], [253, 254, 255]]),
    "8 bit colour with a transparent one": (
        png(2, 1, 8, 2, b"\0\x01\x02\x03\xfd\xfe\xff", png_chunk(b"tRNS", b"\0\x01\0\x02\0\x03")),
        [[1, 2, 3], [253, 254, 255]],
    ),
    "16 bit colour": (
        png(2, 1, 16, 2, b"\0\x01\xff\x02\x80\x03\x00\xfd\xff\xfe\x80\xff\x00"),
        [[1, 2, 3], [253, 254, 255]],
    ),
    "8 bit colour and alpha": (
        png(2, 1, 8, 6, b"\0\x01\x02\x03\x00\xfd\xfe\xff\x80"),
        [[1, 2, 3], [253, 254, 255]],
    ),
    "16 bit colour and alpha": (
        png(2, 1, 16, 6, b"\0\x01\xff\x02\x80\x03\x00\x00\x00\xfd\xff\xfe\x80\xff\x00\x80\x00"),
        [[1, 2, 3], [253, 254, 255]],
    ),
    "a palette": (
        png(2, 1, 8, 3, b"\0\x00\x01", png_chunk(b"PLTE", b"\x01\x02\x03\xfd\xfe\xff")),
        [[1, 2, 3], [253, 254, 255]],
    ),
    "a palette with transparency": (
        png(2, 1, 8, 3, b"\0\x00\x01", png_chunk(b"PLTE", b"\x01\x02\x03\xfd\xfe\xff"), TRANSPARENCY),
        [[1, 2, 3], [253, 254, 255]],
    ),
}
"""PNG files of two pixels, and the colours they are to give."""


@pytest.mark.parametrize("kind", PNGS)
def test_png_of_every_kind(kind: str) -> None:
    data, expected = PNGS[kind]
    found = decode(data)
    assert found.dtype == np.uint8
    assert found.tolist() == [expected]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_a_lossless_file_gives_its_pixels(kind: str) -> None:
    pixels = picture(1, (40, 50))
    how = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode(encoded(pixels, kind, **how)), pixels)


@pytest.mark.parametrize(("kind", "tolerance"), [("JPEG", 3), ("WEBP", 3), ("AVIF", 3)])
def test_a_lossy_file_gives_about_its_pixels(kind: str, tolerance: float) -> None:
    pixels = picture(1, (64, 80))
    found = decode(encoded(pixels, kind, quality=100))
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - pixels.astype(int)).mean() < tolerance


@pytest.mark.parametrize(
    ("kind", "order"), [("PNG", "<"), ("PPM", "<"), ("JPEG2000", "<"), ("TIFF", "<"), ("TIFF", ">")]
)
def test_sixteen_bit_grey_keeps_the_upper_eight(kind: str, order: str) -> None:
    levels = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    found = decode(encoded(Image.fromarray(levels.astype(f"{order}u2")), kind))
    assert np.array_equal(found, np.stack([levels >> 8] * 3, axis=2))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP", "AVIF", "JPEG2000"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    grey = picture(2, (40, 50))[:, :, 0]
    found = decode(encoded(grey, kind))
    assert found.shape == (40, 50, 3)
    spread = 0 if kind not in ("WEBP", "AVIF") else 2  # these hold colour only
    assert int(np.ptp(found.astype(int), axis=2).max()) <= spread


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG2000"])
def test_alpha_is_dropped_and_what_it_hides_stays(kind: str) -> None:
    colours = picture(3, (8, 9))
    alpha = np.arange(72, dtype=np.uint8).reshape(8, 9, 1)
    how = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(decode(encoded(np.concatenate([colours, alpha], axis=2), kind, **how)), colours)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    bits = np.arange(63).reshape(7, 9) % 3 == 0
    found = decode(encoded(Image.fromarray(bits), kind))
    assert np.array_equal(found, np.stack([bits * np.uint8(255)] * 3, axis=2))


@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 128, 0), (0, 0, 0, 255), (30, 90, 200, 40)])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_without_a_profile(kind: str, ink: tuple[int, int, int, int]) -> None:
    how = {"quality": 100} if kind == "JPEG" else {}
    found = decode(encoded(Image.new("CMYK", (16, 16), ink), kind, **how))
    *colours, black = ink
    expected = [(255 - colour) * (255 - black) / 255 for colour in colours]
    assert np.abs(found - np.array(expected)).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    how = {"lossless": True} if kind == "WEBP" else {}
    found = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **how))
    assert np.abs(found.astype(int) - (255, 0, 0)).max() <= 2


UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
"""How the stored pixels of each EXIF orientation are turned to stand upright."""


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_exif_orientation_is_turned_upright(kind: str, orientation: int) -> None:
    pixels = picture(4, (40, 56))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(pixels, kind, exif=exif))
    assert np.array_equal(found, UPRIGHT[orientation](decode(encoded(pixels, kind))))


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_exif_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode(encoded(picture(4), "PNG", exif=exif)), picture(4))


BROKEN_EXIF = {
    "empty": b"",
    "no EXIF": b"garbage",
    "a table beyond the end": b"II*\0\xff\xff\xff\xff",
    "half a table": b"MM\0*\0\0\0\x08\0\x09\x01\x12",
    "a value beyond the end": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\xff\0\0\0\0",
    "an orientation that is text": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",
    "an orientation of raw bytes": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x07\0\0\0\x04abcd\0\0\0\0",
    "an orientation that is 0/0": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05\0\0\0\x01\0\0\0\x1a\0\0\0\0" + bytes(8),
    "an orientation that is no number": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x0b\0\0\0\x01\x7f\xc0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("kind", BROKEN_EXIF)
def test_broken_exif_data_do_not_spoil_the_picture(kind: str) -> None:
    jpeg = encoded(picture(5), "JPEG")
    assert np.array_equal(decode(with_exif(jpeg, BROKEN_EXIF[kind])), decode(jpeg))


# -- what is refused ---------------------------------------------------------------------------------------


def test_no_data_at_all() -> None:
    assert reason(b"") == "the file is empty"


@pytest.mark.parametrize(
    "data",
    [
        b"hello, I am no image\n" * 50,
        bytes(1000),
        *(encoded(picture(6), kind) for kind in ("EPS", "ICO", "TGA", "PCX")),
    ],
    ids=["text", "zeros", "EPS", "ICO", "TGA", "PCX"],
)
def test_what_is_no_image_of_a_known_format(data: bytes) -> None:
    assert reason(data) == "not an image in a known format"


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 3\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (LFS, "a pointer to a file that Git LFS has not fetched: fetch the file itself (git lfs pull)"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "HEIC, which is not read here: convert it"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(500), "HEIC, which is not read here: convert it"),
        (b"\xff\x0a" + bytes(50), "JPEG XL, which is not read here: convert it"),
        (b"\n<!DOCTYPE html>\n<title>404</title>", "a web page instead of the image: download it again"),
        (
            b"../.git/annex/objects/Gj/x.jpg\n",
            "a pointer to a file that git-annex has not fetched: fetch the file itself (git annex get)",
        ),
        (encoded(picture(6), "PDF"), "a PDF, not an image"),
    ],
)
def test_what_was_taken_for_an_image_is_named(data: bytes, said: str) -> None:
    assert reason(data) == said


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_32_bits_are_refused(mode: str) -> None:
    assert reason(encoded(Image.new(mode, (4, 4)), "TIFF")) == "32-bit pixels have no known range"


def gif_header(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\x02\x02L\x01\0;"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + frame


def bmp_header(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def jpeg_header(width: int, height: int) -> bytes:
    jpeg = encoded(picture(7, (64, 64)), "JPEG")
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + struct.pack(">HH", height, width) + jpeg[start + 4 :]


def webp_header(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + b"VP8 " + bytes(4)


BOMBS: dict[str, Callable[[int, int], bytes]] = {
    "PNG": lambda width, height: png(width, height, 8, 2, bytes(10)),
    "BMP": bmp_header,
    "GIF": gif_header,
    "JPEG": jpeg_header,
    "TIFF": lambda width, height: tiff(width, height, bytes(100)),
    "WEBP": webp_header,
    "PPM": lambda width, height: f"P6 {width} {height} 255\n".encode(),
    "PGM": lambda width, height: f"P5 {width} {height} 65535\n".encode(),
}
"""Small files that claim a size."""


@pytest.mark.parametrize("size", [(32_000, 32_000), (10_000, 9_000)], ids=["a billion", "90 million"])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_picture_of_too_many_pixels_is_refused_before_it_takes_memory(kind: str, size: tuple[int, int]) -> None:
    data = BOMBS[kind](*size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = reason(data)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "pixels" in said or (kind == "WEBP" and "cannot be decoded" in said)  # WEBP looks at the pixels first
    assert (after - before) * 1024 < 64_000_000  # decoded, the smaller size alone takes 270 MB


def test_the_largest_picture_that_is_allowed() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "MAX_PIXELS", 12)
        assert decode(png(4, 3, 8, 0, (b"\0" + bytes(4)) * 3)).shape == (3, 4, 3)
        assert reason(png(13, 1, 8, 0, bytes(14))) == "13x1 pixels are more than 12"


def small_files() -> dict[str, bytes]:
    pixels = picture(8, (16, 20))
    return {
        **{kind: encoded(pixels, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM")},
        "progressive JPEG": encoded(pixels, "JPEG", progressive=True),
        "CMYK JPEG": encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG"),
        "lossless WEBP": encoded(pixels, "WEBP", lossless=True),
        "LZW TIFF": encoded(pixels, "TIFF", compression="tiff_lzw"),
        "palette PNG": encoded(Image.fromarray(pixels).quantize(16), "PNG"),
        "16 bit PNG": encoded(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257), "PNG"),
        "EXIF JPEG": with_exif(encoded(pixels, "JPEG"), b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\1\0\6\0\0\0\0\0\0"),
        "JPEG 2000": encoded(pixels, "JPEG2000"),
        "JPEG 2000 stream": encoded(pixels, "JPEG2000", no_jp2=True),
    }


FILES = small_files()


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_off_anywhere_is_refused_or_lacks_nothing(kind: str) -> None:
    """Never half a picture: some formats end with bytes that hold no pixels, and only those may be missing."""
    data = FILES[kind]
    whole = decode(data)
    for length in range(len(data)):
        found = outcome(data[:length])
        complete = isinstance(found, str) or np.array_equal(found, whole)
        assert complete, f"the first {length} of {len(data)} bytes give another picture"


COMPRESSED = [
    *((mode, kind) for mode in ("RGB", "L", "1") for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma")),
    *(("1", kind) for kind in ("tiff_ccitt", "group3", "group4")),
    ("RGB", "zstd"),
]
"""Modes and compressions of TIFF files, of which libtiff reads all."""


def compressed(mode: str, kind: str, size: tuple[int, int] = (64, 80)) -> bytes:
    """A TIFF file, if Pillow can write such a one."""
    image = Image.fromarray(picture(3, size)).convert(mode)
    try:
        return encoded(image, "TIFF", compression=kind)
    except OSError:
        pytest.skip(f"this Pillow writes no {kind}")


@pytest.mark.parametrize(("mode", "kind"), COMPRESSED)
def test_a_compressed_tiff_gives_its_pixels(mode: str, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    image = Image.fromarray(picture(3, (64, 80))).convert(mode)
    assert np.array_equal(decode(compressed(mode, kind)), np.array(image.convert("RGB")))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("mode", "kind"), COMPRESSED)
def test_libtiff_says_nothing_to_the_terminal(mode: str, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = compressed(mode, kind)
    for place in range(0, len(data), max(1, len(data) // 150)):
        outcome(data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["tiff_ccitt", "group4", "lzma"])
def test_what_libtiff_finds_damaged_is_refused(kind: str) -> None:
    """It decodes such pictures to their end all the same, and to others than they were."""
    data = compressed("1", kind, (112, 112))
    with Image.open(io.BytesIO(data)) as image:
        (start,), (size,) = image.tag_v2[273], image.tag_v2[279]  # type: ignore[attr-defined]
    places = range(start, start + size, 7)
    found = [outcome(data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :]) for place in places]
    refused = [said for said in found if isinstance(said, str)]
    assert len(refused) > 0.5 * len(found)
    assert any(said.startswith("its compressed data are damaged (") for said in refused)


def test_damage_in_one_thread_is_told_there_and_nowhere_else(capfd: pytest.CaptureFixture[str]) -> None:
    whole = compressed("1", "group4", (400, 500))
    broken = whole[:200] + bytes(20) + whole[220:]
    expected = decode(whole)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(outcome, [whole, broken] * 40))
    assert all(np.array_equal(pixels, expected) for pixels in found[::2])
    assert set(map(str, found[1::2])) == {"its compressed data are damaged (Fax4Decode)"}
    assert capfd.readouterr() == ("", "")


def test_who_does_not_ask_for_it_has_libtiff_on_the_terminal_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    whole = compressed("1", "group4", (400, 500))
    decode(whole)
    Image.open(io.BytesIO(whole[:200] + bytes(20) + whole[220:])).load()
    assert capfd.readouterr().err.startswith("Fax4Decode: ")


def test_a_tag_that_is_broken_does_not_spoil_a_tiff(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff complains of the tag, and decodes the picture."""
    data = compressed("RGB", "tiff_lzw")
    place = data.rindex(struct.pack("<HHI", 277, 3, 1)) + 12  # what follows SamplesPerPixel
    tag = struct.unpack_from("<H", data, place)
    assert tag == (278,)
    broken = data[:place] + struct.pack("<H", 0) + data[place + 2 :]
    assert np.array_equal(decode(broken), decode(data))
    assert capfd.readouterr() == ("", "")


PLAIN = {
    "P2": b"P2\n3 2\n255\n1 22 133\n4 5 116",
    "P2 of 16 bits": b"P2 3 2 65535\r\n1 22 133\r\n4 5 11600",
    "P3": b"P3 2 1 255\n# made by hand\n1 22 133 4 5 116",
}
"""Text pictures, but for the space behind their last number."""


@pytest.mark.parametrize("kind", PLAIN)
def test_a_text_picture_that_is_cut_in_its_last_number_is_refused(kind: str) -> None:
    data = PLAIN[kind]
    for end in (b"\n", b" ", b"\t\r\n", b" # a comment, 2", b"# a comment, 2"):
        assert np.array_equal(decode(data + end), decode(data + b"\n"))
    for length in range(1, 20):
        assert isinstance(outcome(data[:-length]), str)
    assert reason(data).startswith("nobody can tell whether it is cut off: no space or line break ends its last number")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_of_a_text_picture_of_bits_every_one_is_a_number(end: bytes) -> None:
    assert decode(b"P1 3 1\n101" + end)[0, :, 0].tolist() == [0, 255, 0]
    assert isinstance(outcome(b"P1 3 1\n10" + end), str)


@pytest.mark.parametrize(
    "kind", ["PNG", "palette PNG", "16 bit PNG", "JPEG", "progressive JPEG", "CMYK JPEG", "EXIF JPEG"]
)
@pytest.mark.parametrize("more", [0, 50_000])
def test_a_file_whose_end_is_filled_with_zeros_is_refused(kind: str, more: int) -> None:
    """As an interrupted download or a power failure leaves it; the decoders take zeros for pixels."""
    data = FILES[kind]
    whole = decode(data)
    for length in range(len(data) // 2, len(data) - 20, 5):
        found = outcome(data[:length] + bytes(len(data) - length + more))
        assert isinstance(found, str) or np.array_equal(found, whole)
    assert np.array_equal(decode(data + bytes(more)), whole)


def test_the_end_of_the_small_picture_in_a_jpeg_is_not_its_own() -> None:
    small = encoded(picture(5, (16, 16)), "JPEG")
    data = with_exif(encoded(picture(8, (48, 48)), "JPEG"), b"MM\0*\0\0\0\x08\0\0\0\0\0\0" + small)
    data = data[:2] + b"\xff" + data[2:]  # markers may have more of these before them
    assert decode(data).shape == (48, 48, 3)
    place = data.rindex(b"\xff\xda") + 40
    assert "truncated" in reason(data[:place] + bytes(50_000))


def outcome(data: bytes) -> Pixels | str:
    """The picture, or why there is none."""
    try:
        return decode(data)
    except UnreadableSampleError as error:
        return str(error)


def decodes_or_says_why(data: bytes) -> None:
    """Either a picture, which can be resized, or a reason in one line; nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "MAX_PIXELS", 300_000)  # so that no claimed size takes seconds
        found = outcome(data)
    if isinstance(found, str):
        assert len(found.splitlines()) == 1
    else:
        assert found.dtype == np.uint8
        assert found.ndim == 3
        assert found.shape[2] == 3
        assert resized(found).shape == (3, SIZE, SIZE)


fuzz = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])

MAGIC = [data[:length] for data in FILES.values() for length in (4, 16, 40, 160)]


@settings(fuzz, max_examples=300)
@given(start=st.sampled_from([b"", *MAGIC]), rest=st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused(start: bytes, rest: bytes) -> None:
    decodes_or_says_why(start + rest)


@settings(fuzz, max_examples=1000)
@given(
    kind=st.sampled_from(sorted(FILES)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_decode_or_are_refused(kind: str, flips: list[tuple[float, int]], kept: float) -> None:
    data = bytearray(FILES[kind])
    for place, mask in flips:
        data[int(place**2 * len(data))] ^= mask  # squared: headers break in more ways than pixels
    decodes_or_says_why(bytes(data[: round(kept * len(data))]))


# -- resizing and normalising ------------------------------------------------------------------------------

SIZES = [(1, 1), (1, 5000), (5000, 1), (2, 3), (111, 113), (112, 113), (113, 112), (224, 224), (250, 250), (3000, 20)]


def noise(size: tuple[int, int]) -> Pixels:
    return np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    pixels = noise((SIZE, SIZE))
    found = resized(pixels)
    assert found.is_contiguous()
    assert np.array_equal(found.numpy(), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_resizing_is_bilinear_antialiased_in_uint8(size: tuple[int, int]) -> None:
    pixels = noise(size)
    found = resized(pixels)
    assert found.dtype == torch.uint8
    assert found.shape == (3, SIZE, SIZE)
    assert found.is_contiguous()
    planes = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()[None]  # channels first; `resized` reads them last
    expected = torch.nn.functional.interpolate(planes, (SIZE, SIZE), mode="bilinear", antialias=True)[0]
    assert torch.equal(found, expected)
    exact = torch.nn.functional.interpolate(planes.double(), (SIZE, SIZE), mode="bilinear", antialias=True)[0]
    assert float((found - exact).abs().max()) < 1.01  # two passes, each rounded


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_picture_of_one_colour_stays_as_it_is(size: tuple[int, int], level: int) -> None:
    assert bool((resized(np.full((*size, 3), level, dtype=np.uint8)) == level).all())


def test_resizing_keeps_rows_columns_and_colours_in_their_places() -> None:
    pixels = np.zeros((200, 300, 3), dtype=np.uint8)
    pixels[100:, :, 0] = 255
    pixels[:, 150:, 1] = 255
    pixels[:, :, 2] = 128
    found = resized(pixels)
    assert found[:, 10, 10].tolist() == [0, 0, 128]
    assert found[:, -10, 10].tolist() == [255, 0, 128]
    assert found[:, 10, -10].tolist() == [0, 255, 128]


def every_level() -> torch.Tensor:
    """Two images that hold every level in every channel, each channel in an order of its own."""
    levels = torch.arange(2 * 3 * SIZE * SIZE).mul(167) % 256
    return levels.to(torch.uint8).reshape(2, 3, SIZE, SIZE)


@pytest.mark.parametrize(("dtype", "number"), [(torch.float32, np.float32), (torch.float64, np.float64)])
def test_normalising_is_exact(dtype: torch.dtype, number: type[np.floating[Any]]) -> None:
    batch = every_level()
    found = normalise(batch, dtype=dtype)
    assert found.dtype == dtype
    expected = (batch.numpy().astype(number) / number(255) - number(0.5)) / number(0.5)
    assert np.array_equal(found.numpy(), expected)
    assert float(found.min()) == -1
    assert float(found.max()) == 1
    assert torch.equal(batch, every_level())


def test_every_channel_has_a_mean_and_a_standard_deviation_of_its_own() -> None:
    batch = every_level()
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))
    found = normalise(batch, IMAGENET, torch.float64)
    np.testing.assert_allclose(found.numpy(), (batch.numpy() / 255 - mean) / std, rtol=0, atol=1e-15)
    torch.testing.assert_close(normalise(batch, IMAGENET).double(), found, rtol=0, atol=1e-6)


def test_bgr_swaps_the_first_and_last_channel() -> None:
    batch = every_level()
    assert torch.equal(normalise(batch, Preprocessing("bgr")), normalise(batch)[:, [2, 1, 0]])
    assert torch.equal(normalise(batch, Preprocessing("rgb")), normalise(batch))


# -- reading -----------------------------------------------------------------------------------------------


def test_reading_decodes_and_resizes() -> None:
    data = encoded(picture(9, (50, 60)), "PNG")
    assert torch.equal(read(data), resized(picture(9, (50, 60))))
