"""`grafiqs backbones`: what is known of networks is true, and a checkpoint is told what it is."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from grafiqs.backbones.backbone import Backbone, observed
from grafiqs.backbones.catalogue import (
    BACKBONES,
    FAMILIES,
    IRESNET,
    LAYERS,
    MAGFACE_DEPTHS,
    MOBILEFACENET,
    MOBILEFACENET_RELU6,
    Family,
    family_of,
    published,
)
from grafiqs.backbones.fit import identified
from grafiqs.images.preprocessing import IMAGENET, USUAL, Preprocessing
from support.commands import RED, Capture, refused, run
from support.making import NARROW, REAL, random_network
from support.published import PUBLISHED

NAMES = [(name, family) for family in FAMILIES for name in family.names]


def built(name: str) -> Backbone:
    """The network of that name in its published widths, without weights."""
    with torch.device("meta"):
        state = PUBLISHED[name]().state_dict()
    return identified(state, Path("a.pth"), name, None)[0].network


def told(capsys: Capture, *arguments: object) -> Any:
    """What the command says as JSON, and nothing else on standard output."""
    capsys.readouterr()
    assert run("backbones", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


# -- the catalogue -----------------------------------------------------------------------------------------


def test_every_network_is_of_one_family() -> None:
    assert sorted(name for name, _ in NAMES) == sorted(BACKBONES)


@pytest.mark.parametrize(("name", "family"), [(f.names[0], f) for f in FAMILIES], ids=[f.names[0] for f in FAMILIES])
def test_the_catalogue_tells_the_truth(name: str, family: Family) -> None:
    network = built(name).eval()
    size = family.preprocessing.size
    shapes = observed(network, size).shapes
    assert shapes == dict(zip(LAYERS, ((3, *size), *family.shapes), strict=True))
    assert network.embedding_size == family.embedding_size
    assert network.blocks == family.blocks
    assert len(network.blocks) == len(set(network.blocks)) == 4


def test_inputs_are_those_that_publishers_feed() -> None:
    bgr = Preprocessing("bgr")
    assert {name: family.preprocessing for name, family in NAMES if family.preprocessing != USUAL} == {
        **{name: Preprocessing("bgr", (0, 0, 0), (1, 1, 1)) for name in MAGFACE_DEPTHS},
        **{name: bgr for name, _ in NAMES if name.startswith("adaface_ir_")},
        "mobilefacenet_insightface": bgr,
        "mobilefacenet_relu6": IMAGENET,
    }
    assert all(family.input_from for family in FAMILIES)
    assert (str(USUAL), str(IMAGENET), str(family_of("magface_iresnet50").preprocessing)) == (
        "112x112 RGB, mean 0.5 0.5 0.5, std 0.5 0.5 0.5",
        "112x112 RGB, mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
        "112x112 BGR, mean 0 0 0, std 1 1 1",
    )


def test_every_known_checkpoint_is_found_by_its_checksum() -> None:
    known = [one for family in FAMILIES for one in family.published]
    assert len({one.sha256 for one in known}) == len(known) == 3
    assert all(published(one.sha256) is one and len(bytes.fromhex(one.sha256)) == 32 for one in known)
    assert published("0" * 64) is None


# -- the list of networks ----------------------------------------------------------------------------------


def test_the_list_names_every_network_and_what_is_known_of_it(capsys: Capture) -> None:
    assert run("backbones") == 0
    said = capsys.readouterr()
    assert said.err == ""
    paragraphs = said.out.split("\n\n")
    assert [paragraph.splitlines()[0] for paragraph in paragraphs[:-1]] == [", ".join(f.names) for f in FAMILIES]
    for paragraph, family in zip(paragraphs, FAMILIES, strict=False):
        facts = [family.title, str(family.preprocessing), family.input_from, family.told]
        facts += [*family.blocks, *family.sources]
        facts += ["x".join(map(str, shape)) for shape in family.shapes]
        facts += [text for one in family.published for text in (one.name, one.sha256, one.licence, one.source)]
        assert [fact for fact in facts if fact not in paragraph] == []
        assert f"embedding     {family.embedding_size}\n" in f"{paragraph}\n"
    assert "--backbone package.module:factory --blocks" in paragraphs[-1]


def test_the_list_is_json_too(capsys: Capture) -> None:
    found = told(capsys)
    assert [family["names"] for family in found] == [list(family.names) for family in FAMILIES]
    [_, mobile, relu6] = [family for family in found if family["published"]]
    assert mobile["blocks"] == {
        "block1": {"module": "conv_3", "shape": [64, 28, 28]},
        "block2": {"module": "conv_4", "shape": [128, 14, 14]},
        "block3": {"module": "conv_5", "shape": [128, 7, 7]},
        "block4": {"module": "prelu", "shape": [512, 7, 7]},
    }
    assert relu6["input"] == {
        "channel_order": "rgb",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "size": [112, 112],
        "text": str(IMAGENET),
    }
    assert [one["licence"] for family in found for one in family["published"]] == ["Apache-2.0", "MIT", "Apache-2.0"]


def test_the_list_loads_neither_torch_nor_numpy() -> None:
    program = (
        "import sys\nfrom grafiqs.cli import main\n"
        "codes = main(['backbones']), main(['backbones', '--json'])\n"
        "sys.exit(codes != (0, 0) or any(name in sys.modules for name in ('torch', 'numpy', 'PIL')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


# -- one checkpoint ----------------------------------------------------------------------------------------


def test_a_checkpoint_of_ones_own_is_told_what_it_is(weights: Path, capsys: Capture) -> None:
    network = random_network()
    parameters = sum(weight.numel() for weight in network.parameters())
    found = told(capsys, weights)
    assert found == {
        "title": IRESNET.title,
        "names": list(IRESNET.names),
        "sources": list(IRESNET.sources),
        "caution": IRESNET.caution,
        "input_from": IRESNET.input_from,
        "told": "by its keys; the input is assumed",
        "path": str(weights),
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "backbone": "iresnet18",
        "weights_key": None,
        "published": None,
        "input": {
            "told": "keys",
            "assumed": True,
            "channel_order": "rgb",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "size": [112, 112],
            "text": str(USUAL),
        },
        "blocks": {
            f"block{number}": {"module": f"layer{number}", "shape": [width, 112 >> number, 112 >> number]}
            for number, width in enumerate(NARROW, start=1)
        },
        "embedding_size": 32,
        "batch_norms": {"maps": 30, "pixels": 0},
        "layers": list(LAYERS),
        "statistics": "30 BatchNorm2d count",
        "parameters": parameters,
    }
    assert run("backbones", weights) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{weights}: iresnet18"
    assert [line for line in lines if found["sha256"] in line] == [f"  SHA-256       {found['sha256']}"]
    assert "  known         no: weights of this family come from" in lines
    assert f"  input         {USUAL} (assumed: its keys do not say what it was trained on)" in lines
    assert all(any(source in line for line in lines) for source in IRESNET.sources)
    assert lines[-6:] == [
        "  block1-block4 layer1 8x56x56, layer2 16x28x28, layer3 32x14x14, layer4 64x7x7",
        "  embedding     32",
        f"  caution       {IRESNET.caution}",
        "  statistics    30 BatchNorm2d count",
        "  gradients at  image, block1, block2, block3, block4",
        f"  size          {parameters:,} parameters",
    ]


def test_keys_beside_the_network_are_told_of_elsewhere_than_the_json(tmp_path: Path, capsys: Capture) -> None:
    torch.save({**random_network().state_dict(), "head.weight": torch.zeros(3)}, tmp_path / "net.pth")
    assert run("backbones", tmp_path / "net.pth", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["backbone"] == "iresnet18"
    assert said.err == "Ignoring 1 keys of net.pth beside the backbone: head.weight\n"


def test_a_name_does_not_command_the_terminal(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / f"{RED}.pth"
    torch.save(random_network().state_dict(), path)
    assert run("backbones", path) == 0
    assert capsys.readouterr().out.startswith(rf"{tmp_path}/\x1b[31mred\nline.pth: iresnet18")
    assert told(capsys, path)["path"] == str(path)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real weights beside this checkout")
@pytest.mark.parametrize(
    ("file", "family", "batch_norms"),
    [
        ("bubbliiiing_arcface_mobilefacenet.pth", MOBILEFACENET, {"maps": 48, "pixels": 2}),
        ("foamliu_mobilefacenet.pt", MOBILEFACENET_RELU6, {"maps": 49, "pixels": 2}),
    ],
)
def test_published_checkpoints_are_known(
    file: str, family: Family, batch_norms: dict[str, int], capsys: Capture
) -> None:
    path = REAL / "weights" / file
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    [known] = family.published
    assert run("backbones", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: {family.names[0]}"
    assert f"  SHA-256       {sha256}" in lines
    assert f"  known         {known.name} ({known.source}, {known.licence}): {known.accuracy}" in lines
    assert f"  input         {family.preprocessing} (this very file is published)" in lines
    found = told(capsys, path)
    assert (found["input"]["told"], found["input"]["assumed"]) == ("sha256", False)
    assert (found["sha256"], found["published"]["sha256"]) == (sha256, sha256)
    assert (found["backbone"], found["published"]["licence"]) == (family.names[0], known.licence)
    assert found["published"]["source"] == {"mobilefacenet": "bubbliiiing/arcface-pytorch"}.get(
        found["backbone"], "foamliu/MobileFaceNet"
    )
    assert (found["embedding_size"], found["batch_norms"]) == (128, batch_norms)
    said = f"{batch_norms['maps']} BatchNorm2d count; 2 see single pixels and do not (--norms all takes them)"
    assert f"  statistics    {said}" in lines
    assert "  gradients at  image, block1, block2, block3" in lines
    assert [block["module"] for block in found["blocks"].values()] == list(family.blocks)


NO_CHECKPOINTS: dict[str, tuple[Any, str]] = {
    "text": (b"hello, these are no weights\n" * 20, "safetensors checkpoint (its bytes cannot be read as tensors)"),
    "nothing": (b"", "are empty"),
    "a list": ([1, 2], "holds no tensors by name: it is not a checkpoint of a network"),
    "another network": ({"conv.weight": torch.zeros(1)}, "GraFIQs cannot be computed from it"),
    "half a network": (
        {"layer1.0.conv1.weight": torch.zeros(8, 8, 3, 3), "layer1.0.bn1.running_var": torch.zeros(8)},
        "is not one of the networks known here (nearest: iresnet18, which has 1",
    ),
}


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_refused_with_a_sentence(kind: str, tmp_path: Path, capsys: Capture) -> None:
    content, sentence = NO_CHECKPOINTS[kind]
    path = tmp_path / "net.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    for more in ([], ["--json"]):
        line = refused(capsys, "backbones", path, *more)
        assert str(path) in line
        assert sentence in line


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_path_without_a_file_is_refused_without_naming_options_of_other_commands(
    kind: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "net.pth"
    if kind == "folder":
        path.mkdir()
    line = refused(capsys, "backbones", path)
    assert str(path) in line
    assert "--weights" not in line


def test_one_of_several_networks_is_described(tmp_path: Path, capsys: Capture) -> None:
    content = {"state_dict": random_network().state_dict(), "ema": random_network(seed=1).state_dict()}
    torch.save(content, tmp_path / "net.pth")
    assert "choose one with --weights-key, one of ema, state_dict" in refused(capsys, "backbones", tmp_path / "net.pth")
    found = told(capsys, tmp_path / "net.pth", "--weights-key", "ema")
    assert (found["weights_key"], found["backbone"]) == ("ema", "iresnet18")
    assert "--weights-key needs FILE" in refused(capsys, "backbones", "--weights-key", "ema")


def test_two_files_are_one_too_many(weights: Path, capsys: Capture) -> None:
    assert f"unrecognized arguments: {weights}" in refused(capsys, "backbones", weights, weights)


# -- the documentation -------------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parents[2] / "docs" / "backbones.md"


def test_the_documentation_names_every_network_with_its_input_and_layers() -> None:
    """And no other: a row a family, or several families of the same input."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.read_text(encoding="utf-8").partition("## Any other network")[0].splitlines()
        if line.startswith("| `")
    ]
    documented: dict[str, list[str]] = {}
    for names, *facts in rows:
        for name in re.findall("`([^`]+)`", names):
            assert name not in documented
            documented[name] = facts
    assert sorted(documented) == sorted(BACKBONES)
    for name, family in NAMES:
        order, mean, std = str(family.preprocessing).removeprefix("112x112 ").split(", ")
        said = {"mean 0.485 0.456 0.406": "ImageNet's", "mean 0.5 0.5 0.5": "0.5, 0.5", "mean 0 0 0": "0, 1"}[mean]
        assert documented[name][:2] == [f"{order}, {said}", str(family.embedding_size)]
        assert std
        blocks = re.findall("`([^`]+)`", documented[name][2])
        assert blocks == list(family.blocks)
        assert documented[name][3] == ("prefix" if family.parent else "keys")
