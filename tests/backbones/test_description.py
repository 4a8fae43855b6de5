"""`grafiqs backbones`: what is known of networks is true, and a checkpoint is told what it is."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from grafiqs.backbones.backbone import Backbone, observed
from grafiqs.backbones.catalogue import (
    BACKBONES,
    DEPTHS,
    FAMILIES,
    IR_DEPTHS,
    IRESNET,
    LAYERS,
    MOBILEFACENET,
    MOBILEFACENET_RELU6,
    Family,
    family_of,
    published,
)
from grafiqs.backbones.families import BUILDERS
from grafiqs.backbones.ir import IRNet
from grafiqs.backbones.iresnet import IResNet
from grafiqs.backbones.mobilefacenet import MobileFaceNet, MobileFaceNetReLU6
from grafiqs.images.preprocessing import IMAGENET, USUAL
from support.commands import RED, Capture, refused, run
from support.making import NARROW, REAL, random_network

NAMES = [(name, family) for family in FAMILIES for name in family.names]


def built(name: str) -> Backbone:
    """The network of that name in its published widths, without weights."""
    excitation = "_se" in name
    plain = name.replace("_se", "")
    with torch.device("meta"):
        if plain in DEPTHS:
            return IResNet(DEPTHS[plain], excitation=excitation)
        if plain in IR_DEPTHS:
            return IRNet(IR_DEPTHS[plain], excitation)
        return {"mobilefacenet": MobileFaceNet, "mobilefacenet_relu6": MobileFaceNetReLU6}[name]()


def told(capsys: Capture, *arguments: object) -> Any:
    """What the command says as JSON, and nothing else on standard output."""
    capsys.readouterr()
    assert run("backbones", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


# -- the catalogue -----------------------------------------------------------------------------------------


def test_every_network_is_of_one_family() -> None:
    assert sorted(name for name, _ in NAMES) == sorted(BACKBONES)


@pytest.mark.parametrize(("name", "family"), NAMES, ids=[name for name, _ in NAMES])
def test_the_catalogue_tells_the_truth(name: str, family: Family) -> None:
    network = built(name).eval()
    size = family.preprocessing.size
    shapes = observed(network, size).shapes
    assert shapes == dict(zip(LAYERS, ((3, *size), *family.shapes), strict=True))
    images = torch.zeros(2, 3, *size, device="meta")
    assert network(images).shape == (2, family.embedding_size) == (2, network.embedding_size)
    assert network.blocks == family.blocks
    assert len(network.blocks) == len(set(network.blocks)) == 4


@pytest.mark.parametrize(("name", "family"), NAMES, ids=[name for name, _ in NAMES])
def test_a_network_is_told_by_its_own_keys(name: str, family: Family) -> None:
    state = built(name).state_dict()
    [builder] = [builder for builder in BUILDERS if builder.anchor in state]
    assert family_of(name) is family
    with torch.device("meta"):
        found, network = builder.build(state)
    assert found == name
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in state.items()
    }


def test_inputs_are_those_that_the_networks_were_trained_on() -> None:
    assert [family.preprocessing for family in FAMILIES] == [USUAL, USUAL, USUAL, USUAL, IMAGENET]
    assert (FAMILIES[0], *FAMILIES[-2:]) == (IRESNET, MOBILEFACENET, MOBILEFACENET_RELU6)
    assert (str(USUAL), str(IMAGENET)) == (
        "112x112 RGB, mean 0.5 0.5 0.5, std 0.5 0.5 0.5",
        "112x112 RGB, mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
    )


def test_every_known_checkpoint_is_found_by_its_checksum() -> None:
    known = [one for family in FAMILIES for one in family.published]
    assert len({one.sha256 for one in known}) == len(known) == 2
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
        facts = [family.title, str(family.preprocessing), *family.blocks, *family.sources]
        facts += ["x".join(map(str, shape)) for shape in family.shapes]
        facts += [text for one in family.published for text in (one.name, one.sha256, one.licence, one.source)]
        assert [fact for fact in facts if fact not in paragraph] == []
        assert f"embedding     {family.embedding_size}\n" in f"{paragraph}\n"
    assert "--backbone package.module:factory --blocks" in paragraphs[-1]


def test_the_list_is_json_too(capsys: Capture) -> None:
    found = told(capsys)
    assert [family["names"] for family in found] == [list(family.names) for family in FAMILIES]
    assert found[-2]["blocks"] == {
        "block1": {"module": "conv_3", "shape": [64, 28, 28]},
        "block2": {"module": "conv_4", "shape": [128, 14, 14]},
        "block3": {"module": "conv_5", "shape": [128, 7, 7]},
        "block4": {"module": "prelu", "shape": [512, 7, 7]},
    }
    assert found[-1]["input"] == {
        "channel_order": "rgb",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "size": [112, 112],
        "text": str(IMAGENET),
    }
    assert [one["licence"] for family in found for one in family["published"]] == ["MIT", "Apache-2.0"]


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
        "caution": None,
        "path": str(weights),
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "backbone": "iresnet18",
        "published": None,
        "input": {
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
    assert all(any(source in line for line in lines) for source in IRESNET.sources)
    assert lines[-5:] == [
        "  block1-block4 layer1 8x56x56, layer2 16x28x28, layer3 32x14x14, layer4 64x7x7",
        "  embedding     32",
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
    assert f"  input         {family.preprocessing}" in lines
    found = told(capsys, path)
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
    "text": (b"hello, these are no weights\n" * 20, "are not a whole PyTorch or safetensors checkpoint"),
    "nothing": (b"", "are not a whole PyTorch or safetensors checkpoint"),
    "a list": ([1, 2], "holds a list, not a state dict"),
    "another network": ({"conv.weight": torch.zeros(1)}, "holds no known network (iresnet18, "),
    "half a network": ({"layer1.0.bn1.weight": torch.zeros(8)}, "has stages of (1, 0, 0, 0) blocks"),
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


def test_two_files_are_one_too_many(weights: Path, capsys: Capture) -> None:
    assert f"unrecognized arguments: {weights}" in refused(capsys, "backbones", weights, weights)
