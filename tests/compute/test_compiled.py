"""The fast path against the oracle and against itself: precisions, positions, neighbours, the programs on the disk."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
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
from support.oracle import largest_difference, oracle_gradients, oracle_losses, recorded_branches

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
def fast(network: IResNet) -> Computer:
    computer = Computer(network, CPU, SIZE, SCORES, embeddings="flip")
    computer.compile()
    return computer


def binaries() -> dict[Path, float]:
    """The machine code in the cache, and when it was written."""
    return {path: path.stat().st_mtime for path in programs.folder().rglob("*.so")}


class Recording(nn.Module):
    """A step that also says which side of its kink every PReLU took."""

    def __init__(self, network: IResNet) -> None:
        super().__init__()
        self.step = Step(network, LAYERS, Preprocessing(), torch.channels_last)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        with recorded_branches(self.step.network) as branches:
            found = self.step(pixels)
        return (*found, *branches.values())


def test_the_compiled_program_agrees_with_the_oracle(network: IResNet, fast: Computer) -> None:
    batch = pixels(0)
    *found, _scores = compiled.program(Recording(network), batch)(batch)[: len(LAYERS) + 1]
    sides = compiled.program(Recording(network), batch)(batch)[len(LAYERS) + 1 :]
    names = [name for name, module in network.named_modules() if isinstance(module, nn.PReLU)]
    expected = oracle_gradients(network, normalise(batch, dtype=torch.float64), dict(zip(names, sides, strict=True)))
    assert largest_difference(dict(zip(LAYERS, found, strict=True)), expected) < 1e-5
    # What runs is that program without the record, and rounds as it does.
    own = fast(batch).gradients
    assert largest_difference(own, dict(zip(LAYERS, found, strict=True))) < 1e-5


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


def test_one_program_serves_every_checkpoint_and_every_process(network: IResNet, fast: Computer) -> None:
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
