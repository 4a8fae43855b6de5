"""What is said of images that can be read: of one colour, of fewer bits than 16, crops already."""

from __future__ import annotations

import io
import pickle
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from grafiqs.errors import UnreadableSampleError
from grafiqs.faces.face import Face
from grafiqs.images.decoding import Picture, decode
from grafiqs.images.decoding import picture as decoded
from grafiqs.images.remarks import Remark, Remarks, UnalignedError, remark_on, unaligned
from support.making import picture
from support.photos import Pixels


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def clear(value: int, size: int = 112) -> Pixels:
    return np.full((size, size, 3), value, np.uint8)


def noisy(levels: int) -> Pixels:
    return np.random.default_rng(0).integers(100, 101 + levels, (112, 112, 3), np.uint8)


def spotted(place: int) -> Pixels:
    pixels = clear(200)
    pixels[place, place] = 255
    return pixels


ONE_COLOUR = {
    "white": saved(Image.fromarray(clear(255)), "PNG"),
    "black": saved(Image.fromarray(clear(0)), "BMP"),
    "a colour": saved(Image.new("RGB", (30, 40), "orange"), "WEBP", lossless=True),
    "one pixel": saved(Image.new("RGB", (1, 1), "red"), "PNG"),
    "grey as JPEG": saved(Image.new("L", (250, 250), 77), "JPEG"),
    "what alpha shows": saved(Image.merge("LA", [Image.new("L", (256, 256)), Image.radial_gradient("L")]), "PNG"),
    "a camera's noise": saved(Image.fromarray(noisy(8)), "PNG"),
    "noise as JPEG": saved(Image.fromarray(noisy(3)), "JPEG", quality=95),
    "16 bits": saved(Image.fromarray(np.full((9, 9), 40_000, np.uint16)), "PNG"),
}  # fmt: skip
MANY_COLOURS = {
    "a face": saved(Image.fromarray(picture(1)), "PNG"),
    "a dark face": saved(Image.fromarray(picture(1) // 8), "PNG"),
    "more noise": saved(Image.fromarray(noisy(9)), "PNG"),
    "a spot beside what is looked at first": saved(Image.fromarray(spotted(37)), "PNG"),
    "a spot": saved(Image.fromarray(spotted(32)), "PNG"),
    "two pixels": saved(Image.fromarray(np.array([[[0, 0, 0], [0, 0, 9]]], np.uint8)), "PNG"),
}


@pytest.mark.parametrize("kind", ONE_COLOUR)
def test_an_image_of_one_colour_is_known(kind: str) -> None:
    assert remark_on(decoded(ONE_COLOUR[kind])).one_colour


@pytest.mark.parametrize("kind", MANY_COLOURS)
def test_an_image_of_several_colours_is_not_of_one(kind: str) -> None:
    assert not remark_on(decoded(MANY_COLOURS[kind])).one_colour


def grey(largest: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    shade = np.linspace(0, largest, 64 * 48).round().astype(np.uint16)
    return shade.reshape(64, 48)


def pgm(values: np.ndarray[Any, np.dtype[np.uint16]], largest: int = 65535, kind: bytes = b"P5") -> bytes:
    return b"%s\n%d %d\n%d\n" % (kind, *values.shape[1::-1], largest) + values.astype(">u2").tobytes()


def opencv(extension: str, largest: int) -> bytes:
    colours = np.repeat(grey(largest)[:, :, None], 3, axis=2)
    return bytes(cv2.imencode(extension, colours)[1])


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "PGM", "JPEG 2000", "colours in PNG", "colours in TIFF", "PPM"])
def test_16_bits_of_which_fewer_are_used_are_known(form: str, bits: int) -> None:
    largest = 2**bits - 1
    data = {
        "PNG": lambda: saved(Image.fromarray(grey(largest)), "PNG"),
        "TIFF": lambda: saved(Image.fromarray(grey(largest)), "TIFF", compression="tiff_lzw"),
        "PGM": lambda: pgm(grey(largest)),
        "JPEG 2000": lambda: saved(Image.fromarray(grey(largest)), "JPEG2000"),
        "colours in PNG": lambda: opencv(".png", largest),
        "colours in TIFF": lambda: opencv(".tiff", largest),
        "PPM": lambda: pgm(np.repeat(grey(largest)[:, :, None], 3, axis=2), kind=b"P6"),
    }[form]()
    found = decoded(data)
    assert found.bits == (None if bits == 16 else bits)
    assert int(decode(data).max()) == pytest.approx(largest >> 8, abs=1)  # its pixels are what they were


@pytest.mark.parametrize(
    "data",
    [
        saved(Image.fromarray(picture(1)), "PNG"),
        saved(Image.fromarray(picture(1) // 20), "PNG"),
        saved(Image.fromarray(picture(1) // 20).convert("L"), "TIFF"),
        saved(Image.fromarray(grey(0)), "PNG"),
        pgm(grey(4095), 4095),
        pgm(np.repeat(grey(4095)[:, :, None], 3, axis=2), 4095, b"P6"),
    ],
    ids=["8 bits", "dark", "dark and grey", "black", "12 bits said", "12 bits said, colours"],
)
def test_images_that_say_how_many_bits_they_have_are_read_as_they_are(data: bytes) -> None:
    assert decoded(data).bits is None


def test_few_bits_are_not_called_one_colour() -> None:
    remark = remark_on(decoded(saved(Image.fromarray(grey(255)), "PNG")))
    assert remark == Remark(one_colour=False, bits=8)


def test_remarks_are_counted_and_name_a_few() -> None:
    remarks = Remarks()
    assert list(remarks.warnings()) == []
    for number in range(6):
        remarks.add(f"ann/{number}.png", remark_on(Picture("PNG", "RGB", clear(number))))
    remarks.add("bob/\n.png", Remark(one_colour=False, bits=12))
    remarks.add("bob/1.png", Remark(one_colour=False, bits=10))
    blank, bits = remarks.warnings()
    assert blank.startswith("6 of 8 images are of one colour (ann/0.png, ann/1.png, ann/2.png, ...): ")
    assert bits.startswith("2 of 8 images have 16 bits a value and fill the lower 12 at most")
    assert "(bob/\\n.png, bob/1.png)" in bits
    assert "16 times too dark or more" in bits


def test_what_cannot_be_aligned_counts_too_and_its_reason_names_the_bits() -> None:
    dark = decoded(saved(Image.fromarray(grey(4095)), "PNG"))
    with pytest.raises(UnalignedError) as caught, unaligned(dark):
        raise UnreadableSampleError("no face was found in it")
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error).startswith("no face was found in it; it has 16 bits a value, and of them the lower 12 at most")
    assert error.remark == Remark(one_colour=False, bits=12)
    with pytest.raises(UnalignedError, match=r"^no face$"), unaligned(decoded(ONE_COLOUR["white"])):
        raise UnreadableSampleError("no face")


def test_photos_that_may_lie_are_counted_and_named() -> None:
    remarks = Remarks()
    for number in range(5):
        face = Face(tuple(map(float, range(10))), unsure=number != 2)
        remarks.add(f"ann/{number}.png", remark_on(decoded(MANY_COLOURS["a face"]), face), has_face=True)
    [said] = remarks.warnings()
    assert said.startswith("4 photos may stand on their head, or lie: ann/0.png, ann/1.png, ann/3.png, ...; ")


@pytest.mark.parametrize(("crops", "warned"), [(0, False), (4, False), (5, True), (10, True)])
def test_crops_are_told_from_half_of_the_images_on(crops: int, warned: bool) -> None:
    remarks = Remarks()
    for number in range(10):
        remarks.add(str(number), Remark(one_colour=False, bits=None, is_crop=number < crops), has_face=True)
    said = list(remarks.warnings())
    assert len(said) == warned
    assert all(sentence.startswith(f"{crops} of 10 images are aligned crops already") for sentence in said)
