"""Networks are told by all their keys: relatives, damaged ones and unknown ones are told apart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grafiqs.backbones.catalogue import MAGFACE_DEPTHS
from grafiqs.backbones.checkpoint import Checkpoint, load_checkpoint
from grafiqs.compute.network import load_network
from grafiqs.errors import RequestError
from grafiqs.images.preprocessing import USUAL, Preprocessing
from grafiqs.options.extract import Options
from support import published
from support.commands import Capture, run
from support.making import make_faces, recorded_statistics

State = dict[str, Tensor]

SLIM = (16, 16, 16, 16)
WIDE = (64, 64, 64, 64)

ROUTE = "any other network with BatchNorm2d goes by --backbone package.module:factory --blocks NAME,NAME,NAME,NAME"


def filled(network: nn.Module) -> State:
    """The weights of a network that no other has, and that are no fresh ones."""
    generator = torch.Generator().manual_seed(0)
    found = {key: value.clone() for key, value in network.state_dict().items()}
    for value in found.values():
        if value.is_floating_point():
            value.uniform_(*((-0.1, 0.1) if value.ndim > 1 else (0.5, 1.5)), generator=generator)
    return found


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "iresnet18": lambda: published.IResNet((2, 2, 2, 2), SLIM, 8),
    "iresnet18_se": lambda: published.IResNet((2, 2, 2, 2), SLIM, 8, se=True),
    "ir_50": lambda: published.IR(published.evolve_parts, (3, 4, 14, 3), SLIM, 8, affine=True),
    "ir_152": lambda: published.IR(published.evolve_parts, (3, 8, 36, 3), SLIM, 8, affine=True),
    "adaface_ir_18": lambda: published.IR(published.adaface_parts, (2, 2, 2, 2), SLIM, 8),
    "adaface_ir_50": lambda: published.IR(published.adaface_parts, (3, 4, 14, 3), SLIM, 8),
    "adaface_ir_se_50": lambda: published.IR(published.adaface_parts, (3, 4, 14, 3), SLIM, 8, se=True),
    "adaface_ir_152": lambda: published.IR(published.bottleneck_parts, (3, 8, 36, 3), WIDE, 8, stem=16),
    "mobilefacenet": lambda: published.BubbliiiingMobile(8),
    "mobilefacenet_insightface": lambda: published.InsightFaceMobile(8),
    "mobilefacenet_relu6": lambda: published.FoamliuMobile(8),
    "mbf": lambda: published.Mbf(scale=1, size=8),
}
"""A network of every naming, as narrow as it can be."""


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    return {name: filled(build()) for name, build in NETWORKS.items()}


def load(content: Any, folder: Path, backbone: str | None = None) -> Checkpoint:
    torch.save(content, folder / "net.pth")
    return load_checkpoint(folder / "net.pth", backbone)


def refused(content: Any, folder: Path) -> str:
    with pytest.raises(RequestError) as caught:
        load(content, folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.partition("net.pth ")[2]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


# -- as they are published ---------------------------------------------------------------------------------

PREFIXES = ("", "module.", "backbone.", "model.", "net.", "encoder.module.", "_orig_mod.")
DRESSES: dict[str, Callable[[State], Any]] = {
    **{prefix or "bare": partial(prefixed, prefix=prefix) for prefix in PREFIXES},
    "Lightning": lambda state: {
        "state_dict": {
            **prefixed(state, "model."),
            "head.kernel": torch.zeros(8, 5),
            "head.t": torch.zeros(1),
            "head.batch_mean": torch.ones(1),
        },
        "hyper_parameters": {"arch": "ir_50", "lr": 0.1, "lr_milestones": [12, 20]},
        "callbacks": {},
        "pytorch-lightning_version": "1.6.0",
        "epoch": 3,
    },
    "a classifier beside it": lambda state: {"backbone": state, "head": {"kernel": torch.zeros(8, 5)}, "epoch": 3},
    "half precision": lambda state: {
        key: value.half() if value.is_floating_point() else value for key, value in state.items()
    },
    "a layer for quality": lambda state: {**state, "qs.weight": torch.zeros(1, 8), "qs.bias": torch.zeros(1)},
}


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("name", ["iresnet18", "adaface_ir_18", "mobilefacenet_insightface"])
def test_networks_are_told_however_they_are_dressed(
    states: dict[str, State], name: str, dress: str, tmp_path: Path
) -> None:
    checkpoint = load(DRESSES[dress](states[name]), tmp_path)
    assert (checkpoint.backbone, checkpoint.told, checkpoint.weights_key) == (name, "keys", None)
    found = checkpoint.network.state_dict()
    assert found.keys() == states[name].keys()
    tolerance = 1e-3 if dress == "half precision" else 0
    assert all(torch.allclose(found[key], value, rtol=0, atol=tolerance) for key, value in states[name].items())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_naming_is_told(states: dict[str, State], name: str, tmp_path: Path) -> None:
    checkpoint = load(states[name], tmp_path)
    assert (checkpoint.backbone, checkpoint.embedding_size) == (name, 8)
    found = checkpoint.network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in states[name].items())


def test_an_ir_network_whose_last_norm_has_no_weights(tmp_path: Path) -> None:
    """As CurricularFace's."""
    network = recorded_statistics(lambda: published.IR(published.evolve_parts, (3, 4, 14, 3), SLIM, 8, affine=False))
    checkpoint = load(network.state_dict(), tmp_path)
    assert checkpoint.backbone == "ir_50"
    images = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(checkpoint.network(images), network(images))


# -- what their input is -----------------------------------------------------------------------------------

MAGFACE = Preprocessing("bgr", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ("features.module.", "prefix"),
        ("state_dict.features.module.", "prefix"),
        ("features.", "parent"),
        ("module.features.", "parent"),
        ("a.features.", "parent"),
    ],
)
def test_magface_is_told_by_its_prefix(states: dict[str, State], prefix: str, told: str, tmp_path: Path) -> None:
    """Of which `features` alone stands before many a network's keys."""
    content = {**prefixed(states["iresnet18"], prefix), "fc.weight": torch.zeros(8, 5)}
    checkpoint = load(content, tmp_path)
    assert (checkpoint.backbone, checkpoint.told, checkpoint.assumed) == ("magface_iresnet18", told, told == "parent")
    assert checkpoint.preprocessing == MAGFACE
    assert {module.eps for module in checkpoint.network.modules() if isinstance(module, nn.BatchNorm2d)} == {2e-5}
    plain = load(content, tmp_path, "iresnet18")
    assert (plain.backbone, plain.told, plain.preprocessing) == ("iresnet18", "keys", USUAL)


def test_magface_without_its_prefix_is_what_one_asks_for(states: dict[str, State], tmp_path: Path) -> None:
    assert set(MAGFACE_DEPTHS) == {f"magface_iresnet{depth}" for depth in (18, 34, 50, 100)}
    for prefix in ("", "module.", "features_of.", "my_features.module."):
        content = prefixed(states["iresnet18"], prefix)
        assert load(content, tmp_path).backbone == "iresnet18"
        checkpoint = load(content, tmp_path, "magface_iresnet18")
        assert (checkpoint.told, checkpoint.preprocessing) == ("option", MAGFACE)


OTHERWISE = "--channel-order, --mean and --std say otherwise)"
ASSUMED = f" (assumed: its keys do not say what it was trained on; {OTHERWISE}"
AS_OTHERS = f" (assumed: the name before its keys is its publisher's, and that of others, too; --backbone, {OTHERWISE}"

AS_MAGFACE = {"channel_order": "bgr", "mean": (0.0,), "std": (1.0,)}

INPUTS: dict[str, tuple[str, str, dict[str, Any], str, bool]] = {
    "by its keys": ("iresnet18", "", {}, f"{USUAL}{ASSUMED}", False),
    "another than by its keys": ("iresnet18", "", AS_MAGFACE, str(MAGFACE), False),
    "the same as by its keys": ("iresnet18", "", {"mean": (0.5,)}, str(USUAL), False),
    "by its prefix": ("iresnet18", "features.module.", {}, str(MAGFACE), False),
    "the right one for its prefix": ("iresnet18", "features.module.", AS_MAGFACE, str(MAGFACE), False),
    "by half its prefix": ("iresnet18", "features.", {}, f"{MAGFACE}{AS_OTHERS}", False),
    "another than by half its prefix": (
        *("iresnet18", "features.", {"backbone": "iresnet18", "mean": (0.4,)}),
        *("112x112 RGB, mean 0.4 0.4 0.4, std 0.5 0.5 0.5", False),
    ),
    "another than by its prefix": (
        *("iresnet18", "features.module.", {"channel_order": "rgb"}),
        *("112x112 RGB, mean 0 0 0, std 1 1 1", True),
    ),
    "AdaFace": ("adaface_ir_18", "model.", {}, f"{Preprocessing('bgr')}{ASSUMED}", False),
    "AdaFace, RGB": ("adaface_ir_18", "net.", {"channel_order": "rgb"}, str(USUAL), False),
    "AdaFace, RGB in an older way": ("adaface_ir_18", "net.", {"bgr2rgb": True}, str(USUAL), False),
}
"""A network, a prefix, options; the input that the log states, and whether it warns of a wrong one."""


@pytest.mark.parametrize("kind", INPUTS)
def test_what_is_assumed_of_an_input_is_said_and_the_right_one_draws_no_warning(
    states: dict[str, State],
    kind: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, prefix, options, said, warned = INPUTS[kind]
    monkeypatch.setattr(logging.getLogger("grafiqs"), "handlers", [caplog.handler])
    torch.save(prefixed(states[name], prefix), tmp_path / "net.pth")
    checkpoint = load_network(Options(image_path=tmp_path, weights=tmp_path / "net.pth", **options))
    assert checkpoint.input() == said
    assert ("is known to expect" in caplog.text) == warned


@pytest.mark.usefixtures("one_thread")
def test_the_log_of_a_run_says_what_is_assumed(states: dict[str, State], tmp_path: Path, capsys: Capture) -> None:
    torch.save(states["adaface_ir_18"], tmp_path / "net.pth")
    command = ["extract", "--image-path", make_faces(tmp_path / "faces", {"ann": 1}), "--weights", tmp_path / "net.pth"]
    assert run(*command, "--layers", "block4", "--device", "cpu", "--dry-run") == 0
    assert f"Input: {Preprocessing('bgr')}{ASSUMED}\n" in capsys.readouterr().out


# -- damaged ones ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_key_that_is_missing_is_named(states: dict[str, State], name: str, tmp_path: Path) -> None:
    keys = [key for key in states[name] if not key.endswith("num_batches_tracked")]
    for key in (keys[0], keys[len(keys) // 2], [key for key in keys if key.endswith("running_var")][-1]):
        state = {other: value for other, value in states[name].items() if other != key}
        assert refused(state, tmp_path) == f"lacks 1 keys of its network: {key}"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_key_of_another_shape_is_named(states: dict[str, State], name: str, tmp_path: Path) -> None:
    key = [key for key, value in states[name].items() if value.ndim == 4][3]
    shape = tuple(states[name][key].shape)
    state = {**states[name], key: torch.zeros(*shape[:2], 5, 5)}
    assert refused(state, tmp_path) == (f"has 1 keys of another shape: {key} {(*shape[:2], 5, 5)} instead of {shape}")


@pytest.mark.parametrize("name", NETWORKS)
def test_statistics_that_were_never_learned(name: str, tmp_path: Path) -> None:
    message = refused(NETWORKS[name]().state_dict(), tmp_path)
    assert message.endswith("GraFIQs cannot be computed from it; give the weights of a trained network")
    assert "BatchNorm2d that never learned statistics (running_mean is 0 and running_var 1 in all of them)" in message


def of_224(state: State, key: str) -> State:
    """With a head for maps of 14x14."""
    return {**state, key: torch.ones(len(state[key]), state[key].shape[1] * 4)}


SIZED = f"which is not known here: {ROUTE} --input-size"
HEADLESS = f", which is not known here: {ROUTE}"

FORMS: dict[str, tuple[str, Callable[[State], State], str]] = {
    "IR at 224": (
        "adaface_ir_18",
        lambda s: of_224(s, "output_layer.3.weight"),
        f"for images of 224x224, {SIZED} 224x224",
    ),
    "iresnet at 224": ("iresnet18", lambda s: of_224(s, "fc.weight"), f"for images of 224x224, {SIZED} 224x224"),
    "IR at 112x96": (
        "ir_50",
        lambda s: {**s, "output_layer.3.weight": torch.ones(8, 16 * 42)},
        f"for images of another size than 112x112, which is not known here: {ROUTE}",
    ),
    "MobileFaceNet at 112x96": (
        "mobilefacenet_insightface",
        lambda s: {**s, "conv_6_dw.conv.weight": torch.ones(512, 1, 7, 6)},
        f"for images of 112x96, {SIZED} 112x96",
    ),
    "grey": (
        "iresnet18",
        lambda s: {**s, "conv1.weight": torch.ones(16, 1, 3, 3)},
        f"that takes 1 channel, not 3{HEADLESS}",
    ),
    "depth beside colour": (
        "adaface_ir_18",
        lambda s: {**s, "input_layer.0.weight": torch.ones(16, 4, 3, 3)},
        f"that takes 4 channels, not 3{HEADLESS}",
    ),
    "grey, at 224": (
        "iresnet18",
        lambda s: {**of_224(s, "fc.weight"), "conv1.weight": torch.ones(16, 1, 3, 3)},
        f"that takes 1 channel, not 3 and for images of 224x224, {SIZED} 224x224",
    ),
    "classifier": (
        "iresnet18",
        lambda s: {**without(s, "features."), "fc.weight": torch.ones(5, 784), "fc.bias": torch.ones(5)},
        f"that has another head (it lacks features){HEADLESS}",
    ),
    "classifier after a mean": (
        "iresnet18",
        lambda s: {**without(s, "features."), "fc.weight": torch.ones(5, 16), "fc.bias": torch.ones(5)},
        f"that has another head (it lacks features){HEADLESS}",
    ),
    "a mean": (
        "iresnet18",
        lambda s: {**s, "fc.weight": torch.ones(8, 16)},
        f"that has another head (fc){HEADLESS}",
    ),
    "trunk of iresnet": (
        "iresnet18",
        lambda s: without(s, "features.", "fc."),
        f"that has no head (it lacks fc, features){HEADLESS}",
    ),
    "trunk of IR": (
        "adaface_ir_18",
        lambda s: without(s, "output_layer.3", "output_layer.4"),
        f"that has no head (it lacks output_layer.3, output_layer.4){HEADLESS}",
    ),
    "trunk of a MobileFaceNet": (
        "mobilefacenet_insightface",
        lambda s: without(s, "linear.", "bn."),
        f"that has no head (it lacks linear, bn){HEADLESS}",
    ),
}
"""A network, what is another in its file, and what is said of it."""


@pytest.mark.parametrize("kind", FORMS)
def test_a_network_of_another_input_or_head_is_not_called_damaged(
    states: dict[str, State], kind: str, tmp_path: Path
) -> None:
    name, change, said = FORMS[kind]
    article = "a" if name.startswith("m") else "an"
    assert refused(change(states[name]), tmp_path) == f"is {article} {name} {said}"


# -- relatives ---------------------------------------------------------------------------------------------


def more(state: State, *extra: str) -> State:
    return {**state, **{key: torch.ones(16) for key in extra}}


def without(state: State, *starts: str) -> State:
    return {key: value for key, value in state.items() if not key.startswith(starts)}


RELATIVES: dict[str, tuple[Callable[[dict[str, State]], State], str]] = {
    "a unit more": (
        lambda s: {
            **s["ir_50"],
            **{key.replace("body.23.", "body.24."): value for key, value in s["ir_50"].items() if "body.23." in key},
        },
        "nearest: ir_50, which lacks 13 that this has: body.24.res_layer.0.weight, ",
    ),
    "half the units": (
        lambda s: without(s["iresnet18"], "layer3.1.", "layer4.1."),
        "nearest: iresnet18, which has 30 keys that this lacks: layer3.1.bn1.weight, ",
    ),
    "a norm more": (lambda s: more(s["ir_50"], "body.3.res_layer.2.bias"), "nearest: ir_50, which lacks 1 that this"),
    "a bias": (lambda s: more(s["iresnet18"], "layer1.0.conv1.bias"), "nearest: iresnet18, which lacks 1 that this"),
    "units of two kinds": (
        lambda s: {
            **{key: value for key, value in s["ir_50"].items() if not key.startswith("body.1")},
            **{key: value for key, value in s["adaface_ir_50"].items() if key.startswith("body.1")},
        },
        "nearest: ",
    ),
    "another end": (
        lambda s: {
            **without(s["mobilefacenet_insightface"], "linear.", "bn.", "conv_6_dw."),
            "output_layer.linear.weight": torch.ones(8, 512),
            "output_layer.bn.running_var": torch.ones(8),
        },
        "nearest: mobilefacenet_insightface, which has 10 keys that this lacks: conv_6_dw.conv.weight, ",
    ),
    "no weights of the trunk's first layer, but a head": (
        lambda s: {**without(s["iresnet18"], "conv1."), "stem.weight": torch.ones(3)},
        "nearest: iresnet18, which has 1 keys that this lacks: conv1.weight, and lacks 1 that this has: stem.weight",
    ),
    "other shapes throughout": (
        lambda s: {
            **{
                key: value[: len(value) // 2] if value.ndim else value
                for key, value in s["mobilefacenet_insightface"].items()
            },
            "prob.weight": torch.ones(3, 128),
        },
        "nearest: mobilefacenet_insightface, which has ",
    ),
}
"""Networks that share most of their keys with a known one, and are another."""


@pytest.mark.parametrize("kind", RELATIVES)
def test_relatives_are_neither_taken_for_a_known_network_nor_for_a_damaged_one(
    states: dict[str, State], kind: str, tmp_path: Path
) -> None:
    change, told = RELATIVES[kind]
    message = refused(change(states), tmp_path)
    assert message.startswith(f"is not one of the networks known here ({told}")
    assert message.endswith(ROUTE)


class BasicBlock(nn.Module):
    """Of torchvision's ResNets."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


def resnet() -> nn.Module:
    network = nn.Module()
    network.conv1, network.bn1 = nn.Conv2d(3, 8, 7, 2, bias=False), nn.BatchNorm2d(8)
    for stage in range(1, 5):
        units = [BasicBlock(8, 8, 1 if unit or stage == 1 else 2) for unit in range(2)]
        network.add_module(f"layer{stage}", nn.Sequential(*units))
    network.fc = nn.Linear(8, 10)
    return network


def inception() -> nn.Module:
    """As FaceNet's InceptionResnetV1 begins."""
    network = nn.Module()
    for name in ("conv2d_1a", "conv2d_2a", "last"):
        part = nn.Module()
        part.conv, part.bn = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        network.add_module(name, part)
    return network


UNKNOWN: dict[str, tuple[Callable[[], State], str]] = {
    "torchvision's ResNet": (
        lambda: filled(resnet()),
        "is not one of the networks known here (nearest: iresnet18, which has ",
    ),
    "FaceNet": (
        lambda: filled(inception()),
        "is not one of the networks known here (its keys begin with conv2d_1a.conv.weight, ",
    ),
    "SphereFace": (
        lambda: {
            "conv1_1.weight": torch.ones(8, 3, 3, 3),
            "relu1_1.weight": torch.ones(8),
            "fc5.weight": torch.ones(2, 2),
        },
        "holds a network without statistics of BatchNorm (running_mean, running_var; its keys begin with conv1_1",
    ),
    "a transformer": (
        lambda: {"patch_embed.proj.weight": torch.ones(2, 3, 4, 4), "blocks.0.norm1.weight": torch.ones(2)},
        "GraFIQs cannot be computed from it",
    ),
    "a transformer of insightface's": (
        lambda: {
            "patch_embed.proj.weight": torch.ones(2, 3, 4, 4),
            "feature.0.weight": torch.ones(2, 8),
            "feature.1.running_mean": torch.ones(2),
            "feature.1.running_var": torch.ones(2),
        },
        "holds a network whose BatchNorm all follow linear layers (BatchNorm1d), without a BatchNorm2d",
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_other_networks_are_not_judged_by_the_keys_of_a_known_one(kind: str, tmp_path: Path) -> None:
    make, told = UNKNOWN[kind]
    message = refused(make(), tmp_path)
    assert told in message
    assert message.endswith(ROUTE if "not one of" in told else "GraFIQs cannot be computed from it")


def test_a_file_of_countless_networks_does_not_keep_one_waiting(tmp_path: Path) -> None:
    content = {f"a{number}.layer{stage}.0.conv1.weight": torch.zeros(1) for number in range(2000) for stage in (1, 2)}
    assert "GraFIQs cannot be computed from it" in refused(content, tmp_path)
    content["running_var"] = torch.zeros(1)
    assert "is not one of the networks known here" in refused(content, tmp_path)


def test_the_definitions_apart_are_not_those_of_the_package() -> None:
    """Else the comparison would be of a thing with itself."""
    assert not [name for name, value in vars(published).items() if "grafiqs" in getattr(value, "__module__", "")]
