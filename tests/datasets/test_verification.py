"""insightface's verification sets: every writer's bytes and pairs come back, and no pickle gets anything done."""

from __future__ import annotations

import copyreg
import multiprocessing
import pickle
import struct
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grafiqs.datasets import pickled, verification
from grafiqs.datasets.dataset import Pair
from grafiqs.datasets.verification import VerificationSet
from grafiqs.errors import RequestError, UnreadableSampleError
from support.writing import contents, damaged, in_a_process, python2, python3, truncated

IMAGES = [b"\xff\xd8 'a' \"\n", b"", bytes(range(256)) * 2, b"\x89PNG\r\n\x1a\n", b"a", b"a"]
SAME = [True, False, True]

IMAGE_KINDS: dict[str, Any] = {
    "bytes": bytes,
    "byte arrays": bytearray,
    "arrays": lambda image: np.array(bytearray(image), np.uint8),
    "read-only arrays": lambda image: np.frombuffer(image, np.uint8),
    "every second of an array": lambda image: np.repeat(np.frombuffer(image, np.uint8), 2)[::2],
    "arrays of signed bytes": lambda image: np.frombuffer(image, np.int8),
    "columns, as older OpenCV encodes": lambda image: np.frombuffer(image, np.uint8).reshape(-1, 1),
    "rows": lambda image: np.array(bytearray(image), np.uint8)[None],
    "columns in Fortran's order": lambda image: np.asfortranarray(np.frombuffer(image, np.int8).reshape(-1, 1)),
    "columns of pixels": lambda image: np.frombuffer(image, np.uint8).reshape(-1, 1, 1),
    "text, as Python 2's bytes become in Python 3": lambda image: image.decode("latin-1"),
    "one column of two": lambda image: np.repeat(np.frombuffer(image, np.uint8).reshape(-1, 1), 2, axis=1)[:, :1],
}
SAME_KINDS: dict[str, Any] = {
    "bools": list,
    "numbers": lambda same: list(map(int, same)),
    "NumPy bools": lambda same: list(map(np.bool_, same)),
    "NumPy numbers": lambda same: list(map(np.int64, same)),
    "fractions": lambda same: [0.5 * answer for answer in same],
    "NumPy fractions": lambda same: list(map(np.float32, same)),
    "an array of bools": np.array,
    "an array of fractions": lambda same: np.array(same, np.float16),
    "an array of numbers": lambda same: np.array(same, np.int64),
    "a tuple": tuple,
}


def written(folder: Path, data: bytes) -> Path:
    (folder / "pairs.bin").write_bytes(data)
    return folder / "pairs.bin"


def check(place: Path) -> None:
    """The file holds IMAGES and SAME."""
    dataset = VerificationSet(place)
    assert dataset.identities == ("",)
    assert dataset.samples("") == ("000000", "000001", "000002", "000003", "000004", "000005")
    assert [dataset.read(sample) for sample in dataset.samples("")] == IMAGES
    assert all(type(dataset.read(sample)) is bytes for sample in dataset.samples(""))
    assert dataset.pairs == (
        Pair("000000", "000001", True),
        Pair("000002", "000003", False),
        Pair("000004", "000005", True),
    )
    assert all(type(pair.same) is bool for pair in dataset.pairs)


def refusal(place: Path) -> str:
    """Why the file is refused."""
    with pytest.raises(RequestError) as caught:
        VerificationSet(place)
    assert str(caught.value).isprintable()
    return str(caught.value)


# -- what is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
@pytest.mark.parametrize("images", IMAGE_KINDS)
@pytest.mark.parametrize("same", SAME_KINDS)
def test_python_3_has_written_it(tmp_path: Path, protocol: int, core: str, images: str, same: str) -> None:
    value = (list(map(IMAGE_KINDS[images], IMAGES)), SAME_KINDS[same](SAME))
    check(written(tmp_path, python3(value, protocol, core)))


@pytest.mark.parametrize("protocol", range(3))
@pytest.mark.parametrize("images", IMAGE_KINDS)
@pytest.mark.parametrize("same", SAME_KINDS)
def test_python_2_has_written_it(tmp_path: Path, protocol: int, images: str, same: str) -> None:
    data = python2((list(map(IMAGE_KINDS[images], IMAGES)), SAME_KINDS[same](SAME)), protocol)
    if images == "bytes" and same == "bools":
        assert pickle.loads(data, encoding="bytes") == (IMAGES, SAME)
    check(written(tmp_path, data))


@pytest.mark.parametrize("faster", [False, True])
def test_the_pickler_in_c_has_written_it(tmp_path: Path, faster: bool) -> None:
    with (tmp_path / "pairs.bin").open("wb") as file:
        pickler = pickle.Pickler(file)
        pickler.fast = faster  # without a memo
        pickler.dump([IMAGES, SAME])
    check(tmp_path / "pairs.bin")
    check(written(tmp_path, pickle.dumps((IMAGES, SAME), 2, fix_imports=False)))


@pytest.mark.parametrize(
    "image",
    [
        *("not Latin-1: \u20ac", None, 5, [b"a"], np.dtype("u1")),
        *(np.zeros(shape, np.uint8) for shape in ((2, 2), (2, 1, 2), ())),
        *(np.zeros(shape, kind) for kind in (np.uint16, np.bool_, np.float16) for shape in (2, (2, 1))),
    ],
)
def test_what_is_no_image_is_unreadable_alone(tmp_path: Path, image: object) -> None:
    dataset = VerificationSet(written(tmp_path, pickle.dumps(([b"a", image], [True]))))
    assert dataset.read("000000") == b"a"
    with pytest.raises(UnreadableSampleError, match="holds no bytes of an image"):
        dataset.read("000001")


def test_what_stands_in_the_place_of_an_image_is_said(tmp_path: Path) -> None:
    """An array of decoded pixels, say."""
    dataset = VerificationSet(written(tmp_path, pickle.dumps(([np.zeros((4, 5, 3), np.uint8), None], [True]))))
    for sample, kind in (
        ("000000", r"an array of shape \(4, 5, 3\), a byte each: images belong"),
        ("000001", "a NoneType"),
    ):
        with pytest.raises(UnreadableSampleError, match=f"^holds no bytes of an image, but {kind}"):
            dataset.read(sample)


def test_objects_in_an_array_are_refused(tmp_path: Path) -> None:
    for images in (np.array([b"a", b"bc"], object), [np.array([1, None], object), b"b"]):
        assert "an array of type 'O8'" in refusal(written(tmp_path, pickle.dumps((images, [True]))))


@pytest.mark.parametrize("location", ["000002", "x", ""])
def test_a_sample_that_is_not_there(tmp_path: Path, location: str) -> None:
    dataset = VerificationSet(written(tmp_path, pickle.dumps(([b"a", b"b"], [True]))))
    with pytest.raises(UnreadableSampleError, match="is not in the verification set"):
        dataset.read(location)


def test_an_image_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MAX_BYTES", 10)
    dataset = VerificationSet(written(tmp_path, pickle.dumps(([bytes(10), bytes(11)], [True]))))
    assert dataset.read("000000") == bytes(10)
    with pytest.raises(UnreadableSampleError, match="11 bytes"):
        dataset.read("000001")


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (([], []), "holds 0 images for 0 pairs, instead of two for each"),
        (([b"a", b"b", b"c"], [True]), "holds 3 images for 1 pairs, instead of two for each"),
        (([b"a", b"b"], [True, False]), "holds 2 images for 2 pairs, instead of two for each"),
        (([b"a", b"b"], ["yes"]), "a str stands where the pairs are said to be the same or not"),
        (([b"a", b"b"], [None]), "a NoneType stands where the pairs are said to be the same or not"),
        ((b"ab", [True]), "its images are of type bytes instead of a list"),
        ((np.zeros(2, np.uint8), [True]), "its images are of type Array instead of a list"),
        (([b"a", b"b"], np.array([1j])), "an array of type 'c16'"),
        (([b"a", b"b"], np.array([True, None])), "an array of type 'O8'"),
        (([b"a", b"b"], np.array([1], ">i4")), "an array of big-endian numbers"),
        (([b"a", b"b"], {True}), "a step that nothing in such a set needs"),
        (7, "is not a verification set, a pickle of images and pairs"),
    ],
)
def test_what_is_no_verification_set_is_refused(tmp_path: Path, value: object, reason: str) -> None:
    message = refusal(written(tmp_path, pickle.dumps(value)))
    assert message.startswith(str(tmp_path / "pairs.bin"))
    assert reason in message


OTHERS: dict[str, tuple[bytes, str]] = {
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "(git lfs pull)"),
    "a web page": (b"\n<!DOCTYPE html>", "a web page"),
    "PyTorch, zip": (b"PK\x03\x04" + bytes(26) + b"archive/data.pkl", "a PyTorch file"),
    "PyTorch, old": (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2), "a PyTorch file"),
    "three": (pickle.dumps(([b"a", b"b"], [True], {"name": "lfw"})), "a pickle of a tuple of three: write it as"),
    "three, protocol 2": (pickle.dumps(([b"a", b"b"], [True], {"name": "lfw"}), 2), "a tuple of three: write it as"),
    "four": (pickle.dumps(([b"a", b"b"], [True], 3, 4)), "(it holds a tuple of 4): write it as"),
    **{
        f"a dict, {protocol}": (pickle.dumps({"bins": [b"a", b"b"]}, protocol), "a pickle of a dict: write it as")
        for protocol in range(6)
    },
    "big-endian": (pickle.dumps(([b"a", b"b"], np.array([1], ">i4"))), "(an array of big-endian numbers): write it as"),
    "objects": (pickle.dumps((np.array([b"a", b"b"], object), [True])), "'O8', Python objects): write it as"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_else_a_file_is_is_said(kind: str, tmp_path: Path) -> None:
    data, what = OTHERS[kind]
    message = refusal(written(tmp_path, data))
    assert what in message
    assert "get the file again" not in message


@pytest.mark.parametrize("data", [b"", b"\n", b".", b"\x80\x05", b"PK\x03\x04", b"\x80\x06N.", b"no pickle"])
def test_what_is_no_pickle_is_refused_in_one_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "li\nes.bin").write_bytes(data)
    assert "/li\\nes.bin is not a verification set" in (message := refusal(tmp_path / "li\nes.bin"))
    assert message.endswith(": get the file again, or write it as insightface does")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nowhere.bin: No such file" in refusal(tmp_path / "nowhere.bin")


@pytest.mark.parametrize("shape", [(1,), (3,), (-1, -2), (True, 2), (1.0, 2), (), (2,) * 40])
def test_an_array_is_as_large_as_its_bytes(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    array = Call(np._core.numeric._frombuffer, (b"ab", np.dtype("u1"), shape, "C"))  # type: ignore[attr-defined]
    assert " (an array " in refusal(written(tmp_path, pickle.dumps(([b"a", array], [True]))))


class Call:
    """Something that is made by a call, as soon as it is unpickled."""

    def __init__(self, *how: Any) -> None:
        self.how = how

    def __reduce__(self) -> tuple[Any, ...]:
        return self.how


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


COMMAND = "touch canary"
EVIL = "open('canary', 'w').close()"

HOSTILE: dict[str, bytes] = {
    "os.system": b"cos\nsystem\n(" + text(COMMAND) + b"tR.",
    "posix.system": b"cposix\nsystem\n(" + text(COMMAND) + b"tR.",
    "os.system by the stack": b"\x80\x04" + text("os") + text("system") + b"\x93" + text(COMMAND) + b"\x85R.",
    "a name with dots": b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + text(COMMAND) + b"\x85R.",
    "NumPy's name with dots": b"\x80\x04"
    + text("numpy")
    + text("lib._npyio_impl.os.system")
    + b"\x93"
    + text(COMMAND)
    + b"\x85R.",
    "eval": b"cbuiltins\neval\n(" + text(EVIL) + b"tR.",
    "exec of Python 2": b"\x80\x02c__builtin__\nexec\n(" + text(EVIL) + b"tR.",
    "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(X\x02\0\0\0ostR"
    + text("system")
    + b"tR("
    + text(COMMAND)
    + b"tR.",
    "functools.partial": b"cfunctools\npartial\n(cos\nsystem\n" + text(COMMAND) + b"tR)R.",
    "an instance": b"(" + text(COMMAND) + b"ios\nsystem\n.",
    "an object": b"(cos\nsystem\n" + text(COMMAND) + b"o.",
    "a new object": b"\x80\x02cfunctools\npartial\n(cos\nsystem\n" + text(COMMAND) + b"t\x81)R.",
    "a new object with keywords": b"\x80\x04cfunctools\npartial\n(cos\nsystem\n" + text(COMMAND) + b"t}\x92)R.",
    "an extension": b"\x80\x02\x82\xf0(" + text(COMMAND) + b"tR.",
    "a state": b"cfunctools\npartial\n(cos\ngetpid\ntR(cos\nsystem\n(" + text(COMMAND) + b"t}Ntb)R.",
    "a file of NumPy's": b"cnumpy\nmemmap\n(" + text("canary") + text("u1") + text("w+") + b"K\x00K\x01tR.",
    "a method of NumPy's": b"\x80\x04"
    + text("numpy")
    + text("ndarray.tofile")
    + b"\x93cnumpy\nndarray\n(K\x01tR"
    + text("canary")
    + b"\x86R.",
    "among images": pickle.dumps(([b"a", Call(eval, (EVIL,))], [True])),
    "among pairs": pickle.dumps(([b"a", b"b"], [Call(eval, (EVIL,))])),
    "instead of items": pickle.dumps(([b"a", b"b"], Call(list, (), None, iter([Call(eval, (EVIL,))])))),
    "as the type of an array": pickle.dumps(
        ([b"a", b"b"], [Call(np.dtype, (Call(eval, (EVIL + " or 'u1'",)), False, True))])
    ),
}
"""Pickles that make a file when Python opens them."""


@pytest.fixture
def _extension() -> Iterator[None]:
    copyreg.add_extension("os", "system", 0xF0)
    yield
    copyreg.remove_extension("os", "system", 0xF0)
    copyreg.clear_extension_cache()


@pytest.mark.usefixtures("_extension")
@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_file_gets_nothing_done(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place, canary = written(tmp_path, HOSTILE[how]), tmp_path / "canary"
    pickle.loads(HOSTILE[how])
    assert canary.exists()  # so does Python
    canary.unlink()
    for first in (b"", python3((IMAGES, SAME), 4)[:-1] + b"0"):
        place.write_bytes(first + HOSTILE[how])
        refusal(place)
        assert not canary.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nload\n.",
        b"cnumpy.testing._private.utils\nrunstring\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"\x80\x04" + text("numpy.core") + text("multiarray._reconstruct") + b"\x93.",
        b"\x80\x04" + text("numpy") + text("core.multiarray._reconstruct.__globals__") + b"\x93.",
        b"\x80\x04" + text("numpy") + text("dtype.__init__") + b"\x93.",
        b"cbuiltins\nbytes\x00\n.",
        b"cos\n" + b"\x1b\xc2\xa0" * 100_000 + b"\n.",
    ],
)
def test_no_other_name_is_looked_up(tmp_path: Path, data: bytes) -> None:
    message = refusal(written(tmp_path, data))
    assert "was not opened further: it names " in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"cnumpy\ndtype\n" + state + b"b."
            for state in (b"N", b")", b"(Nt", b"}X\4\0\0\0makeNs", b"N}X\4\0\0\0makeNs\x86")
        ),
        b"cnumpy\nndarray\n(I1\n(I0\ntcnumpy\ndtype\n(S'u1'\ntRI0\nS''\ntb.",
        b"cnumpy\ndtype\n(S'u1'\ntR(N(S'data'\nNttb.",
        b"cnumpy\ndtype\n(S'u1'\ntRN}X\4\0\0\0sizeI9\ns\x86b.",
        b"cnumpy.core.multiarray\n_reconstruct\n)RN}X\4\0\0\0dataNs\x86b.",
        b"]}X\6\0\0\0appendNsb.",
        b"]N}X\6\0\0\0appendNs\x86b.",
        b"(lp0\ng0\ng0\nR.",
        b"cnumpy\ndtype\n(S'u1'\ntR)R.",
        b"c_codecs\nencode\n(X\1\0\0\0atR)R.",
        b"Pos.system\n.",
        b"N\x51.",
        *(b"\x80\x02" + code for code in (b"\x82\x01.", b"\x83\x01\0.", b"\x84\x01\0\0\0.")),
    ],
)
def test_nothing_is_called_or_set_but_arrays(tmp_path: Path, data: bytes) -> None:
    before = (dict(vars(pickled)), dict(pickled._NAMES), dict(pickled._Unpickler.dispatch))
    dispatch = dict(pickle._Unpickler.dispatch)
    assert " is not a verification set" in refusal(written(tmp_path, data))
    assert (dict(vars(pickled)), dict(pickled._NAMES), dict(pickled._Unpickler.dispatch)) == before
    assert pickle._Unpickler.dispatch == dispatch
    check(written(tmp_path, python3((list(map(IMAGE_KINDS["arrays"], IMAGES)), np.array(SAME)), 2)))


# -- damage ------------------------------------------------------------------------------------------------

BYTES = b"B" + struct.pack("<I", 10**6) + bytes(10**6)
TEXT = b"X" + struct.pack("<I", 10**6) + bytes(10**6)
U1 = b"cnumpy\ndtype\nS'u1'\n\x85R"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n)R"

BOMBS: dict[str, bytes] = {
    "a memo": b"Nr\xff\xff\xff\x7f.",
    "another memo": b"Nr\xff\xff\xff\xff.",
    "a memo in decimals": b"Np" + b"9" * 4000 + b"\n.",
    "bytes": b"B\xff\xff\xff\x7fabc.",
    "more bytes": b"\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "a byte array": b"\x96" + struct.pack("<Q", 2**30) + b"abc.",
    "a larger byte array": b"\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "text": b"\x8d" + struct.pack("<Q", 2**40) + b"abc.",
    "a string": b"T\xff\xff\xff\x7fabc.",
    "a number": b"\x8b\xff\xff\xff\x7fabc.",
    "a negative number of bytes": b"\x8b\xff\xff\xff\xffabc.",
    "a number in decimals": b"I" + b"9" * 10**5 + b"\n.",
    "a frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
    "a frame without end": b"\x80\x04\x95" + struct.pack("<Q", 2**64 - 1) + b"N.",
    "lists": b"\x80\x02(" + b"]" * 10**6 + b"l.",
    "marks": b"(" * 10**6 + b".",
    "lists in lists": b"(" * 3000 + b"l" * 2999 + b".",
    "tuples in tuples": b")" + b"\x85" * 10**4 + b".",
    "a list in itself": b"(lp0\ng0\na" * 1000 + b".",
    "a shape": RECONSTRUCT + b"(I1\n(J\xff\xff\xff\x7ft" + U1 + b"I0\nC\1atb.",
    "a shape of a long number": RECONSTRUCT + b"(I1\n(\x8a\x06" + bytes(5) + b"\1t" + U1 + b"I0\nC\1atb.",
    "a shape of two": RECONSTRUCT + b"(I1\n(J\0\0\0\x40J\0\0\0\x40t" + U1 + b"I0\nC\1atb.",
    "a shape below nothing": RECONSTRUCT + b"(I1\n(I-1\nI-1\nt" + U1 + b"I0\nC\1atb.",
    "a shape of text": RECONSTRUCT + b"(I1\n(X\1\0\0\0at" + U1 + b"I0\nC\1atb.",
    "a shape that is text": RECONSTRUCT + b"(I1\nX\1\0\0\0a" + U1 + b"I0\nC\1atb.",
    "a shape of many": RECONSTRUCT + b"(I1\n(" + b"J\0\0\x0f\0" * 10**6 + b"t" + U1 + b"I0\n" + BYTES + b"tb.",
    "a shape used again": RECONSTRUCT + b"((" + b"K\1" * 10**5 + b"tq\x01" + U1 + b"q\x02" + b"C\1aq\x03ta("
    + b"(I1\nh\1h\2Nh\3tb" * 10**4 + b".",
    "arrays of the same bytes": b"(" + BYTES + b"q\0" + U1 + b"q\1J\x40\x42\x0f\0\x85q\2"
    + b"cnumpy.core.numeric\n_frombuffer\nq\3" + b"h\3h\0h\1h\2\x87R" * 10**4 + b"l.",
    "arrays of the same byte array": b"(\x96" + struct.pack("<Q", 10**6) + bytes(10**6) + b"q\0" + U1
    + b"q\1J\x40\x42\x0f\0\x85q\2cnumpy.core.numeric\n_frombuffer\nq\3" + b"h\3h\0h\1h\2\x87R" * 10**4 + b"l.",
    "bytes of the same text": b"(c_codecs\nencode\nq\0" + TEXT + b"\x85q\1" + b"h\0h\1R" * 10**4 + b"l.",
    "numbers of the same bytes": b"(cnumpy.core.multiarray\nscalar\nq\0" + U1 + BYTES + b"\x86q\1"
    + b"h\0h\1R" * 10**4 + b"l.",
    "types of the same bytes": b"(cnumpy\ndtype\nq\0" + BYTES + b"\x85q\1" + b"h\0h\1R" * 10**4 + b"l.",
    "orders of the same bytes": b"(" + U1 + b"N" + BYTES + b"\x86q\1b" + b"h\1b" * 10**4 + b"l.",
    "calls with the same list": b"(cnumpy.core.multiarray\n_reconstruct\nq\0(" + b"N" * 10**5 + b"tq\1"
    + b"h\0h\1R" * 10**5 + b"l.",
    "a tuple of twice the same": b"cnumpy\ndtype\n)" + b"q\0h\0\x86" * 100 + b"\x85R.",
    "text of a tuple of twice the same": b"c_codecs\nencode\n)" + b"q\0h\0\x86" * 100 + b"\x85R.",
    "answers of a tuple of twice the same": b"(l)" + b"q\0h\0\x86" * 100 + b"\x85\x86.",
    "a name without end": b"cos\n" + b"\x01" * 10**6 + b"\n.",
    "a reason without end": b"F" + b"1 " * 10**6 + b"\n.",
}  # fmt: skip
"""Small files that ask for much memory or time."""


def fuzz(folder: Path) -> None:
    place = folder / "pairs.bin"
    arrays = list(map(IMAGE_KINDS["arrays"], IMAGES))
    values: list[Any] = [(IMAGES, SAME), (arrays, list(map(np.bool_, SAME))), (arrays, np.array(SAME))]
    good = [python3(value, protocol) for value in values for protocol in range(6)]
    good += [python2(value, protocol) for value in values for protocol in range(3)]
    for number, data in enumerate(good):
        for broken in (*truncated(data, 20), *damaged(data, 100, number)):
            place.write_bytes(broken)
            contents(place)


def bombs(folder: Path) -> None:
    for name, data in BOMBS.items():
        (folder / "pairs.bin").write_bytes(data)
        assert "is not a verification set" in contents(folder / "pairs.bin") or "names" in contents(
            folder / "pairs.bin"
        ), name


@pytest.mark.parametrize("function", ["fuzz", "bombs"])
def test_whatever_is_broken_ends_in_a_clear_error(tmp_path: Path, function: str) -> None:
    in_a_process(f"test_verification.{function}", tmp_path)


# -- workers -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # other tests leave threads behind
def test_threads_and_processes_read_at_once(tmp_path: Path) -> None:
    images = [bytes([number]) * 999 for number in range(200)]
    dataset = VerificationSet(written(tmp_path, pickle.dumps((images, [True] * 100))))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(dataset.read, dataset.samples(""))) == images
    for how in ("fork", "spawn"):
        with ProcessPoolExecutor(2, multiprocessing.get_context(how)) as workers:
            assert list(workers.map(dataset.read, dataset.samples(""), chunksize=50)) == images


def test_it_is_the_same_after_pickling(tmp_path: Path) -> None:
    dataset = VerificationSet(written(tmp_path, pickle.dumps((IMAGES, SAME))))
    again = pickle.loads(pickle.dumps(dataset))
    assert again.pairs == dataset.pairs
    check(again.place)
