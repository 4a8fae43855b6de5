"""`grafiqs.load`: the same numbers as `extract`, whatever an image is given as."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from grafiqs import Model, Options, RequestError, Result, UnreadableSampleError, extract_gradients, load, open_run
from grafiqs.calibration.distribution import Distribution
from grafiqs.calibration.reference import Reference
from grafiqs.compute.computer import Computed, Computer
from grafiqs.images.heat import coloured, heat_map, over
from grafiqs.model import in_hand
from grafiqs.run.results import Run
from support.making import REAL, picture
from support.photos import YUNET, real

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of all samples in batches of 4, with embeddings and their mirrored ones."""
    return extracted(tmp_path_factory.mktemp("runs") / "run", faces, weights, batch_size=4)


def extracted(output: Path, faces: Path, weights: Path, **options: Any) -> Run:
    given: dict[str, Any] = {"embeddings": True, "flip": True, "compile": "off", "device": "cpu", **options}
    extract_gradients(Options(image_path=faces, weights=weights, output_dir=output, quiet=True, **given))
    return open_run(output)


def model(weights: Path, **options: Any) -> Model:
    return load(weights, **{"device": "cpu", "embeddings": True, "flip": True, **options})


def paths(run: Run) -> list[Path]:
    return [Path(run.manifest.data_set["root"], path) for path in run.scores["path"]]


def assert_same(found: list[Result], run: Run) -> None:
    """Scores, gradients and embeddings, to the bit."""
    assert len(found) == len(run.scores)
    for row, result in enumerate(found):
        assert result.error is None
        assert dict(result.scores) == {name: float(run.scores[name][row]) for name in run.directions}
        assert result.embedding is not None
        assert result.embedding.tobytes() == run.embeddings[row].tobytes()
        for layer in run.manifest.dumps:
            assert result.gradients(layer).tobytes() == run.gradients(layer)[row].tobytes()


def assert_alike(one: Result, other: Result) -> None:
    assert dict(one.scores) == dict(other.scores)
    assert one.crop is not None
    assert other.crop is not None
    assert one.crop.tobytes() == other.crop.tobytes()


# -- the numbers of extract --------------------------------------------------------------------------------


def test_a_list_and_a_stream_give_what_extract_writes(run: Run, weights: Path) -> None:
    with model(weights, batch_size=4) as loaded:
        images = paths(run)
        assert len(images) % 4 != 0  # the last batch is not full
        assert_same(loaded(images), run)
        assert_same(list(loaded.stream(iter(images))), run)
        assert loaded.batch_size == 4


def test_one_image_gives_what_extract_writes_one_at_a_time(faces: Path, weights: Path, tmp_path: Path) -> None:
    run = extracted(tmp_path / "run", faces, weights, batch_size=1, num_identities=1)
    loaded = model(weights)
    assert_same([loaded(path) for path in paths(run)], run)


def test_in_float64_and_of_some_layers(faces: Path, weights: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"precision": "float64", "layers": ["block2", "loss"], "norms": "all"}
    run = extracted(tmp_path / "run", faces, weights, num_identities=1, **options)
    loaded = model(weights, **options)
    assert loaded.scores == ("block2", "loss")
    assert loaded.names == ("block2", "loss", "embedding_norm")
    assert_same(loaded(paths(run)), run)


def test_what_the_caller_set_in_pytorch_changes_nothing(run: Run, weights: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.inference_mode():
            found = model(weights, batch_size=4)(paths(run))
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same(found, run)


def test_the_caller_finds_pytorch_as_it_was(weights: Path) -> None:
    deterministic, gradients = torch.backends.cudnn.deterministic, torch.is_grad_enabled()
    model(weights)(picture(0))
    assert (torch.backends.cudnn.deterministic, torch.is_grad_enabled()) == (deterministic, gradients)
    assert torch.get_default_dtype() == torch.float32


def test_without_gradients_there_are_scores_alone(run: Run, weights: Path) -> None:
    loaded = model(weights, batch_size=4)
    found = loaded(paths(run), gradients=False)
    assert [dict(one.scores) for one in found] == [
        {name: float(row[name]) for name in run.directions} for row in run.scores
    ]
    assert dict(found[0].dumps) == {}
    with pytest.raises(RequestError, match="there is no gradient of 'image'; there is none"):
        found[0].heat_map("image")


def test_a_computation_that_lies_is_found_out_by_the_first_images(
    run: Run, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a run: the reference takes its place."""

    class Wrong(Computer):
        def compile(self) -> None:
            self.is_compiled = True

        def __call__(self, pixels: torch.Tensor, gradients: bool = True) -> Computed:
            found = super().__call__(pixels, gradients)
            share = 1.1 if hasattr(self, "is_compiled") else 1.0
            return Computed(found.gradients, found.scores * share, found.embeddings)

    monkeypatch.setattr("grafiqs.compute.preparation.Computer", Wrong)
    found = model(weights, batch_size=4, compile="on")(paths(run))
    assert_same(found, run)


# -- quality -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """How the scores of the run are distributed; its layer is the loss."""
    made = Reference(
        distributions={name: Distribution.of(run.scores[name]) for name in run.directions},
        directions=run.directions,
        layer="loss",
        ranking=[],
        holds_for=run.manifest.holds_for(),
        about={},
    )
    path = tmp_path_factory.mktemp("reference") / "own.json"
    path.write_bytes(made.file)
    return path


def test_qualities_are_those_of_extract(run: Run, faces: Path, weights: Path, reference: Path, tmp_path: Path) -> None:
    rows = extracted(tmp_path / "run", faces, weights, batch_size=4, reference=reference).scores
    found = model(weights, batch_size=4, reference=reference)(paths(run))
    assert len({result.quality_score for result in found}) > 10
    for row, result in zip(rows, found, strict=True):
        assert result.layer == "loss"
        assert result.quality_score == row["quality"]
        assert dict(result.quality) == {name: row[f"quality_{name}"] for name in run.directions}


def test_a_reference_of_other_scores_is_refused(weights: Path, reference: Path) -> None:
    for options, said in (
        ({"norms": "all", "mean": [0.4]}, "norms: maps in the reference, all here(.|\n)*mean"),
        ({"flip": False}, "flip: True in the reference, False here"),
    ):
        with pytest.raises(RequestError, match=said):
            model(weights, reference=reference, **options)
    with pytest.raises(RequestError, match=r"does not hold(.|\n)*weights_sha256"):
        load(reference=reference, device="cpu")
    assert model(weights, reference=reference, embeddings=False, flip=False).reference is not None


# -- what an image may be ----------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **how)
    return data.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(picture(3, (90, 130))), "JPEG", quality=95, exif=exif)


ENCODED = {
    "png": encoded(Image.fromarray(picture(1)), "PNG"),
    "of another size": encoded(Image.fromarray(picture(2, (250, 200))), "PNG"),
    "turned by exif": turned(),
    "grey": encoded(Image.fromarray(picture(4)).convert("L"), "PNG"),
    "palette": encoded(Image.fromarray(picture(5)).quantize(64), "PNG"),
    "alpha": encoded(Image.fromarray(picture(6)).convert("RGBA"), "WEBP", lossless=True),
    "cmyk": encoded(Image.fromarray(picture(7)).convert("CMYK"), "JPEG"),
    "16 bits": encoded(Image.fromarray(picture(8)[..., 0].astype(np.uint16) * 257), "PNG"),
    "one bit": encoded(Image.fromarray(picture(9)).convert("1"), "PNG"),
}


@pytest.fixture(scope="module")
def loaded(weights: Path) -> Model:
    return load(weights, device="cpu", layers=["block4"])


@pytest.mark.parametrize("kind", ENCODED)
def test_every_way_to_give_an_image_gives_the_same(kind: str, loaded: Model, tmp_path: Path) -> None:
    data = ENCODED[kind]
    path = tmp_path / "image"
    path.write_bytes(data)
    expected = loaded(path)
    assert expected.path == str(path)
    for other in (str(path), data, bytearray(data), memoryview(data), Image.open(path), Image.open(io.BytesIO(data))):
        assert_alike(loaded(other), expected)
    opened = Image.open(path)
    opened.load()
    assert_alike(loaded(opened), expected)


def test_pixels_are_rgb_arrays_and_tensors(loaded: Model) -> None:
    pixels = picture(2, (250, 200))
    expected = loaded(encoded(Image.fromarray(pixels), "PNG"))
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    for given in (pixels, pixels[:, ::-1][:, ::-1], np.asfortranarray(pixels), tensor, tensor.contiguous()):
        assert_alike(loaded(given), expected)
    assert dict(loaded(pixels[..., ::-1]).scores) != dict(expected.scores)  # BGR is another picture


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "this is of type int"),
        (None, "this is of type NoneType"),
        (picture(0).astype(np.float32), "an array of pixels is uint8 .* this one is float32"),
        (picture(0)[..., 0], r"has the shape \(112, 112\)"),
        (picture(0).transpose(2, 0, 1), r"has the shape \(3, 112, 112\)"),
        (torch.zeros(112, 112, 3, dtype=torch.uint8), "a tensor of pixels is uint8"),
        (torch.zeros(3, 4, 4), "this one is torch.float32"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8, device="meta"), "on meta"),
    ],
)
def test_what_is_no_image_is_the_callers_mistake(given: Any, said: str, loaded: Model) -> None:
    for call in (loaded, lambda one: loaded([picture(0), one]), lambda one: list(loaded.stream([one]))):
        with pytest.raises((TypeError, ValueError), match=said):
            call(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no/such/file", "cannot be opened: No such file or directory"),
        ("a\0b", "cannot be opened: embedded null byte"),
        (b"", "the file is empty"),
        (b"no image", "not an image in a known format"),
        (ENCODED["png"][:2000], "truncated"),
        (np.zeros((0, 5, 3), np.uint8), "5x0 pixels are none"),
        (Image.new("F", (20, 20)), "32-bit pixels have no known range"),
    ],
)
def test_what_cannot_be_read_is_said(given: Any, said: str, loaded: Model) -> None:
    with pytest.raises(UnreadableSampleError, match=said):
        loaded(given)
    [bad, good] = loaded([given, picture(0)])
    assert bad.error is not None
    assert said in bad.error
    assert (dict(bad.scores), bad.crop, bad.embedding, bad.quality_score) == ({}, None, None, None)
    assert good.error is None


def test_a_stream_of_one_path_is_a_mistake(loaded: Model) -> None:
    with pytest.raises(TypeError, match="a stream is of many images"):
        list(loaded.stream("photo.jpg"))


def test_16_bits_in_memory_are_those_of_a_file(loaded: Model, tmp_path: Path) -> None:
    image = Image.fromarray(picture(3)[..., 0].astype(np.uint16) * 4)
    image.save(tmp_path / "dark.png")
    expected = loaded(tmp_path / "dark.png")
    assert expected.remarks == ("it has 16 bits a value, and fills the lower 10 at most: it is too dark",)
    assert loaded(image).remarks == expected.remarks
    assert_alike(loaded(image), expected)


def test_results_come_in_order_with_failures_among_them(loaded: Model) -> None:
    good = [picture(number) for number in range(30)]
    given: list[Any] = list(good)
    for place in (0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 37, 38):  # the first batch of 8 among them
        given.insert(place, b"bad")
    found = loaded(given)
    assert [one.error is not None for one in found] == [isinstance(one, bytes) for one in given]
    own = [one.crop for one in found if one.error is None]
    assert all(crop is not None and (crop == image).all() for crop, image in zip(own, good, strict=True))
    assert loaded([]) == []
    assert [one.error for one in loaded([b"bad"])] == ["not an image in a known format"]


def test_what_a_caller_holds_may_change_or_be_shared(loaded: Model, tmp_path: Path) -> None:
    """A buffer that is filled again, the frames of an animation, one Pillow image many times."""
    frames = [picture(number, (140, 130)) for number in range(20)]
    expected = [loaded(frame).scores["block4"] for frame in frames]
    buffer = np.empty_like(frames[0])

    def filled() -> Iterator[Any]:
        for frame in frames:
            buffer[:] = frame
            yield buffer

    assert [one.scores["block4"] for one in loaded.stream(filled())] == pytest.approx(expected, rel=1e-5)
    first, *others = map(Image.fromarray, frames)
    first.save(tmp_path / "frames.tiff", save_all=True, append_images=others)
    with Image.open(tmp_path / "frames.tiff") as animation:
        found = list(loaded.stream(ImageSequence.Iterator(animation)))
    assert [one.scores["block4"] for one in found] == pytest.approx(expected, rel=1e-5)
    big = io.BytesIO(encoded(first.resize((2000, 2000)), "JPEG"))
    found = loaded([Image.open(big)] * 6)
    assert [one.error for one in found] == [None] * 6
    assert len({one.scores["block4"] for one in found}) == 1


def test_a_result_keeps_nothing_of_its_batch(loaded: Model) -> None:
    result = loaded([picture(number) for number in range(8)])[3]
    gradient = result.gradients("block4")
    assert gradient.base is None or gradient.base.nbytes == gradient.nbytes


def test_options_may_be_given_as_python_has_them(weights: Path) -> None:
    one = load(weights, layers="block4", mean=0.5, device=torch.device("cpu"))
    other = load(weights, layers=["block4"], mean=[0.5], device="cpu")
    assert_alike(one(picture(0)), other(picture(0)))


# -- streams, threads, the end -----------------------------------------------------------------------------


def test_one_by_one_each_result_is_there_before_the_next_image_is_asked_for(weights: Path) -> None:
    asked = []

    def images() -> Iterator[Any]:
        for number in range(3):
            asked.append(number)
            yield picture(number)

    one_by_one = load(weights, device="cpu", layers=["block4"], batch_size=1)
    assert [len(asked) for _ in one_by_one.stream(images())] == [1, 2, 3]


def test_a_stream_without_end_reads_two_batches_ahead(weights: Path) -> None:
    asked = itertools.count()
    stream = load(weights, device="cpu", layers=["block4"], batch_size=2).stream(
        picture(next(asked)) for _ in range(99)
    )
    next(stream)
    assert next(asked) <= 7
    stream.close()  # type: ignore[attr-defined]


def test_four_threads_may_use_one_model(run: Run, weights: Path) -> None:
    """And two models at once, of different precision: what PyTorch is set to is the process's."""
    shared, other = model(weights, batch_size=4), model(weights, precision="float64", batch_size=4)
    alone = [dict(one.scores) for one in other(paths(run))]
    found: dict[int, list[Result]] = {}

    def work(number: int) -> None:
        found[number] = (other if number == 3 else shared)(paths(run))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        assert_same(found[number], run)
    assert [dict(one.scores) for one in found[3]] == alone


def test_on_a_gpu_too_one_by_one_waits_for_no_other(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU has a batch under way while another is looked at."""
    prepare = Computer.__init__

    def in_flight(self: Computer, *arguments: Any) -> None:
        prepare(self, *arguments)
        self.in_flight = 1

    monkeypatch.setattr(Computer, "__init__", in_flight)
    test_one_by_one_each_result_is_there_before_the_next_image_is_asked_for(weights)


def test_models_that_are_loaded_at_once_leave_pytorch_as_it_was(weights: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        threads = [
            threading.Thread(target=lambda: load(weights, device="cpu", layers=["block4"])(picture(0)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_closed_model_says_so(weights: Path) -> None:
    with load(weights, device="cpu", layers=["block4"]) as loaded:
        assert "iresnet18" in repr(loaded)
        loaded(picture(0))
    assert repr(loaded) == "<grafiqs model, closed>"
    for call in (lambda: loaded(picture(0)), lambda: loaded([picture(0)])):
        with pytest.raises(RequestError, match="this model is closed: load it again"):
            call()


def test_a_device_without_memory_says_so(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(weights, device="cpu", layers=["block4"], batch_size=2)
    loaded([picture(0)])

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(Computer, "__call__", full)
    with pytest.raises(RequestError, match="cannot compute 2 images at once"):
        loaded([picture(0)])


def test_unknown_options_and_values_are_refused(weights: Path) -> None:
    with pytest.raises(TypeError, match="load has no option 'image_path'; it takes reference, weights, weights_key"):
        load(weights, image_path="faces")
    with pytest.raises(TypeError, match="reference is the path of a file; this is of type dict"):
        load(weights, reference={})  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="--layers names block9"):
        load(weights, layers=["block9"])
    with pytest.raises(RequestError, match="do not exist"):
        load("no/such.pth")
    with pytest.raises(RequestError, match="--flip needs --embeddings"):
        load(weights, flip=True)


# -- heat maps ---------------------------------------------------------------------------------------------


def test_a_heat_map_lies_over_the_crop(loaded: Model) -> None:
    result = loaded(picture(0))
    shares = result.heat_map("block4")
    assert (shares.shape, shares.dtype.name) == ((112, 112), "float32")
    assert 0 <= shares.min() <= shares.max() <= 1
    magnitude = np.abs(result.gradients("block4")).sum(axis=0)
    row, column = np.unravel_index(magnitude.argmax(), magnitude.shape)
    assert shares[16 * row + 8, 16 * column + 8] > 0.9  # the middle of that place


def test_a_heat_map_is_the_share_of_the_largest() -> None:
    gradient = np.zeros((2, 2, 4), np.float32)
    gradient[:, 0, 1] = (-3, 1)
    gradient[:, 1, 3] = (0, 2)
    assert heat_map(gradient, (2, 4)).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0.5]]
    assert not heat_map(np.zeros((2, 2, 4)), (2, 4)).any()


def test_colours_rise_with_the_share() -> None:
    colours = coloured(np.linspace(0, 1, 50)[None])[0].astype(float)
    brightness = colours @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(brightness) > 0).all()
    mixed = over(picture(0), np.zeros((112, 112)))
    assert np.ptp(mixed.astype(int), axis=2).max() == 0  # grey where there is nothing


# -- real faces --------------------------------------------------------------------------------------------


@real
def test_photos_are_aligned_as_extract_aligns_them(tmp_path: Path) -> None:
    photos, weights = REAL / "faces" / "lfw158_raw250", REAL / "weights" / "foamliu_mobilefacenet.pt"
    run = extracted(tmp_path, photos, weights, align=YUNET, num_identities=1, batch_size=4)
    with model(weights, align=YUNET, batch_size=4) as loaded:
        found = loaded(paths(run))
        assert_same(found, run)
        assert all(one.face is not None and one.face.box is not None for one in found)
        data = paths(run)[0].read_bytes()
        for given in (data, Image.open(io.BytesIO(data)), np.array(Image.open(io.BytesIO(data)))):
            assert_alike(loaded([given])[0], found[0])
        with pytest.raises(UnreadableSampleError, match="no face"):
            loaded(np.full((200, 200, 3), 127, np.uint8))


def test_without_weights_it_says_what_that_is_worth(caplog: pytest.LogCaptureFixture) -> None:
    loaded = in_hand.load(device="cpu")
    assert "knows drawn faces only" in caplog.text
    turned = in_hand.load(device="cpu", norms="all")
    assert "there are no qualities: the reference" in caplog.text
    assert turned(picture(0)).quality_score is None
    with pytest.raises(RequestError, match="--backbone iresnet50 needs its weights"):
        in_hand.load(backbone="iresnet50")
    result = loaded(picture(0))
    assert result.layer is not None
    assert 0 <= (result.quality_score or 0) <= 100
