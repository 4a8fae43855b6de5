"""From checkpoint files to networks: every form they come in, and everything that is refused."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import pickle
import random
import re
import time
import warnings
import zipfile
from argparse import Namespace
from code import InteractiveConsole
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from grafiqs.backbones.catalogue import DEPTHS, IR_DEPTHS, WIDTHS
from grafiqs.backbones.checkpoint import load_checkpoint
from grafiqs.backbones.ir import IRNet
from grafiqs.backbones.iresnet import IResNet
from grafiqs.backbones.weights import check_file
from grafiqs.errors import RequestError
from grafiqs.images.preprocessing import IMAGENET, USUAL, Preprocessing
from support.making import REAL, random_network, widths_of

State = dict[str, Tensor]

SLIM = (2, 3, 4, 5)
"""Stage widths that tell all stages apart, and take no time."""


@pytest.fixture(scope="module")
def network() -> IResNet:
    return random_network(widths=SLIM, embedding_size=7)


@pytest.fixture
def state(network: IResNet) -> State:
    """The network's state dict, for a test to change."""
    return dict(network.state_dict())


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the package logs, whatever the command line did to its logger before."""
    logger = logging.getLogger("grafiqs")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "propagate", False)
    caplog.set_level(logging.INFO, logger="grafiqs")
    return caplog


def saved(content: Any, path: Path, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


def learned(network: nn.Module) -> nn.Module:
    """The network with statistics that are not those it was made with."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.fill_(0.125)  # type: ignore[union-attr]
    return network


def refused(path: Path, backbone: str | None = None, key: str | None = None, lines: int = 1) -> str:
    """Why the checkpoint is refused: one line that names it, or so many."""
    with pytest.raises(RequestError) as caught:
        load_checkpoint(path, backbone, key)
    message = str(caught.value)
    assert len(message.splitlines()) == lines
    assert path.name in message
    return message


def same_weights(found: nn.Module, expected: nn.Module) -> bool:
    ours, theirs = found.state_dict(), expected.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in theirs)


def same_embeddings(found: nn.Module, expected: nn.Module) -> bool:
    images = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    return torch.equal(found(images), expected(images))


# -- the forms that checkpoints come in --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.ckpt", "a.bin", "a", "a.safetensors", "ä \n\x1b[1m.pth"])
def test_every_kind_of_file(network: IResNet, state: State, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.path == path
    assert checkpoint.backbone == "iresnet18"
    assert widths_of(checkpoint) == SLIM
    assert checkpoint.embedding_size == 7
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert same_embeddings(checkpoint.network, network)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_name_that_is_not_utf_8(network: IResNet, state: State, suffix: str, tmp_path: Path) -> None:
    plain = tmp_path / f"plain{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, plain)
    path = plain.with_name(os.fsdecode(b"\xff\xfe") + suffix)
    try:
        plain.rename(path)
    except OSError:
        pytest.skip("the file system takes no such name")
    assert same_weights(load_checkpoint(path).network, network)


def test_the_network_is_frozen_and_ready_to_run(state: State, tmp_path: Path) -> None:
    loaded = load_checkpoint(saved(state, tmp_path / "a.pth")).network
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    tensors = {key: value for key, value in loaded.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    assert {value.device.type for value in loaded.state_dict().values()} == {"cpu"}
    assert all(value.is_contiguous() for value in tensors.values())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_network_does_not_change_with_its_file(network: IResNet, state: State, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    checkpoint = load_checkpoint(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert same_embeddings(checkpoint.network, network)


@pytest.mark.parametrize(
    "nest",
    [(nest,) for nest in ("state_dict", "model_state_dict", "net_state_dict", "model", "net", "backbone")]
    + [("model", "state_dict")],
    ids=".".join,
)
def test_every_nest(network: IResNet, state: State, nest: tuple[str, ...], tmp_path: Path) -> None:
    content: dict[str, Any] = state
    for name in reversed(nest):
        content = {"epoch": 3, "loss": 0.5, "optimizer": {"state": {}, "lr": [0.1]}, name: content}
    assert same_weights(load_checkpoint(saved(content, tmp_path / "a.pth")).network, network)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "backbone.", "model.", "arcface.", "module.backbone.", "model.module.", "_orig_mod.module.", "a.b.c."],
)
@pytest.mark.parametrize("nest", [None, "state_dict"])
def test_every_prefix(network: IResNet, state: State, prefix: str, nest: str | None, tmp_path: Path) -> None:
    content: dict[str, Any] = {prefix + key: value for key, value in state.items()}
    path = saved({nest: content} if nest else content, tmp_path / "a.pth")
    assert same_weights(load_checkpoint(path).network, network)


def test_a_prefix_in_a_safetensors_file(network: IResNet, state: State, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({f"module.{key}": value for key, value in state.items()}, path)
    assert same_weights(load_checkpoint(path).network, network)


def test_the_file_format_of_old_versions_of_torch(network: IResNet, state: State, tmp_path: Path) -> None:
    path = saved(state, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert path.read_bytes()[:2] == b"\x80\x02"  # a pickle, not a zip
    assert same_weights(load_checkpoint(path).network, network)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision(state: State, dtype: torch.dtype, tmp_path: Path) -> None:
    other = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    expected = IResNet(DEPTHS["iresnet18"], SLIM, 7).eval()
    expected.load_state_dict({key: value.float() for key, value in other.items()})
    loaded = load_checkpoint(saved(other, tmp_path / "a.pth")).network
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert same_embeddings(loaded, expected)


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_that_lay_on_a_gpu(
    network: IResNet, state: State, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _storage: "cuda:0")
    path = saved(state, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    monkeypatch.undo()
    assert b"cuda:0" in path.read_bytes()
    assert same_embeddings(load_checkpoint(path).network, network)


def test_older_checkpoints_without_batch_counters(network: IResNet, state: State, tmp_path: Path) -> None:
    older = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(older) < len(state)
    assert same_embeddings(load_checkpoint(saved(older, tmp_path / "a.pth")).network, network)


@pytest.mark.parametrize("backbone", DEPTHS)
def test_the_backbone_is_told_from_the_checkpoint(backbone: str, tmp_path: Path) -> None:
    deep = learned(IResNet(DEPTHS[backbone], SLIM, embedding_size=7))
    path = saved(deep.state_dict(), tmp_path / "a.pth")
    for asked in (None, backbone):
        checkpoint = load_checkpoint(path, asked)
        assert checkpoint.backbone == backbone
        assert widths_of(checkpoint) == SLIM
        assert checkpoint.embedding_size == 7
        assert checkpoint.shapes == {
            "image": (3, 112, 112),
            "block1": (2, 56, 56),
            "block2": (3, 28, 28),
            "block3": (4, 14, 14),
            "block4": (5, 7, 7),
        }
        assert same_weights(checkpoint.network, deep)


def test_heads_are_ignored_and_named(
    network: IResNet, state: State, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    content = {f"backbone.{key}": value for key, value in state.items()}
    content |= {"fc.weight": torch.zeros(10, 5), "head.kernel": torch.full((2,), math.nan)}
    content |= {"backbone.quality.weight": torch.zeros(3)}
    checkpoint = load_checkpoint(saved(content, tmp_path / "a.pth"))
    assert same_weights(checkpoint.network, network)
    assert said.messages == [
        "Ignoring 3 keys of a.pth beside the backbone: fc.weight, head.kernel, quality.weight",
    ]


def test_nothing_is_said_of_a_checkpoint_without_heads(
    state: State, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    load_checkpoint(saved(state, tmp_path / "a.pth"))
    assert said.messages == []


def test_names_that_could_command_a_terminal_are_shown_escaped(
    state: State, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    load_checkpoint(saved({**state, "\x1b[31mred\n": torch.zeros(1)}, tmp_path / "a\x1b[2J.pth"))
    assert said.messages == [r"Ignoring 1 keys of a\x1b[2J.pth beside the backbone: \x1b[31mred\n"]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def norm(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]


def published_names(depths: tuple[int, int, int, int]) -> list[str]:
    """The keys of the checkpoints that the authors of iresnet publish, in their order."""
    names = ["conv1.weight", *norm("bn1"), "prelu.weight"]
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            at = f"layer{stage}.{block}."
            names += [*norm(f"{at}bn1"), f"{at}conv1.weight", *norm(f"{at}bn2"), f"{at}prelu.weight"]
            names += [f"{at}conv2.weight", *norm(f"{at}bn3")]
            if block == 0:
                names += [f"{at}downsample.0.weight", *norm(f"{at}downsample.1")]
    return [*names, *norm("bn2"), "fc.weight", "fc.bias", *norm("features")]


@pytest.mark.parametrize("backbone", DEPTHS)
def test_the_names_are_those_of_published_checkpoints(backbone: str) -> None:
    with torch.device("meta"):
        wide = IResNet(DEPTHS[backbone])
    assert list(wide.state_dict()) == published_names(DEPTHS[backbone])


def test_the_shapes_are_those_of_published_checkpoints() -> None:
    with torch.device("meta"):
        wide = IResNet(DEPTHS["iresnet18"])
    shapes = {key: tuple(value.shape) for key, value in wide.state_dict().items()}
    assert WIDTHS == (64, 128, 256, 512)
    assert shapes["conv1.weight"] == (64, 3, 3, 3)
    assert shapes["prelu.weight"] == (64,)
    assert shapes["layer1.0.downsample.0.weight"] == (64, 64, 1, 1)
    assert shapes["layer2.0.conv1.weight"] == (128, 64, 3, 3)
    assert shapes["layer2.0.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["layer4.1.prelu.weight"] == (512,)
    assert shapes["bn2.running_var"] == (512,)
    assert shapes["fc.weight"] == (512, 25088)
    assert shapes["features.weight"] == (512,)


# -- what is refused ---------------------------------------------------------------------------------------


def test_another_backbone_than_the_one_asked_for(state: State, tmp_path: Path) -> None:
    message = refused(saved(state, tmp_path / "a.pth"), "iresnet34")
    assert "is an iresnet18" in message
    assert "not an iresnet34" in message
    assert "give --backbone iresnet18" in message


def test_an_unknown_depth(state: State, tmp_path: Path) -> None:
    extra = {key.replace("layer3.1.", "layer3.2."): value for key, value in state.items()}
    message = refused(saved({**state, **extra}, tmp_path / "a.pth"))
    assert "not one of the networks known here (nearest: iresnet18, which lacks " in message
    assert "that this has: layer3.2.bn1.weight, layer3.2.bn1.bias, " in message


def test_missing_keys_are_named(state: State, tmp_path: Path) -> None:
    del state["fc.bias"]
    path = saved(state, tmp_path / "a.pth")
    assert refused(path).endswith("lacks 1 keys of its network: fc.bias")
    for key in ("conv1.weight", "layer1.0.conv1.weight", "layer4.0.bn3.weight"):
        del state[key]
    assert refused(saved(state, path)).endswith(
        "lacks 4 keys of its network: conv1.weight, layer1.0.conv1.weight, layer4.0.bn3.weight, ..."
    )


def test_misshapen_keys_are_named(state: State, tmp_path: Path) -> None:
    state["layer2.0.conv1.weight"] = torch.zeros(3, 2, 5, 5)
    state["features.bias"] = torch.zeros(1)
    assert refused(saved(state, tmp_path / "a.pth")).endswith(
        "has 2 keys of another shape: layer2.0.conv1.weight (3, 2, 5, 5) instead of (3, 2, 3, 3), "
        "features.bias (1,) instead of (7,)"
    )


@pytest.mark.parametrize("key", ["fc.bias", "layer1.0.bn1.weight", "prelu.weight"])
def test_a_key_without_dimensions(state: State, key: str, tmp_path: Path) -> None:
    state[key] = torch.tensor(1.0)
    assert f"{key} () instead of" in refused(saved(state, tmp_path / "a.pth"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(state: State, value: float, tmp_path: Path) -> None:
    for key in ("layer3.0.bn2.running_var", "layer1.0.conv1.weight"):
        state[key] = state[key].clone()
        state[key].view(-1)[1] = value
    assert refused(saved(state, tmp_path / "a.pth")).endswith(
        "has 2 keys with values that are not finite: layer1.0.conv1.weight, layer3.0.bn2.running_var"
    )


def test_values_too_large_for_float32(state: State, tmp_path: Path) -> None:
    state["conv1.weight"] = state["conv1.weight"].double() * 1e100
    assert "conv1.weight" in refused(saved(state, tmp_path / "a.pth"))


UNFIT: dict[str, Callable[[Tensor], Tensor]] = {
    "whole numbers": lambda value: value.to(torch.int8),
    "complex numbers": lambda value: value.to(torch.complex64),
    "sparse": lambda value: value.to_sparse(),
    "no data": lambda value: value.to("meta"),
    "8 bits": lambda value: value.to(torch.float8_e4m3fn).fill_(math.nan),
}
"""What weights cannot be."""


@pytest.mark.parametrize("kind", UNFIT)
def test_tensors_that_are_no_weights(state: State, kind: str, tmp_path: Path) -> None:
    state["fc.weight"] = UNFIT[kind](state["fc.weight"])
    assert "fc.weight" in refused(saved(state, tmp_path / "a.pth"))


def test_two_networks_in_one_file(network: IResNet, state: State, tmp_path: Path) -> None:
    """Which of the two is meant nobody can tell, and a wrong guess would be told by no number."""
    two = {f"{prefix}{key}": value for prefix in ("student.", "teacher.") for key, value in state.items()}
    path = saved(two, tmp_path / "a.pth")
    assert refused(path).endswith("holds 2 networks: choose one with --weights-key, one of student, teacher")
    for key in ("student", "teacher"):
        checkpoint = load_checkpoint(path, key=key)
        assert (checkpoint.weights_key, checkpoint.source()["weights_key"]) == (key, key)
        assert same_weights(checkpoint.network, network)


EMAS: dict[str, tuple[Callable[[State, State], Any], str, str]] = {
    "side by side": (lambda one, other: {"state_dict": one, "ema": other}, "ema", "ema"),
    "deeper": (lambda one, other: {"model": one, "model_ema": {"module": other}}, "model_ema", "model_ema.module"),
    "within": (lambda one, other: {"state_dict": {**one, **prefixed(other, "ema.")}}, "ema", "state_dict.ema"),
    "part of the names": (lambda one, other: {"a": {"b": {"c": one}, "d": {"c": other}}}, "d", "a.d.c"),
    "the top": (lambda one, other: {**other, **prefixed(one, "ema.")}, ".", ""),
    "the outer one": (lambda one, other: {"net": {**other, **prefixed(one, "ema.")}}, "net", "net"),
}


@pytest.mark.parametrize("kind", EMAS)
def test_one_of_several_networks_is_chosen_by_its_names(state: State, kind: str, tmp_path: Path) -> None:
    make, key, names = EMAS[kind]
    other = random_network(widths=SLIM, seed=1, embedding_size=7)
    path = saved(make(state, dict(other.state_dict())), tmp_path / "a.pth")
    assert "holds 2 networks: choose one with --weights-key, one of" in refused(path)
    checkpoint = load_checkpoint(path, key=key)
    assert same_weights(checkpoint.network, other)
    assert checkpoint.weights_key == names
    assert "--weights-key nothing names none of them: give one of " in refused(path, key="nothing")


def test_a_key_that_names_the_only_network_changes_nothing(network: IResNet, state: State, tmp_path: Path) -> None:
    path = saved({"state_dict": prefixed(state, "module.")}, tmp_path / "a.pth")
    checkpoint = load_checkpoint(path, key="state_dict")
    assert same_weights(checkpoint.network, network)
    assert "weights_key" not in checkpoint.source()
    assert refused(path, key="ema").endswith(
        "holds one network, at state_dict.module, which --weights-key ema does not name"
    )


def test_a_moving_average_of_weights_alone_is_no_second_network(network: IResNet, state: State, tmp_path: Path) -> None:
    """It has no statistics of its own."""
    average = {key: value + 1 for key, value in state.items() if "running" not in key}
    path = saved({"state_dict": state, "ema": average}, tmp_path / "a.pth")
    assert same_weights(load_checkpoint(path).network, network)


def endless(*names: str) -> dict[str, Any]:
    """A mapping that holds itself, as a pickle may say it."""
    content: dict[str, Any] = {}
    content.update(dict.fromkeys(names, content))
    return content


NO_TENSORS = "holds no tensors by name: it is not a checkpoint of a network"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, NO_TENSORS),
        ({"epoch": 3}, NO_TENSORS),
        ({"conv.weight": torch.zeros(1), "bias": torch.zeros(1)}, "begin with conv.weight, bias): GraFIQs cannot"),
        ({"\x1b[31m": torch.zeros(1)}, r"its keys begin with \x1b[31m): GraFIQs cannot"),
        ({"state_dict": {1: torch.zeros(1)}}, NO_TENSORS),
        (endless("state_dict"), NO_TENSORS),
        ([torch.zeros(1)], NO_TENSORS),
        (torch.zeros(1), "holds a Tensor, not a state dict: save the network's with torch.save(network.state_dict(), "),
        (None, "holds a NoneType, not a state dict"),
    ],
    ids=["empty", "numbers", "other keys", "escapes", "no names", "endless", "list", "tensor", "nothing"],
)
def test_what_holds_no_iresnet(content: Any, told: str, tmp_path: Path) -> None:
    assert told in refused(saved(content, tmp_path / "a.pth"))


def test_a_mapping_that_holds_itself_in_many_ways_does_not_keep_one_waiting(tmp_path: Path) -> None:
    path = saved(endless("state_dict", "model", *"abcde"), tmp_path / "a.pth")
    started = time.monotonic()
    assert NO_TENSORS in refused(path)
    assert time.monotonic() - started < 2


ADVICE = 9
"""Lines of a message that says how to save the weights alone."""


def hostile(marker: Path) -> object:
    """An object whose unpickling makes the folder `marker`."""
    return type("Hostile", (), {"__reduce__": lambda _self: (os.mkdir, (str(marker),))})()


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_nothing_in_a_checkpoint_is_executed(state: State, form: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(hostile(marker), protocol=2))
    else:
        content = {"state_dict": state, "callbacks": hostile(marker)}
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    assert "could run code" in refused(path, lines=ADVICE)
    assert not marker.exists()
    with suppress(RuntimeError):
        torch.load(path, weights_only=False)
    assert marker.exists()  # the file would have done it


def follow(message: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Type the lines of Python that a message ends with at a prompt, where the file is; what they write."""
    monkeypatch.chdir(folder)
    prompt = InteractiveConsole({})
    failed: list[str] = []
    monkeypatch.setattr(prompt, "write", failed.append)
    more = False
    for line in message.splitlines()[1:]:
        more = prompt.push(line)
    assert (failed, more) == ([], False)
    return folder / "weights.pth"


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_pickled_network_is_not_opened(
    network: IResNet, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(network, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    message = refused(path, lines=ADVICE)
    assert "hold more than tensors (grafiqs.backbones.iresnet.IResNet), and opening them could run code" in message
    assert "save its state_dict alone" in message
    assert same_weights(load_checkpoint(follow(message, tmp_path, monkeypatch)).network, network)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("nest", ["state_dict", "model", ""])
def test_objects_beside_the_weights_are_not_made(
    network: IResNet, state: State, nest: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how to save the weights alone, and does."""
    content = {"args": Namespace(lr=0.1), **({nest: state} if nest else state)}
    path = saved(content, tmp_path / "it's.pth", _use_new_zipfile_serialization=not legacy)
    message = refused(path, lines=ADVICE)
    assert "hold more than tensors (argparse.Namespace), and opening them could run code" in message
    assert same_weights(load_checkpoint(follow(message, tmp_path, monkeypatch)).network, network)


def arrays(state: State) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in state.items()}


def under(name: str, _: IResNet, state: State) -> Any:
    return {"args": Namespace(lr=0.1), name: state}


NAMES = ("weights", "network", "net_dict", "params", "student", "encoder", "module", "generator", "backbone_state_dict")

OBJECTS: dict[str, Callable[[IResNet, State], Any]] = {
    **{name: partial(under, name) for name in NAMES},
    "state_dict_backbone": lambda _, state: {"epoch": 3, "args": Namespace(lr=0.1), "state_dict_backbone": state},
    "model is a string": lambda _, state: {"model": "iresnet", "weights": state, "cfg": Namespace()},
    "state_dict is a network": lambda network, _: {"state_dict": network},
    "model is a network": lambda network, _: {"epoch": 3, "model": network},
    "in parallel": lambda network, _: nn.DataParallel(network),
    "in a list": lambda network, _: [network, Namespace()],
    "arrays": lambda _, state: arrays(state),
    "arrays of another machine": lambda _, state: {key: value.astype(">f8") for key, value in arrays(state).items()},
    "arrays by numbers": lambda _, state: {"params": [Namespace(), arrays(state)], "names": np.array(["a"])},
}
"""What checkpoints hold beside and around tensors."""


@pytest.mark.parametrize("kind", OBJECTS)
def test_the_advice_saves_the_weights_wherever_they_stand(
    network: IResNet, state: State, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refused(saved(OBJECTS[kind](network, state), tmp_path / "a.pth"), lines=ADVICE)
    assert same_weights(load_checkpoint(follow(message, tmp_path, monkeypatch)).network, network)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_the_advice_for_a_pickle_of_arrays(
    network: IResNet, state: State, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As VGGFace2's .pkl and Paddle's .pdparams are."""
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({**arrays(state), "StructuredToParameterName@@": {}}, protocol))
    message = refused(path, lines=ADVICE)
    assert "hold more than tensors" in message
    assert ", in a pickle that PyTorch did not write, and opening them could run code" in message
    assert same_weights(load_checkpoint(follow(message, tmp_path, monkeypatch)).network, network)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [4, 5])
def test_a_later_pickle_protocol_is_named(
    network: IResNet, state: State, protocol: int, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": not legacy}
    message = refused(saved(state, tmp_path / "a.pth", **how), lines=ADVICE)
    assert f"were saved with pickle_protocol={protocol} (save them again without pickle_protocol), and" in message
    assert same_weights(load_checkpoint(follow(message, tmp_path, monkeypatch)).network, network)


def test_state_dicts_in_lists_are_read(network: IResNet, state: State, tmp_path: Path) -> None:
    for content in ([state], (state, {"epoch": 1}), {"net_dict": [3, state]}, [[0.5], {"a": (state,)}]):
        assert same_weights(load_checkpoint(saved(content, tmp_path / "a.pth")).network, network)
    other = random_network(widths=SLIM, seed=1, embedding_size=7)
    path = saved([state, dict(other.state_dict())], tmp_path / "a.pth")
    assert refused(path).endswith("holds 2 networks: choose one with --weights-key, one of 0, 1")
    assert same_weights(load_checkpoint(path, key="1").network, other)


def test_negative_variances_are_refused(state: State, tmp_path: Path) -> None:
    state["layer3.0.bn2.running_var"] = -state["layer3.0.bn2.running_var"]
    message = refused(saved(state, tmp_path / "a.pth"))
    assert message.endswith("has 1 keys with negative variances: layer3.0.bn2.running_var")


def test_norms_that_never_learned_beside_others_that_did_draw_a_warning(
    state: State, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    path = saved(state, tmp_path / "a.pth")
    load_checkpoint(path)
    assert "warning" not in said.text
    for name, value in (("mean", torch.zeros), ("var", torch.ones)):
        state[f"layer3.0.bn2.running_{name}"] = value(4)
    load_checkpoint(saved(state, path))
    warned = f"warning: 1 of 30 BatchNorm2d of {path} have never learned statistics (layer3.0.bn2): scores mean nothing"
    assert warned in said.text


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("written_by", ["numpy._core", "numpy.core"])
def test_numbers_of_numpy_beside_the_weights_are_passed_over(
    network: IResNet, state: State, written_by: str, legacy: bool, tmp_path: Path
) -> None:
    numbers = [np.float64(0.5), np.float32(1), np.int64(3), np.bool_(True), np.float16(2), np.dtype("int32")]
    content = {"epoch": np.int64(3), "best": numbers, "state_dict": state}
    path = saved(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    if written_by == "numpy.core":  # as NumPy 1 names it
        path.write_bytes(renamed(path.read_bytes(), legacy))
    assert f"c{written_by}.multiarray\nscalar".encode() in path.read_bytes()
    assert same_weights(load_checkpoint(path).network, network)


def renamed(data: bytes, legacy: bool) -> bytes:
    """The same file with the other name of NumPy's module in its pickle."""
    names = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    if legacy:
        return data.replace(*names)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(*names) if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()


def test_a_torchscript_archive_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        message = refused(path)
    assert "are a TorchScript archive, whose code runs when it is opened" in message
    assert "save its state_dict alone" in message
    assert [str(warning.message) for warning in warned] == []  # the sentence says it all


def zipped(state: State) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def pickled(state: State) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


BROKEN: dict[str, Callable[[State], bytes]] = {
    "zeros.pth": lambda _: bytes(1000),
    "text.pth": lambda _: b"hello, these are no weights\n" * 20,
    "random.pth": lambda _: random.Random(0).randbytes(5000),
    "half.pth": lambda state: half(zipped(state)),
    "start.pth": lambda state: zipped(state)[:100],
    "half_legacy.pth": lambda state: half(pickled(state)),
    "text.safetensors": lambda _: b"hello, these are no weights\n" * 20,
    "half.safetensors": lambda state: half(safetensors.torch.save(state)),
    "start.safetensors": lambda state: safetensors.torch.save(state)[:100],
    "long.safetensors": lambda _: (2**40).to_bytes(8, "little") + b"{}",
}
"""Files that are no whole checkpoint of their kind."""


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_are_no_whole_checkpoint(state: State, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BROKEN[name](state))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        message = refused(path)
    assert "not a whole PyTorch or safetensors checkpoint" in message
    assert [str(warning.message) for warning in warned] == []  # the sentence says it all


# -- the path ----------------------------------------------------------------------------------------------


def test_no_path_is_given() -> None:
    with pytest.raises(RequestError, match=r"^--weights is needed: the checkpoint of the face recognition network$"):
        check_file(None)


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    for name in ("none.pth", "loop.pth"):
        with pytest.raises(RequestError, match=f"{name} do not exist or cannot be reached: check --weights$"):
            check_file(tmp_path / name)
    with pytest.raises(RequestError, match=f"{tmp_path.name} are not a file: --weights takes a checkpoint file$"):
        check_file(tmp_path)


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch()
    assert check_file(tmp_path / "a.pth") == tmp_path / "a.pth"


# -- other people's weights --------------------------------------------------------------------------------


@pytest.mark.skipif(not (REAL / "weights").is_dir(), reason="no real weights beside the checkout")
@pytest.mark.parametrize(
    ("name", "backbone", "preprocessing"),
    [
        ("bubbliiiing_arcface_mobilefacenet.pth", "mobilefacenet", USUAL),
        ("foamliu_mobilefacenet.pt", "mobilefacenet_relu6", IMAGENET),
    ],
)
def test_real_weights_are_told_by_their_keys(name: str, backbone: str, preprocessing: Preprocessing) -> None:
    checkpoint = load_checkpoint(REAL / "weights" / name)
    assert (checkpoint.backbone, checkpoint.embedding_size) == (backbone, 128)
    assert checkpoint.preprocessing == preprocessing
    assert checkpoint.shapes["block4"] == (512, 7, 7)
    with pytest.raises(RequestError, match="is a mobilefacenet"):
        load_checkpoint(REAL / "weights" / name, "ir_50")


@pytest.mark.parametrize(("backbone", "depths"), IR_DEPTHS.items())
@pytest.mark.parametrize("excitation", [False, True])
def test_ir_networks_are_told_by_their_keys(
    backbone: str, depths: tuple[int, int, int, int], excitation: bool, tmp_path: Path
) -> None:
    state = learned(IRNet(depths, excitation, (16, 17, 18, 19), embedding_size=7)).state_dict()
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "ir.pth")
    checkpoint = load_checkpoint(tmp_path / "ir.pth")
    assert checkpoint.backbone == (backbone.replace("ir_", "ir_se_") if excitation else backbone)
    assert (widths_of(checkpoint), checkpoint.embedding_size) == ((16, 17, 18, 19), 7)


def test_an_iresnet_with_excitation_is_told_by_its_keys(tmp_path: Path) -> None:
    network = learned(IResNet(DEPTHS["iresnet34"], (16, 17, 18, 19), 7, excitation=True))
    torch.save(network.state_dict(), tmp_path / "se.pth")
    checkpoint = load_checkpoint(tmp_path / "se.pth", "iresnet34_se")
    assert (checkpoint.backbone, widths_of(checkpoint)) == ("iresnet34_se", (16, 17, 18, 19))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("channels", "excitation"), [(0, False), (8, True)])
def test_stages_of_too_few_channels_are_refused(channels: int, excitation: bool, tmp_path: Path) -> None:
    """Squeezing divides them by 16, which leaves nothing of 8."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = IResNet(DEPTHS["iresnet18"], (channels, 16, 16, 16), 7, excitation).state_dict()
    torch.save({key: torch.zeros(value.shape) for key, value in shapes.items()}, tmp_path / "few.pth")
    assert "with stages of too few channels to compute" in refused(tmp_path / "few.pth")


def test_an_ir_network_of_another_depth_is_refused(tmp_path: Path) -> None:
    torch.save(IRNet((1, 1, 1, 1), False, (4, 5, 6, 7)).state_dict(), tmp_path / "ir.pth")
    message = refused(tmp_path / "ir.pth")
    assert "not one of the networks known here (nearest: ir_50, which has 230 keys that this lacks: body.4" in message


def test_no_message_advises_to_run_what_a_file_holds(tmp_path: Path) -> None:
    """PyTorch's own text does, when it meets a plain pickle."""
    (tmp_path / "cut.pt").write_bytes(pickle.dumps(Path("/"), protocol=4)[:-1])
    (tmp_path / "random.pt").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "four.pt").write_bytes(b"\x80\x04" + bytes(range(256)) * 4)
    for name in ("cut.pt", "random.pt", "four.pt"):
        message = refused(tmp_path / name)
        assert "get the file again" in message
        assert "Re-running" not in message


def test_the_reason_why_a_file_is_not_whole_is_not_cut(state: State, tmp_path: Path) -> None:
    content = {**state, "more": torch.zeros(5000)}
    for name, data, reason in (
        ("half.pth", half(zipped(content)), "the end of its zip archive is missing"),
        ("start.pth", zipped(content)[:-100], "the end of its zip archive is missing"),
        ("legacy.pth", pickled(content)[:-100], r"unexpected EOF, expected \d+ more bytes"),
    ):
        (tmp_path / name).write_bytes(data)
        assert re.search(rf"checkpoint \({reason}\): get the file again", refused(tmp_path / name))
