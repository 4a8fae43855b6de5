"""The fast path against the oracle and against itself: precisions, positions, neighbours, the programs on the disk."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from grafiqs.backbones.catalogue import LAYERS, LOSS, SCORES
from grafiqs.backbones.iresnet import IResNet
from grafiqs.compute import compiled, programs
from grafiqs.compute.compiled import CompileError
from grafiqs.compute.computer import Computer, Step
from grafiqs.gradients import gradient_scores
from grafiqs.images.preprocessing import Preprocessing
from grafiqs.images.tensors import normalise, resized
from support.making import NARROW, picture, recorded_statistics
from support.oracle import largest_difference, oracle_gradients, oracle_losses

CPU = torch.device("cpu")
SIZE = 4
"""Images in every batch here."""


def pixels(first: int, count: int = SIZE) -> Tensor:
    return torch.stack([resized(picture(200 + number)) for number in range(first, first + count)])


def shallow(seed: int) -> IResNet:
    """A network of every kind of block there is, which compiles in less than a minute."""
    return recorded_statistics(lambda: IResNet((1, 1, 1, 1), NARROW, embedding_size=32), seed)


@pytest.fixture(scope="module")
def network() -> IResNet:
    return shallow(0)


@pytest.fixture(scope="module")
def fast(network: IResNet, compiling: FileLock) -> Computer:
    computer = Computer(network, CPU, SIZE, SCORES, embeddings="flip")
    with compiling:
        computer.compile()
    return computer


def binaries() -> dict[Path, float]:
    """The machine code in the cache, and when it was written."""
    return {path: path.stat().st_mtime for path in programs.folder().rglob("*.so")}


@pytest.fixture(scope="module")
def parted() -> IResNet:
    """A network of the same shapes whose PReLUs see few values near their kink, and many on either side of it."""
    network = shallow(2)
    for name, norm in network.named_modules():
        if name == "bn1" or name.endswith(".bn2"):  # a PReLU follows
            assert isinstance(norm, nn.BatchNorm2d)
            norm.bias.add_(2.5 * norm.weight * torch.tensor([1.0, -1.0]).repeat(norm.num_features // 2))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.reset_running_stats()
    with torch.no_grad():
        network.train()(normalise(pixels(0, 16)))
    return network.eval()


def far_from_the_kink(network: IResNet) -> Tensor:
    """A batch whose PReLU inputs are all so far from 0 that no rounding takes one across, which lets gradients jump."""
    seen: list[Tensor] = []
    modules = [module for module in network.modules() if isinstance(module, nn.PReLU)]
    handles = [module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for module in modules]
    candidates = pixels(0, 16)
    network(normalise(candidates))
    for handle in handles:
        handle.remove()
    assert len(seen) == 5
    assert all(0.4 < (x > 0).double().mean() < 0.6 for x in seen)
    nearest = torch.stack([x.abs().amin((1, 2, 3)) for x in seen]).amin(0)
    best = nearest.topk(SIZE)
    assert best.values.min() > 1e-4  # they are of order 1, and rounded to 1e-5
    return candidates[best.indices]


def test_the_compiled_program_agrees_with_the_oracle(parted: IResNet, fast: Computer) -> None:
    computer = Computer(parted, CPU, SIZE, SCORES, embeddings="flip")
    assert computer.was_compiled_before()
    computer.compile()
    batch = far_from_the_kink(parted)
    expected = oracle_gradients(parted, normalise(batch, dtype=torch.float64))
    assert expected.keys() == {*LAYERS}
    assert largest_difference(computer(batch).gradients, expected) < 1e-5


def test_scores_are_the_sums_of_the_gradients(fast: Computer) -> None:
    computed = fast(pixels(0))
    for place, layer in enumerate(LAYERS):
        expected = gradient_scores(computed.gradients[layer])
        torch.testing.assert_close(computed.scores[:, place], expected, rtol=1e-13, atol=0)


def test_the_loss_is_compiled_too(network: IResNet, fast: Computer) -> None:
    expected = oracle_losses(network, normalise(pixels(0), dtype=torch.float64))
    torch.testing.assert_close(fast(pixels(0)).scores[:, SCORES.index(LOSS)], expected, rtol=1e-6, atol=0)


def test_embeddings_are_compiled_too(network: IResNet, fast: Computer) -> None:
    expected = Computer(network, CPU, SIZE, ("block4",), embeddings="flip")(pixels(0)).embeddings
    found = fast(pixels(0)).embeddings
    assert expected is not None
    assert found is not None
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_gradients_that_nobody_wants_are_not_fetched_and_change_nothing(fast: Computer) -> None:
    scores = fast(pixels(0), gradients=False)
    assert scores.gradients == {}
    assert torch.equal(scores.scores, fast(pixels(0)).scores)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_neighbours_and_position_do_not_change_a_bit(network: IResNet, fast: Computer, engine: str) -> None:
    computer = fast if engine == "compiled" else Computer(network, CPU, SIZE, SCORES)
    batch = pixels(0)
    alone = computer(torch.cat([batch[:1], computer.blank()[1:]]))
    generator = torch.Generator().manual_seed(0)
    for place in range(SIZE):
        for _ in range(3):
            others = torch.randint(0, 256, batch.shape, dtype=torch.uint8, generator=generator)
            others[place] = batch[0]
            found = computer(others)
            assert torch.equal(found.scores[place], alone.scores[0])
            assert all(torch.equal(found.gradients[layer][place], alone.gradients[layer][0]) for layer in LAYERS)


def test_one_program_serves_every_checkpoint_and_every_process(
    fast: Computer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a folder of its own, to which nobody else adds a program."""
    place, name = programs.folder(), compiled._name(*fast._compiled(), programs.folder())
    library = programs.library(place, name)
    assert library is not None
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "programs"))
    shutil.copy(library, programs.folder())
    other = Computer(shallow(1), CPU, SIZE, SCORES, embeddings="flip")
    assert other.was_compiled_before()
    program = f"""
import sys
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
import torch
torch.set_num_threads({torch.get_num_threads()})
from test_compiled import CPU, SCORES, SIZE, Computer, pixels, shallow
plain, fast = (Computer(shallow(1), CPU, SIZE, SCORES, embeddings="flip") for _ in range(2))
fast.compile()
torch.testing.assert_close(fast(pixels(0)).scores, plain(pixels(0)).scores, rtol=1e-3, atol=0)
assert not torch.equal(plain(pixels(0)).gradients["image"], fast(pixels(0)).gradients["image"])
"""
    before = binaries()
    assert len(before) == 1
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert binaries() == before


def test_another_batch_or_precision_is_another_program(network: IResNet, fast: Computer) -> None:
    assert Computer(network, CPU, SIZE, SCORES, embeddings="flip").was_compiled_before()
    assert not Computer(network, CPU, SIZE + 1, SCORES, embeddings="flip").was_compiled_before()
    assert not Computer(network, CPU, SIZE, SCORES, precision="bfloat16", embeddings="flip").was_compiled_before()
    assert not Computer(network, CPU, SIZE, SCORES[1:], embeddings="flip").was_compiled_before()
    assert not Computer(
        network, CPU, SIZE, SCORES, preprocessing=Preprocessing("bgr"), embeddings="flip"
    ).was_compiled_before()


def test_a_layer_alone_in_bfloat16_is_compiled_too(network: IResNet) -> None:
    """Alone in float32, it is in test_preparation."""
    plain, rounded = (
        Computer(network, CPU, SIZE, ("block4",), precision=precision)(pixels(0)).gradients
        for precision in ("float32", "bfloat16")
    )
    computer = Computer(network, CPU, SIZE, ("block4",), precision="bfloat16")
    computer.compile()
    found = computer(pixels(0)).gradients
    assert 1e-4 < largest_difference(found, plain) < 2e-2
    assert largest_difference(found, rounded) < largest_difference(found, plain)


def test_the_traced_program_holds_no_weights_and_takes_them_as_inputs(network: IResNet) -> None:
    step = Step(network, ("block4",), Preprocessing(), torch.channels_last)
    graph = compiled.traced(step, pixels(0))
    assert not list(graph.parameters()) + list(graph.buffers())
    weights = compiled.weights_of(step)
    assert {weight.data_ptr() for weight in weights} == {value.data_ptr() for value in step.state_dict().values()}
    torch.testing.assert_close(graph(pixels(0), *weights)[-1], step(pixels(0))[-1], rtol=1e-6, atol=0)


def test_a_compiler_that_fails_leaves_things_as_they_were(
    network: IResNet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(*_: object, **__: object) -> str:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr("torch._inductor.aot_compile", failing)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "programs"))
    computer = Computer(network, CPU, SIZE, ("block3",))
    expected = computer(pixels(0)).scores
    with pytest.raises(CompileError, match=r"no C\+\+ compiler"):
        computer.compile()
    assert torch.equal(computer(pixels(0)).scores, expected)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "programs")
    assert [path for path in (tmp_path / "programs").rglob("*") if path.is_file()] == []


def test_a_damaged_program_is_compiled_again_and_says_so(
    network: IResNet, fast: Computer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("grafiqs"), "propagate", True)
    expected = fast(pixels(0)).scores
    name = compiled._name(*fast._compiled(), programs.folder())
    right = programs.library(programs.folder(), name)
    assert right is not None
    content, compilations = right.read_bytes(), []

    def compiling(*_: object, options: dict[str, str]) -> str:
        compilations.append(name)
        Path(options["aot_inductor.output_path"]).write_bytes(content)
        return ""

    monkeypatch.setattr("torch._inductor.aot_compile", compiling)
    monkeypatch.setattr(compiled, "traced", lambda *_: None)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "programs"))
    for damage in (content[:5000] + b"\x00\xff" + content[5002:], content[: len(content) // 2], b"", content[:-1]):
        (programs.folder() / right.name).write_bytes(damage)
        caplog.clear()
        again = Computer(network, CPU, SIZE, SCORES, embeddings="flip")
        again.compile()
        assert "is damaged (its bytes were changed): compiling it again" in caplog.text
        assert torch.equal(again(pixels(0)).scores, expected)
        programs.forget(programs.folder(), name)
    assert len(compilations) == 4
    (programs.folder() / right.name).write_bytes(content)
    caplog.clear()
    Computer(network, CPU, SIZE, SCORES, embeddings="flip").compile()
    assert caplog.text == ""


def test_what_a_killed_compiler_left_is_removed(tmp_path: Path) -> None:
    done = subprocess.run(["true"], check=False)
    assert done.returncode == 0
    left = tmp_path / f"compiling-{os.uname().nodename}-4194399-x"  # no process has such a number
    elsewhere = tmp_path / "compiling-elsewhere-4194399-x"
    for folder in (left, elsewhere):
        folder.mkdir()
        (folder / "part").touch()
    with programs.workshop(tmp_path) as shop:
        assert shop.is_dir()
        assert shop.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [elsewhere]
