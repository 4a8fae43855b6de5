"""Networks of the user's own: gradients against the oracle, what they are given, and every refusal in a sentence."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from grafiqs.backbones.backbone import Backbone
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.checkpoint import Checkpoint, load_checkpoint
from grafiqs.backbones.factory import ForeignBackbone
from grafiqs.compute.probe import load_factory
from grafiqs.gradients import gradient_scores, image_gradients
from grafiqs.images.preprocessing import Preprocessing
from grafiqs.images.tensors import resized
from support.commands import Capture, refused, run, scores
from support.making import make_faces, picture, recorded_statistics, tree
from support.oracle import largest_difference, oracle_gradients

pytestmark = pytest.mark.usefixtures("one_thread")

BLOCKS = ("layer1", "layer2", "layer3", "layer4")
SMALL = Preprocessing(size=(48, 40))

Change = Callable[[Tensor], Any]


def same(x: Tensor) -> Tensor:
    return x


class Residual(nn.Module):
    """A block as in a ResNet, with an activation that has no kink."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, 2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        y += self.shortcut(x)
        return functional.elu(y, inplace=True)


class Net(nn.Module):
    """A small residual network with places to go wrong.

    `order` are the stages that run, `before`, `after` and `finish` change the image, what a stage gives, and the
    embedding.
    """

    blocks = BLOCKS

    def __init__(
        self, order: tuple[str, ...] = BLOCKS, before: Change = same, after: Change = same, finish: Change = same
    ) -> None:
        super().__init__()
        self.order, self.before, self.after, self.finish = order, before, after, finish
        self.layer1, self.layer2, self.layer3 = Residual(3, 8), Residual(8, 8), Residual(8, 8)
        self.layer4 = Residual(8, 12)
        self.norm = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Any:
        x = self.before(x)
        for name in self.order:
            x = self.after(self.get_submodule(name)(x))
        return self.finish(self.fc(self.norm(x).mean((2, 3))))


class Pair(nn.Sequential):
    """Gives its output twice."""

    def forward(self, x: Tensor) -> Any:
        return x, super().forward(x)  # type: ignore[no-untyped-call]


class Torchvision(Net):
    """No BatchNorm2d after the last stage, as in torchvision's ResNets."""

    def __init__(self) -> None:
        super().__init__()
        del self.norm
        self.norm: nn.Module = nn.Identity()  # type: ignore[assignment]


class Tupled(Net):
    """Its second stage gives two tensors."""

    def __init__(self) -> None:
        super().__init__(after=lambda x: x[1] if isinstance(x, tuple) else x)
        self.layer2: nn.Module = Pair(self.layer2)  # type: ignore[assignment]


class Studying(Net):
    """Its last normalisation takes the statistics of the batch, whatever its mode."""

    def forward(self, x: Tensor) -> Any:
        self.norm.train()
        return super().forward(x)


class Frozen(Net):
    """Its `train` returns nothing, which `nn.Module.eval` then returns, too."""

    def train(self, mode: bool = True) -> Any:
        super().train(mode)


class Stateful(Net):
    """Its state dict holds more than tensors."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 2}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"version": 2}


class Halved(Net):
    """Computes in bfloat16, whatever it is given."""

    def forward(self, x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


class Aliased(Net):
    """Its second stage has another name, too."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([self.layer1, self.layer2, self.layer3, self.layer4])


class Flat(Net):
    """Its embedding takes maps of 3x3, as a view of one row."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12 * 9, 6)

    def forward(self, x: Tensor) -> Any:
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        return self.fc(self.norm(x).view(len(x), -1))


class Idle(Net):
    """Its second stage does not run."""

    def __init__(self) -> None:
        super().__init__(order=("layer1", "layer3", "layer4"))
        self.layer2: nn.Module = nn.Identity()  # type: ignore[assignment]


class Unused(nn.Sequential):
    """Four convolutions and a BatchNorm2d, which does not run."""

    def __init__(self) -> None:
        super().__init__(*(nn.Conv2d(3, 3, 3, 2) for _ in range(4)))
        self.norm = nn.BatchNorm2d(12).train()

    def forward(self, x: Tensor) -> Any:
        if self.training:  # while its statistics are recorded
            self.norm(torch.cat([x, x, x, x], dim=1))
        return self[3](self[2](self[1](self[0](x)))).mean((2, 3))


class Timid(Net):
    """Takes a few images at once only."""

    def forward(self, x: Tensor) -> Any:
        assert self.training or len(x) <= 4, "too many images"
        return super().forward(x)


def in_place(x: Tensor) -> Tensor:
    return x.mul_(0.8).add_(0.1)


def out_of_place(x: Tensor) -> Tensor:
    return x * 0.8 + 0.1


def frozen() -> nn.Module:
    network = Frozen()
    network.load_state_dict(made.resnet().state_dict())
    return network


def raising() -> nn.Module:
    raise ValueError("no \x1b[31mred\nweights")


def leaving() -> nn.Module:
    sys.exit("usage: train.py CONFIG")


def needing(depth: int) -> nn.Module:
    return Net()


def poisoned() -> nn.Module:
    network = Net()
    with torch.no_grad():
        network.layer3.conv.weight[0, 0] = torch.nan
    return network


def untracked() -> nn.Module:
    network = Net()
    network.norm = nn.BatchNorm2d(12, track_running_stats=False)
    return network


def lazy() -> nn.Module:
    network = Net()
    network.fc = nn.LazyLinear(6)
    return network


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Net()


def noise(count: int) -> Tensor:
    return torch.rand(count, 3, *SMALL.size, generator=torch.Generator().manual_seed(1))


PIXELS = noise(8).mul(255).byte()
"""What statistics are recorded from."""


def recorded(**how: Any) -> Callable[[], Net]:
    return lambda: recorded_statistics(lambda: Net(**how), pixels=PIXELS)


made = SimpleNamespace(
    resnet=lambda: recorded_statistics(Net, seed, PIXELS),
    torchvision=lambda: recorded_statistics(Torchvision, pixels=PIXELS),
    tupled=lambda: recorded_statistics(Tupled, pixels=PIXELS),
    studying=lambda: recorded_statistics(Studying, pixels=PIXELS),
    frozen=frozen,
    stateful=lambda: recorded_statistics(Stateful, pixels=PIXELS),
    halved=lambda: recorded_statistics(Halved, pixels=PIXELS),
    aliased=lambda: recorded_statistics(Aliased, pixels=PIXELS),
    unused=lambda: recorded_statistics(Unused, pixels=PIXELS),
    flat=lambda: recorded_statistics(Flat, pixels=PIXELS),
    hasty=recorded(before=in_place, after=in_place),
    patient=recorded(before=out_of_place, after=out_of_place),
    pair=recorded(finish=lambda x: (x, x.norm(dim=1))),
    nested=recorded(finish=lambda x: [(x, None), x]),
    scalar=recorded(finish=lambda x: x.sum()),
    table=recorded(finish=lambda x: {"embedding": x}),
    idle=lambda: recorded_statistics(Idle, pixels=PIXELS),
    twice=recorded(order=("layer1", "layer2", "layer2", "layer3", "layer4")),
    random=recorded(after=lambda x: functional.dropout(x, 0.5, training=True)),
    random_embedding=recorded(finish=lambda x: functional.dropout(x, 0.5, training=True)),
    mingling=recorded(after=lambda x: x - x.mean(0)),
    mingling_embedding=recorded(finish=lambda x: x - x.mean(0)),
    cut_off=recorded(after=lambda x: x.detach()),
    timid=lambda: recorded_statistics(Timid, pixels=PIXELS),
    bare=lambda: nn.Conv2d(3, 4, 3),
    text=lambda: "a network",
    nothing=lambda: None,
    network=Net(),
    raising=raising,
    leaving=leaving,
    needing=needing,
    poisoned=poisoned,
    untracked=untracked,
    on_meta=on_meta,
    lazy=lazy,
)
"""The factories, which a command names as test_factory:made.NAME."""

seed = 0
"""Of the weights of `made.resnet`."""


def named(name: str, blocks: tuple[str, ...] = BLOCKS) -> list[object]:
    return ["--backbone", f"{__name__}:made.{name}", "--blocks", ",".join(blocks), "--device", "cpu"]


def loaded(name: str, weights: Path | None = None, preprocessing: Preprocessing = SMALL) -> Checkpoint:
    return load_factory(f"{__name__}:made.{name}", BLOCKS, weights, preprocessing)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of two identities."""
    return make_faces(tmp_path_factory.mktemp("few"), {"ann": 2, "bob": 1})


def extract(few: Path, output: Path, *more: object) -> list[object]:
    return ["extract", "--image-path", few, "--output-dir", output, *more]


def by_hand(number: int, mean: list[float], std: list[float], order: str = "rgb") -> Tensor:
    """A picture of 112x112 as a network is to be given it."""
    pixels: NDArray[np.float64] = picture(number).astype(np.float64) / 255
    channels = pixels if order == "rgb" else pixels[:, :, ::-1]
    return torch.from_numpy(((channels - np.array(mean)) / np.array(std)).transpose(2, 0, 1).copy())


def manifest(output: Path) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((output / "manifest.json").read_text()))


# -- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("resnet", "resnet"),
        ("hasty", "patient"),
        ("pair", "resnet"),
        ("nested", "resnet"),
        ("frozen", "resnet"),
        ("stateful", "resnet"),
    ],
)
def test_the_oracle_agrees(name: str, twin: str) -> None:
    """In place or not, with whatever beside the embedding: a network has the gradients of its plain twin."""
    batch = noise(3).double()
    plain = getattr(made, twin)().double()
    expected = oracle_gradients(cast(Backbone, plain), batch)
    network = loaded(name).network.double()
    assert largest_difference(image_gradients(network, batch), expected) < 1e-9
    for layer in LAYERS:
        found = image_gradients(network, batch.clone(), (layer,))
        assert tuple(found) == (layer,)
        assert largest_difference(found, expected) < 1e-9
    torch.testing.assert_close(network(batch.clone()), plain(batch.clone()), rtol=1e-12, atol=0)


def test_a_network_is_loaded_frozen_in_eval_mode_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "resnet", lambda: Net().double().train().requires_grad_())
    checkpoint = loaded("resnet")
    assert not any(module.training for module in checkpoint.network.modules())
    assert not any(parameter.requires_grad for parameter in checkpoint.network.parameters())
    assert {parameter.dtype for parameter in checkpoint.network.parameters()} == {torch.float32}
    assert checkpoint.embedding_size == 6
    assert checkpoint.shapes == {
        "image": (3, 48, 40),
        "block1": (8, 24, 20),
        "block2": (8, 12, 10),
        "block3": (8, 6, 5),
        "block4": (12, 3, 3),
    }


def test_another_name_of_a_module_names_a_block_too() -> None:
    blocks = ("stages.0", "stages.1", "stages.2", "stages.3")
    expected = image_gradients(loaded("resnet").network, noise(2))
    network = load_factory(f"{__name__}:made.aliased", blocks, None, SMALL).network
    assert largest_difference(image_gradients(network, noise(2)), expected) == 0


def test_a_network_that_views_its_maps_as_rows_computes(few: Path, tmp_path: Path) -> None:
    more = ["--input-size", "48x40", "--layers", "image", "--embeddings", "--quiet"]
    assert run(*extract(few, tmp_path / "run", *named("flat"), *more)) == 0
    pixels = torch.stack([resized(picture(number), SMALL.size) for number in (0, 1, 1000)])
    expected = oracle_gradients(cast(Backbone, made.flat()), pixels.double() / 127.5 - 1)["image"]
    np.testing.assert_allclose(
        [values[0] for values in scores(tmp_path / "run").values()], gradient_scores(expected), rtol=1e-5
    )


@pytest.mark.parametrize("layers", [["--layers", "image,block1,block2,block3"], []], ids=["asked for", "all"])
def test_layers_that_have_a_norm_after_them_work_where_the_last_has_none(
    layers: list[str], few: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert run(*extract(few, tmp_path / "run", *named("torchvision"), *layers, "--input-size", "48x40")) == 0
    said = "Layers: image, block1, block2, block3, loss; no BatchNorm2d that counts comes after block4"
    assert (said in capsys.readouterr().out) == (not layers)
    loss = [] if layers else ["loss"]
    assert list(manifest(tmp_path / "run")["layers"]) == ["image", "block1", "block2", "block3", *loss]
    assert all(value > 0 for values in scores(tmp_path / "run").values() for value in values)
    assert run("verify", tmp_path / "run", "--quiet") == 0


def test_a_network_that_changes_its_images_has_the_same_scores_and_embeddings_at_every_choice_of_layers(
    few: Path, tmp_path: Path
) -> None:
    found = {}
    for name, layers in (("patient", "image,block2"), ("hasty", "image,block2"), ("hasty", "block2")):
        output = tmp_path / f"{name} {layers}"
        more = ["--layers", layers, "--embeddings", "--flip", "--input-size", "48x40", "--quiet"]
        assert run(*extract(few, output, *named(name), *more)) == 0
        found[output] = [values[-1] for values in scores(output).values()], np.load(output / "embeddings.npy")
    (expected, embeddings), *others = found.values()
    for values, other in others:
        np.testing.assert_allclose(values, expected, rtol=1e-5)
        np.testing.assert_allclose(other, embeddings, rtol=1e-5, atol=1e-6)


# -- what it is given --------------------------------------------------------------------------------------


def test_a_run_on_oblong_images_says_what_they_were_made_of(few: Path, tmp_path: Path, capsys: Capture) -> None:
    more = ["--input-size", "112x96", "--mean", "0.4,0.5,0.6", "--std", 0.25, "--channel-order", "bgr"]
    assert run(*extract(few, tmp_path / "run", *named("resnet"), *more)) == 0
    said = capsys.readouterr().out
    assert "Input: 112x96 BGR, mean 0.4 0.5 0.6, std 0.25 0.25 0.25\n" in said  # nothing of it is assumed
    found = manifest(tmp_path / "run")
    assert f"Backbone: {__name__}:made.resnet from its own weights (SHA-256 {found['weights_sha256']})" in said
    assert found["layers"] == {
        "image": [3, 112, 96],
        "block1": [8, 56, 48],
        "block2": [8, 28, 24],
        "block3": [8, 14, 12],
        "block4": [12, 7, 6],
        "loss": [],
    }
    stated = {name: found["preprocessing"][name] for name in ("size", "channel_order", "mean", "std")}
    assert stated == {"size": [112, 96], "channel_order": "bgr", "mean": [0.4, 0.5, 0.6], "std": [0.25, 0.25, 0.25]}
    assert len(bytes.fromhex(found["backbone"].pop("code_sha256"))) == 32
    assert found["backbone"] == {
        "name": f"{__name__}:made.resnet",
        "blocks": list(BLOCKS),
        "embedding_size": 6,
        "norms": {"maps": 5, "pixels": 0},
    }
    del found["layers"]["loss"]
    for layer, shape in found["layers"].items():
        assert np.load(tmp_path / "run" / layer / "ann" / "0_grad.npy").shape == tuple(shape)
    assert run("verify", tmp_path / "run") == 0
    assert "Verified: 2 identities, 3 images, 3 scored, 0 failed, 15 gradient files" in capsys.readouterr().out


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("given", "mean", "std"),
    [
        ([], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        (["--mean", "0.4,0.5,0.6", "--std", "0.2 0.25 0.3"], [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]),
        (["--mean=-0.1", "--std", "2"], [-0.1, -0.1, -0.1], [2, 2, 2]),
    ],
)
def test_gradients_are_those_of_images_normalised_by_hand(
    few: Path, tmp_path: Path, given: list[object], mean: list[float], std: list[float], order: str
) -> None:
    more = [*given, "--channel-order", order, "--layers", "image,block4", "--quiet"]
    assert run(*extract(few, tmp_path / "run", *named("resnet"), *more)) == 0
    given_to_it = torch.stack([by_hand(number, mean, std, order) for number in (0, 1, 1000)])
    expected = oracle_gradients(cast(Backbone, made.resnet()), given_to_it)
    paths = ["ann/0", "ann/1", "bob/0"]
    found = {
        layer: torch.stack([torch.from_numpy(np.load(tmp_path / "run" / layer / f"{path}_grad.npy")) for path in paths])
        for layer in ("image", "block4")
    }
    assert largest_difference(found, expected) < 1e-5
    totals = torch.stack([gradient_scores(expected[layer]) for layer in found], dim=1)
    np.testing.assert_allclose(list(scores(tmp_path / "run").values()), totals, rtol=1e-5)


def test_a_known_network_takes_other_means_too(few: Path, weights: Path, tmp_path: Path) -> None:
    more = ["--mean", "0.4,0.5,0.6", "--std", "0.25", "--channel-order", "bgr", "--layers", "image", "--quiet"]
    assert run(*extract(few, tmp_path / "run", "--weights", weights, *more, "--device", "cpu")) == 0
    stated = manifest(tmp_path / "run")["preprocessing"]
    assert (stated["mean"], stated["std"], stated["channel_order"]) == ([0.4, 0.5, 0.6], [0.25] * 3, "bgr")
    batch = torch.stack([by_hand(number, [0.4, 0.5, 0.6], [0.25] * 3, "bgr") for number in (0, 1, 1000)])
    expected = gradient_scores(image_gradients(load_checkpoint(weights).network, batch.float(), ("image",))["image"])
    found = [values[0] for values in scores(tmp_path / "run").values()]
    np.testing.assert_allclose(found, expected, rtol=1e-4)  # there are kinks in it


@pytest.mark.parametrize("known", [True, False])
def test_a_run_goes_on_with_the_same_means_only(
    few: Path, weights: Path, tmp_path: Path, known: bool, capsys: Capture
) -> None:
    backbone = ["--weights", weights, "--device", "cpu"] if known else named("resnet")
    command = extract(few, tmp_path / "run", *backbone, "--layers", "block4", "--quiet")
    assert run(*command, "--mean", 0.25) == 0
    before = tree(tmp_path / "run")
    for other, line in {
        "--mean=0.5": "  - preprocessing.mean: [0.25, 0.25, 0.25] in the folder, [0.5, 0.5, 0.5] asked for",
        "--std=0.25": "  - preprocessing.std: [0.5, 0.5, 0.5] in the folder, [0.25, 0.25, 0.25] asked for",
        "--channel-order=bgr": "  - preprocessing.channel_order: rgb in the folder, bgr asked for",
    }.items():
        capsys.readouterr()
        assert run(*command, "--mean", 0.25, other) == 2
        assert [text for text in capsys.readouterr().err.splitlines() if text.startswith("  - ")] == [line]
    assert run(*command, "--mean", "0.25 0.25 0.25", "--std", 0.5, "--channel-order", "rgb") == 0
    assert tree(tmp_path / "run") == before


# -- where it is found -------------------------------------------------------------------------------------

PACKAGE = """
from torch import nn
from .parts import norm

class Networks:
    @classmethod
    def small(cls):
        stages = [nn.Sequential(nn.Conv2d(3 if not n else 4, 4, 3, 2, 1), norm(4)) for n in range(4)]
        return nn.Sequential(*stages, norm(4), nn.Flatten())
"""


def test_code_in_the_current_folder_is_found_and_fresh_statistics_are_warned_of(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    package = tmp_path / "networks_of_mine" / "inner"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "parts.py").write_text("from torch.nn import BatchNorm2d as norm\n")
    (package / "small.py").write_text(PACKAGE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    factory = ["--backbone", "networks_of_mine.inner.small:Networks.small", "--blocks", "0,1,2,3", "--device", "cpu"]
    assert run(*extract(few, Path("run"), *factory, "--input-size", "32x32")) == 0
    assert sys.path == before
    assert capsys.readouterr().err.splitlines()[0] == (
        "grafiqs: warning: 5 of 5 BatchNorm2d of --backbone networks_of_mine.inner.small:Networks.small have never "
        "learned statistics (0.1, 1.1, 2.1, ...): scores mean nothing without trained weights (--weights)"
    )
    assert manifest(Path("run"))["backbone"]["blocks"] == ["0", "1", "2", "3"]
    assert run("verify", "run", "--quiet") == 0


def test_the_name_of_a_module_does_not_command_the_terminal(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "red\x1b[31m.py").write_text(f"from {__name__} import made\n")
    monkeypatch.chdir(tmp_path)
    factory = ["--backbone", "red\x1b[31m:made.resnet", "--blocks", ",".join(BLOCKS), "--device", "cpu"]
    assert run(*extract(few, Path("run"), *factory, "--layers", "block4")) == 0
    said = capsys.readouterr()
    assert r"red\x1b[31m:made.resnet" in said.out
    assert "\x1b" not in said.out + said.err


# -- its weights -------------------------------------------------------------------------------------------

State = dict[str, Tensor]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def without_counters(state: State) -> State:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


FORMS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "prefix": lambda state: prefixed(state, "module."),
    "two prefixes": lambda state: prefixed(state, "model.backbone."),
    "nested": lambda state: {"epoch": 3, "state_dict": state},
    "nested, with prefix and a head": lambda state: {"model": {**prefixed(state, "net."), "head.w": torch.ones(3)}},
    "a head": lambda state: {**state, "head.weight": torch.ones(3)},
    "no counters": without_counters,
    "float64": lambda state: {key: value.double() for key, value in without_counters(state).items()},
}


@pytest.fixture(scope="module")
def state() -> State:
    """Weights that the factory does not make."""
    return dict(recorded_statistics(Net, 5, PIXELS).state_dict())


@pytest.mark.parametrize("kind", [".pth", ".pt legacy", ".safetensors"])
@pytest.mark.parametrize("form", FORMS)
def test_weights_in_every_form_are_taken(state: State, form: str, kind: str, tmp_path: Path) -> None:
    content = FORMS[form](state)
    path = tmp_path / f"net{kind.split()[0]}"
    if kind == ".safetensors":
        if not all(isinstance(value, Tensor) for value in content.values()):
            content = content.get("state_dict") or content["model"]  # it holds tensors only
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization="legacy" not in kind)
    checkpoint = loaded("resnet", path)
    assert (checkpoint.path, checkpoint.sha256) == (path, hashlib.sha256(path.read_bytes()).hexdigest())
    found = without_counters(checkpoint.network.network.state_dict())  # type: ignore[union-attr]
    assert list(found) == list(without_counters(state))
    assert all(torch.equal(found[key], state[key]) for key in found)


def test_keys_beside_the_network_are_named(state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("grafiqs")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "grafiqs")
    torch.save({**prefixed(state, "net."), "head.weight": torch.ones(3)}, tmp_path / "net.pth")
    loaded("resnet", tmp_path / "net.pth")
    logger.removeHandler(caplog.handler)
    assert caplog.messages == ["Ignoring 1 keys of net.pth beside the backbone: head.weight"]


WRONG_WEIGHTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing": (
        lambda state: {key: value for key, value in state.items() if not key.startswith("layer3.bn.running")},
        "lacks 2 keys of its network: layer3.bn.running_mean, layer3.bn.running_var",
    ),
    "misshapen": (
        lambda state: {**state, "fc.bias": torch.zeros(7)},
        "has 1 keys of another shape: fc.bias (7,) instead of (6,)",
    ),
    "not finite": (
        lambda state: {**state, "norm.running_var": torch.full((12,), torch.inf)},
        "has 1 keys with values that are not finite: norm.running_var",
    ),
    "of another network": (lambda _: {"conv.weight": torch.zeros(3)}, "keys of its network: layer1.conv.weight"),
    "empty": (lambda _: {}, "keys of its network: layer1.conv.weight"),
    "no state dict": (lambda _: {1, 2}, "holds a set, not a state dict"),
    "of negative variances": (
        lambda state: {**state, "norm.running_var": -torch.ones(12)},
        "has 1 keys with negative variances: norm.running_var",
    ),
    "two networks": (
        lambda state: {**prefixed(state, "student."), **prefixed(state, "teacher.")},
        "holds 2 networks: choose one with --weights-key, one of student, teacher",
    ),
    "no statistics": (
        lambda _: Net().state_dict(),
        "hold no learned statistics for any of the 5 BatchNorm2d of --backbone test_factory:made.resnet: GraFIQs ",
    ),
    "two nested networks": (
        lambda state: {"state_dict": state, "ema": {key: value + 1 for key, value in state.items()}},
        "holds 2 networks: choose one with --weights-key, one of ema, state_dict",
    ),
}


@pytest.mark.parametrize("kind", WRONG_WEIGHTS)
def test_weights_that_do_not_fit_are_refused(
    few: Path, state: State, kind: str, tmp_path: Path, capsys: Capture
) -> None:
    change, told = WRONG_WEIGHTS[kind]
    path = tmp_path / "net.pth"
    torch.save(change(state), path)
    line = refused(capsys, *extract(few, tmp_path / "run", *named("resnet"), "--weights", path))
    assert str(path) in line
    assert told in line
    assert not (tmp_path / "run").exists()


def test_some_norms_without_statistics_in_the_weights_are_warned_of(
    few: Path, state: State, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "net.pth"
    fresh = {"norm.running_mean": torch.zeros(12), "norm.running_var": torch.ones(12)}
    torch.save({**state, **fresh}, path)
    more = ["--weights", path, "--input-size", "48x40", "--layers", "block3"]
    assert run(*extract(few, tmp_path / "run", *named("resnet"), *more)) == 0
    assert (
        f"have never learned statistics (norm): scores mean nothing with the weights {path}" in capsys.readouterr().err
    )


def test_one_of_several_networks_is_chosen_and_bound(few: Path, state: State, tmp_path: Path, capsys: Capture) -> None:
    other = {key: value.clone() for key, value in state.items()}
    other["norm.running_mean"] += 0.5
    path, chosen = tmp_path / "net.pth", {}
    torch.save({"state_dict": prefixed(state, "module."), "ema": {"module": other}}, path)
    command = [*named("resnet"), "--weights", path, "--input-size", "48x40", "--layers", "block3", "--quiet"]
    for key in ("ema", "state_dict"):
        output = tmp_path / key
        assert run(*extract(few, output, *command, "--weights-key", key)) == 0
        assert manifest(output)["backbone"]["weights_key"] == f"{key}.module"
        chosen[key] = scores(output)
    torch.save(other, tmp_path / "alone.pth")
    alone = [*command[:-6], tmp_path / "alone.pth", *command[-5:]]
    assert run(*extract(few, tmp_path / "alone", *alone)) == 0
    assert scores(tmp_path / "alone") == chosen["ema"] != chosen["state_dict"]
    assert "weights_key" not in manifest(tmp_path / "alone")["backbone"]
    before = tree(tmp_path / "ema")
    capsys.readouterr()
    assert run(*extract(few, tmp_path / "ema", *command, "--weights-key", "state_dict")) == 2
    assert "backbone.weights_key: ema.module in the folder, state_dict.module asked for" in capsys.readouterr().err
    assert tree(tmp_path / "ema") == before
    assert run(*extract(few, tmp_path / "ema", *command, "--weights-key", "ema.module")) == 0
    assert tree(tmp_path / "ema") == before


def test_weights_that_do_not_exist_are_refused_before_any_code_runs(few: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "none.pth"
    line = refused(capsys, *extract(few, tmp_path / "run", *named("raising"), "--weights", path))
    assert line == f"grafiqs: the weights {path} do not exist or cannot be reached: check --weights"


def test_a_run_without_a_weights_file_is_bound_to_the_weights_that_were_made(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    output = tmp_path / "run"
    command = extract(few, output, *named("resnet"), "--layers", "block3,block4", "--input-size", "48x40", "--quiet")
    assert run(*command) == 0
    before = tree(output)
    assert manifest(output)["weights"] == ""
    assert len(bytes.fromhex(manifest(output)["weights_sha256"])) == 32
    (output / "block3" / "bob" / "0_grad.npy").unlink()
    assert run(*command) == 0
    assert tree(output) == before
    monkeypatch.setattr(sys.modules[__name__], "seed", 1)
    capsys.readouterr()
    assert run(*command) == 2
    said = capsys.readouterr().err
    assert "holds another run, and nothing is mixed" in said
    assert f"  - weights_sha256: {manifest(output)['weights_sha256']} in the folder, " in said
    assert tree(output) == before
    assert run(*command, "--overwrite") == 0
    assert scores(output).keys() == {"ann/0.png", "ann/1.png", "bob/0.png"}
    assert tree(output)["scores.csv"] != before["scores.csv"]


def test_the_checksum_of_weights_tells_values_names_and_shapes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(change: Callable[[Net], object]) -> str:
        def make() -> Net:
            network = recorded_statistics(Net, 0, PIXELS)
            change(network)
            return network

        monkeypatch.setattr(made, "resnet", make)
        return loaded("resnet").sha256

    found = [
        changed(lambda _: None),
        changed(lambda network: network.fc.bias[0].add_(1e-6)),
        changed(lambda network: network.norm.running_var[11].mul_(1 + 1e-6)),  # type: ignore[index]
        changed(lambda network: network.register_buffer("more", torch.zeros(()))),
        changed(lambda network: network.register_buffer("more", torch.zeros(1))),
        changed(lambda network: network.register_buffer("other", torch.zeros(1))),
        changed(lambda network: network.register_buffer("more", torch.zeros(0, dtype=torch.bool))),
    ]
    assert len(set(found)) == len(found)
    assert changed(lambda _: None) == found[0]


# -- refusals ----------------------------------------------------------------------------------------------

EARLIER = (
    "so that no gradient reaches it: name an earlier module in --blocks, or give --layers image,block1,block2,block3"
)
MADE = "--backbone test_factory:made."

REFUSED: dict[str, tuple[list[object], str]] = {
    "no module": (
        ["--backbone", "no.such.module:make", "--blocks", "a,b,c,d"],
        "--backbone no.such.module:make is not available: ModuleNotFoundError: No module named 'no'",
    ),
    "no module's name": (["--backbone", ":make", "--blocks", "a,b,c,d"], "it takes package.module:factory"),
    "no factory's name": (["--backbone", "torch:", "--blocks", "a,b,c,d"], "it takes package.module:factory"),
    "a relative name": (["--backbone", ".net:make", "--blocks", "a,b,c,d"], "--backbone .net:make is not available"),
    "no attribute": (named("none"), f"{MADE}none is not available: AttributeError: "),
    "raising": (named("raising"), rf"{MADE}raising is not available: ValueError: no \x1b[31mred weights"),
    "leaving": (named("leaving"), f"{MADE}leaving is not available: SystemExit: usage: train.py CONFIG"),
    "needing": (named("needing"), f"{MADE}needing is not available: TypeError: needing() missing 1 required"),
    "text": (named("text"), f"{MADE}text gives an object of type str, not a torch.nn.Module"),
    "nothing": (named("nothing"), f"{MADE}nothing gives an object of type NoneType, not a torch.nn.Module"),
    "on_meta": (named("on_meta"), f"{MADE}on_meta"),
    "lazy": (named("lazy"), f"{MADE}lazy"),
    "halved": (named("halved"), f"{MADE}halved"),
    "bare": (named("bare", ("", "a", "b", "c", "d")), "bare has no module a, b, c, ...; its modules are "),
    "untracked": (named("untracked"), f"{MADE}untracked has 1 BatchNorm2d without running statistics: norm"),
    "poisoned": (named("poisoned"), "has 1 keys with values that are not finite: layer3.conv.weight"),
    "unknown": (
        named("resnet", ("layer1", "layer2", "layer5", "layer6")),
        f"{MADE}resnet has no module layer5, layer6; its modules are layer1, layer2, layer3, layer4, norm, fc, and ",
    ),
    "idle": (named("idle"), f"block2 (layer2) of {MADE}idle never runs for an image"),
    "twice": (named("twice"), f"block2 (layer2) of {MADE}twice runs several times for an image"),
    "tupled": (
        named("tupled"),
        f"block2 (layer2) of {MADE}tupled gives an object of type tuple, not float32 maps (B, C, H, W)",
    ),
    "flat": (
        named("resnet", ("layer1", "layer2", "layer3", "fc")),
        f"block4 (fc) of {MADE}resnet gives a tensor (2, 6) of float32, not float32 maps (B, C, H, W)",
    ),
    "order": (
        named("resnet", ("layer1", "layer3", "layer2", "layer4")),
        f"the blocks of {MADE}resnet run in another order: give --blocks layer1,layer2,layer3,layer4",
    ),
    "one block twice": (named("resnet", ("layer1", "layer1", "layer3", "layer4")), "layer1"),
    "torchvision": (
        [*named("torchvision"), "--layers", "block1,block4"],
        f"block4 (layer4) of {MADE}torchvision: no BatchNorm2d runs after it, {EARLIER}",
    ),
    "cut_off": (named("cut_off"), f"{MADE}cut_off has no gradients at image, block1, block2, block3, block4: "),
    "random": (named("random"), f"{MADE}random gives an image another score beside another image, or a second time"),
    "mingling": (named("mingling"), "gives an image another score beside another image"),
    "studying": (named("studying"), "gives an image another score beside another image"),
    "random_embedding": ([*named("random_embedding"), "--embeddings"], f"{MADE}random_embedding"),
    "mingling_embedding": ([*named("mingling_embedding"), "--embeddings"], f"{MADE}mingling_embedding"),
    "scalar": (named("scalar"), "it gives a tensor () of float32 for 2 images, not a tensor of as many embeddings"),
    "table": (named("table"), "it gives an object of type dict for 2 images, not a tensor of as many embeddings"),
    "size": (
        [*named("flat"), "--input-size", "64x64"],
        f"{MADE}flat does not run on images of 64x64 (--input-size): RuntimeError: mat1 and mat2 shapes cannot be",
    ),
    "timid": (named("timid"), "8 images at once"),
}
"""What a command asks for, and what is said of it."""


@pytest.mark.parametrize("kind", REFUSED)
def test_networks_that_cannot_be(few: Path, tmp_path: Path, kind: str, capsys: Capture) -> None:
    asked, told = REFUSED[kind]
    capsys.readouterr()
    assert run(*extract(few, tmp_path / "run", "--input-size", "48x40", *asked)) == 2
    *warned, line = capsys.readouterr().err.splitlines()
    assert told in line
    assert all(said.startswith("grafiqs: warning: these images do not look like crops of 48x40") for said in warned)
    assert not (tmp_path / "run").exists()


OPTIONS = {
    "--blocks a,b,c,d": "--blocks is for a --backbone package.module:factory: a known network has its own",
    "--backbone iresnet18 --blocks a,b,c,d": "--blocks is for a --backbone package.module:factory",
    "--input-size 112x112": "--input-size is for a --backbone package.module:factory",
    "--backbone a:b": "--backbone a:b needs --blocks, four names of its modules with commas between them",
    "--backbone a:b --blocks x,y,z": "--backbone a:b needs --blocks, four names of its modules",
    "--backbone a:b --blocks v,w,x,y,z": "--backbone a:b needs --blocks, four names of its modules",
    "--backbone a.b": "argument --backbone: invalid choice: 'a.b' (choose from ",
    "--backbone a:b --blocks w,x,y,z --input-size 0x5": "--input-size is ",
    "--backbone a:b --blocks w,x,y,z --input-size 5x4097": ": sides lie between 1 and 4096",
    "--backbone a:b --blocks w,x,y,z --input-size 112": "argument --input-size: invalid size value: '112'",
    "--backbone a:b --blocks w,x,y,z --input-size 1x2x3": "argument --input-size: invalid size value: '1x2x3'",
    "--std 0": "--std is 0: it takes one number above 0, or three",
    "--std -1": "--std is -1: it takes one number above 0, or three",
    "--std 0.5,0.5,0": "--std is 0.5,0.5,0: it takes one number above 0, or three",
    "--std inf": "--std is inf: it takes one number above 0, or three",
    "--mean nan": "--mean is nan: it takes one number, or three",
    "--mean 0.4,0.5": "--mean is 0.4,0.5: it takes one number, or three",
    "--mean 1,2,3,4": "--mean is 1,2,3,4: it takes one number, or three",
    "--mean a": "argument --mean: invalid numbers value: 'a'",
    "--mean ,": "--mean",
}
"""Options that cannot be, and what is said of them."""


@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_backbones_that_cannot_be(
    few: Path, weights: Path, tmp_path: Path, options: str, capsys: Capture
) -> None:
    command = extract(few, tmp_path / "run", "--weights", weights, *options.split())
    assert OPTIONS[options] in refused(capsys, *command)
    assert not (tmp_path / "run").exists()


def test_a_network_whose_norms_never_run_is_refused_without_advice_that_is_none(
    few: Path, tmp_path: Path, capsys: Capture
) -> None:
    line = refused(capsys, *extract(few, tmp_path / "run", *named("unused", ("0", "1", "2", "3"))))
    assert "unused has BatchNorm2d, but none of them runs" in line
    assert "--layers" not in line


CODE = {
    "netting/__init__.py": "from netting.making import factory\n",
    "netting/making.py": "from netting.net import Net\n\n\ndef factory():\n    return Net()\n",
    "netting/net.py": "from netting.base import Base\n\n\nclass Net(Base):\n    pass\n",
    "netting/base.py": (
        "import beside\nfrom test_factory import Net as Other\n\n\nclass Base(Other):\n"
        "    def forward(self, image):\n        return super().forward(beside.same(image))\n"
    ),
    "beside.py": "def same(x):\n    return x\n",
}


@pytest.mark.parametrize("name", CODE)
def test_a_run_does_not_go_on_with_other_code(
    name: str, tmp_path: Path, few: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The weights are the same; what is done with them is not."""
    monkeypatch.chdir(tmp_path)
    command = extract(few, tmp_path / "run", "--backbone", "netting:factory", "--blocks", ",".join(BLOCKS))
    for extra, code in (("", 0), ("", 0), ("# another\n", 2)):
        for path, text in CODE.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text + extra * (path == name))
        for loaded in [module for module in sys.modules if module.partition(".")[0] in ("netting", "beside")]:
            monkeypatch.delitem(sys.modules, loaded)
        assert run(*command) == code
    assert "  - backbone.code_sha256: " in capsys.readouterr().err
    for loaded in [module for module in sys.modules if module.partition(".")[0] in ("netting", "beside")]:
        monkeypatch.delitem(sys.modules, loaded)


def test_norms_of_several_processes_are_not_passed_over(few: Path, tmp_path: Path, capsys: Capture) -> None:
    """They are no BatchNorm2d, and would be missing from the loss."""
    made.synced = lambda: nn.SyncBatchNorm.convert_sync_batchnorm(Net())  # type: ignore[no-untyped-call]
    line = refused(capsys, *extract(few, tmp_path / "run", *named("synced")))
    assert "synced has " in line
    assert "SyncBatchNorm (" in line
    assert "make BatchNorm2d of them" in line


def test_what_a_norm_is_given_may_be_changed_in_place_afterwards(few: Path) -> None:
    """As in networks that normalise before each convolution: x += conv(bn(x))."""

    class PreActivation(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.in_place = in_place
            self.stem = nn.Conv2d(3, 4, 3, 2, 1)
            for number in range(1, 5):
                self.add_module(f"layer{number}", nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, 1, 1)))
            self.norm = nn.BatchNorm2d(4)

        def forward(self, image: Tensor) -> Tensor:
            x: Tensor = self.stem(image)
            for number in range(1, 5):
                y = self.get_submodule(f"layer{number}")(x)
                if self.in_place:
                    x += y
                else:
                    x = x + y
            return cast(Tensor, self.norm(x)).mean((2, 3))

    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found, expected = (
        image_gradients(ForeignBackbone(PreActivation(way).eval().requires_grad_(False), BLOCKS), images)
        for way in (True, False)
    )
    for layer in expected:
        assert expected[layer].any()
        assert torch.equal(found[layer], expected[layer])
