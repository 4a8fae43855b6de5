"""The extensions of images, one image as a data set, and that the verbs agree on what is none."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grafiqs.cli import main
from grafiqs.datasets.dataset import IMAGE_EXTENSIONS
from grafiqs.datasets.scan import scan
from grafiqs.images.decoding import decode
from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.subset import SubsetOptions
from grafiqs.select import open_dataset, select_subset
from support.making import picture
from support.packing import contents

FORMATS = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "jif"),
    "MPO": ("mpo",),
    "PNG": ("png", "apng"),
    "BMP": ("bmp", "dib"),
    "DIB": ("dib",),
    "GIF": ("gif",),
    "TIFF": ("tif", "tiff"),
    "PPM": ("ppm", "pnm", "pgm", "pbm"),
    "WEBP": ("webp",),
    "AVIF": ("avif",),
    "JPEG2000": ("jp2", "jpf", "jpx"),
    "codestream": ("j2k", "j2c", "jpc"),
}
"""What the files of each extension usually hold."""


def written(kind: str) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(picture(0))
    if kind == "codestream":
        image.save(file, "JPEG2000", no_jp2=True)
    elif kind == "MPO":
        image.save(file, kind, save_all=True, append_images=[image])
    else:
        image.save(file, kind)
    return file.getvalue()


def test_every_extension_of_an_image_is_read(tmp_path: Path) -> None:
    assert {extension for several in FORMATS.values() for extension in several} == IMAGE_EXTENSIONS
    for kind, extensions in FORMATS.items():
        for extension in extensions:
            (tmp_path / "ann").mkdir(exist_ok=True)
            (tmp_path / "ann" / f"{kind}.{extension.upper()}").write_bytes(written(kind))
    found = scan(tmp_path)
    assert len(found.samples("ann")) == sum(map(len, FORMATS.values()))
    for path in found.samples("ann"):
        pixels = decode(found.read(f"ann/{path}"))
        assert pixels.shape == (112, 112, 3)
        assert np.abs(pixels.astype(int) - picture(0)).mean() < 12


def test_the_documentation_lists_every_extension() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    table = text.partition("| format | extensions |")[2].partition("\n\n")[0]
    named = {word for row in table.splitlines()[2:] for word in row.split("|")[2].replace("`", "").split(", ")}
    assert {word.strip(" .") for word in named} == IMAGE_EXTENSIONS


def test_other_extensions_are_taken_by_content_when_named(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    for name in ("a.dat", "b.x", "c"):
        (tmp_path / "ann" / name).write_bytes(written("PNG"))
    options = DataSetOptions(image_path=tmp_path, image_extension=(".dat", "."))
    assert open_dataset(options).samples("ann") == ("a.dat", "c")
    assert decode(open_dataset(options).read("ann/c")).shape == (112, 112, 3)


# -- one image -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "extensions"), [("face.jpg", ()), ("FACE.PNG", ()), ("face.dat", ("dat",)), ("f", ("",))]
)
def test_one_image_is_a_data_set_of_one(tmp_path: Path, name: str, extensions: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(written("PNG"))
    options = SubsetOptions(image_path=tmp_path / name, image_extension=extensions)
    dataset = open_dataset(options)
    assert contents(dataset) == {"": {name: written("PNG")}}
    assert dataset.reading().read(name) == written("PNG")
    subset = select_subset(options)
    stem = name if "dat" in name else name.partition(".")[0]
    assert [(sample.identity, sample.name, sample.location) for sample in subset.samples] == [("", stem, name)]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_bytes(written("PNG"))
    same = select_subset(SubsetOptions(image_path=folder, image_extension=extensions))
    assert same.sha256 == subset.sha256


@pytest.mark.usefixtures("one_thread")
def test_one_image_goes_through_every_verb(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("face.jpg").write_bytes(written("JPEG"))
    assert main(["select", "--image-path", "face.jpg", "--output", "s.csv", "--quiet"]) == 0
    assert Path("s.csv").read_text().splitlines()[1:] == [",face,face.jpg"]
    assert main(["inspect", "face.jpg", "--quiet"]) == 0
    rest = ["--weights", str(weights), "--layers", "block4", "--output-dir", "run"]
    assert main(["extract", "--image-path", "face.jpg", *rest]) == 0
    assert main(["verify", "run", "--quiet"]) == 0
    assert Path("run/block4/face_grad.npy").is_file()
    assert Path("run/GraFIQs_block4.txt").read_text().startswith("./face.jpg ")
    capsys.readouterr()
    assert main(["extract", "--image-path", "s.csv", *rest]) == 2  # not the same data set


# -- what is no data set -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ann/0.heic", "ann/x.txt", "ann/deep/train.rec", "0.txt"])
def test_verbs_agree_on_a_data_set_without_images(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set" / name).parent.mkdir(parents=True)
    (tmp_path / "set" / name).touch()
    said = []
    for command in (["inspect"], ["select", "--image-path"], ["extract", "--weights", "w.pth", "--image-path"]):
        if command[0] == "extract":
            (tmp_path / "w.pth").write_bytes(b"x" * 100)
            command[2] = str(tmp_path / "w.pth")
        assert main([*command, str(tmp_path / "set")]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1] == said[2]
    assert "holds no identity folder and no image" in said[0]


def test_inspect_tells_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ann" / "@eaDir").mkdir(parents=True)
    (tmp_path / "ann" / "0.png").write_bytes(written("PNG"))
    (tmp_path / "ann" / "1.txt").touch()
    line = "left out: 1 .txt (--image-extension takes what it names)"
    assert main(["inspect", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert line in told.out
    assert "passed over, as folders of systems: 1 @eaDir" in told.out
    (tmp_path / "ann" / "2.heic").touch()
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert (report["left_out"], report["folders_passed_over"]) == ({"heic": 1, "txt": 1}, {"@eaDir": 1})
    assert "warning: left out: 1 .heic, 1 .txt" in told.err
