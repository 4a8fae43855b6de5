"""How a run computes: what is chosen, what a stopped run keeps, and what happens when the fast path is wrong."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.checkpoint import load_checkpoint
from grafiqs.backbones.iresnet import IResNet
from grafiqs.cli import main
from grafiqs.compute import compiled, devices, tuning
from grafiqs.compute.compiled import CompileError, Program
from grafiqs.compute.computer import Computed, Computer
from grafiqs.compute.selfcheck import Differences, differences
from grafiqs.demo.embedded import demo_backbone
from grafiqs.images.decoding import decode
from grafiqs.images.reading import Reader
from grafiqs.images.tensors import normalise, resized
from support.killing import lines_of
from support.making import make_faces, picture, random_network, recorded_statistics, tree, without_progress
from support.oracle import oracle_gradients

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def command(faces: Path, weights: Path) -> list[str]:
    """A run of block4 alone, whose program is small."""
    return ["extract", "--image-path", str(faces), "--weights", str(weights), "--layers", "block4", "--batch-size", "4"]


@pytest.fixture(scope="module")
def whole(command: list[str], tmp_path_factory: pytest.TempPathFactory, compiling: FileLock) -> Path:
    """A compiled run that was never stopped."""
    output = tmp_path_factory.mktemp("compiled") / "run"
    with compiling:
        assert main([*command, "--output-dir", str(output), "--compile", "on", "--quiet"]) == 0
    return output


def manifest(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "manifest.json").read_text())
    return found


def wrong_by(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the compiler make programs whose results are larger by `share`."""
    right = compiled.program

    def program(*step_and_pixels: Any) -> Program:
        run = right(*step_and_pixels)
        return lambda pixels: tuple(value * (1 + share) for value in run(pixels))

    monkeypatch.setattr(compiled, "program", program)


def test_the_manifest_says_how_it_was_computed_and_how_far_from_the_reference(whole: Path) -> None:
    made = manifest(whole)
    assert made["computation"] == {"engine": "compiled", "precision": "float32", "device": "cpu", "batch_size": 4}
    (environment,) = made["environments"]
    assert (environment["engine"], environment["precision"]) == ("compiled", "float32")
    check = environment["self_check"]
    assert check["images"] == 4
    assert 0 < check["gradients"]["block4"] < 1e-4
    assert 0 <= check["scores"]["block4"] < 1e-5


def test_a_compiled_run_that_was_stopped_ends_like_one_that_was_not(
    command: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At image 7: in the middle of a batch."""
    from grafiqs.run.folder import RunFolder

    record, seen = RunFolder.record, iter(range(100))

    def stopping(run: RunFolder, outcome: Any) -> None:
        if next(seen) == 7:
            raise KeyboardInterrupt
        record(run, outcome)

    monkeypatch.setattr(RunFolder, "record", stopping)
    run = [*command, "--output-dir", str(tmp_path / "run"), "--quiet"]
    assert main([*run, "--compile", "on"]) == 130
    monkeypatch.undo()
    assert main(run) == 0  # auto: as it was begun
    assert tree(tmp_path / "run") == tree(whole)


def test_what_a_command_leaves_open_is_as_it_was_begun(command: list[str], whole: Path, tmp_path: Path) -> None:
    """Also the batch size, where it is smaller than what the self-check takes at once."""
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "block4" / "ann" / "3_grad.npy").unlink()
    assert main([*command[:-2], "--output-dir", str(tmp_path / "run"), "--quiet"]) == 0
    assert tree(tmp_path / "run") == tree(whole)


@pytest.mark.parametrize("damage", [{"engine": "foo"}, {"batch_size": None}, {"batch_size": 0}])
def test_a_manifest_that_does_not_say_how_it_was_computed_is_damaged(
    damage: dict[str, Any], command: list[str], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    made = manifest(tmp_path / "run")
    made["computation"].update(damage)
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(made))
    assert main([*command, "--output-dir", str(tmp_path / "run"), "--quiet"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_the_self_check_looks_at_every_place_of_a_batch() -> None:
    network = random_network()
    pixels = torch.stack([resized(picture(number)) for number in range(10)])
    computed = Computer(network, CPU, 10, ("block4",))(pixels)
    reference = Computer(network, CPU, 4, ("block4",))
    for place in range(10):
        blind = {"block4": computed.gradients["block4"].clone()}
        blind["block4"][place] = 0
        found = differences(Computed(blind, computed.scores), range(10), pixels, reference, ("block4",))
        assert found.gradients == {"block4": pytest.approx(1)}
        assert found.images == 10
    some = differences(Computed(blind, computed.scores), range(9), pixels[:9], reference, ("block4",))
    assert some.gradients["block4"] < 1e-5


def test_the_compiled_run_gives_the_scores_of_the_plain_one(command: list[str], whole: Path, tmp_path: Path) -> None:
    from grafiqs import open_run

    assert main([*command, "--output-dir", str(tmp_path / "plain"), "--compile", "off", "--quiet"]) == 0
    plain, fast = (open_run(output).scores["block4"] for output in (tmp_path / "plain", whole))
    assert abs(fast / plain - 1).max() < 1e-5
    assert manifest(tmp_path / "plain")["environments"][0]["self_check"] is None


def test_another_engine_or_precision_is_another_run(
    command: list[str], whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(whole)
    for option, line in (
        (("--compile", "off"), "computation.engine: compiled in the folder, eager asked for"),
        (("--norms", "all"), "options.norms: maps in the folder, all asked for"),
        (("--precision", "bfloat16"), "computation.precision: float32 in the folder, bfloat16 asked for"),
    ):
        assert main([*command, *option, "--output-dir", str(whole), "--quiet"]) == 2
        assert f"  - {line}\n" in capsys.readouterr().err
    assert tree(whole) == before


@pytest.mark.parametrize("share", [0.36, 2e-3, float("nan")])
def test_a_program_that_is_wrong_gives_way_to_the_reference(
    share: float,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = [*command, "--output-dir", str(tmp_path / "plain"), "--compile", "off", "--quiet"]
    run = [*command, "--output-dir", str(tmp_path / "run"), "--compile", "on", "--quiet"]
    assert main(plain) == 0
    wrong_by(share, monkeypatch)
    assert main(run) == 0
    said = capsys.readouterr().err
    assert "differs from the reference in the gradient at block4 by" in said
    assert "the reference computes this run" in said
    made = manifest(tmp_path / "run")
    assert made["computation"]["engine"] == "compiled"
    assert made["environments"][0]["engine"] == "eager"
    if share == share:
        assert made["environments"][0]["self_check"]["scores"]["block4"] == pytest.approx(share, rel=0.01)
    files = {path: data for path, data in tree(tmp_path / "run").items() if path.endswith((".npy", ".csv"))}
    assert files.items() <= tree(tmp_path / "plain").items()
    # The same command goes on with what the reference began, and verify knows nothing wrong.
    before = tree(tmp_path / "run")
    (tmp_path / "run" / "block4" / "ann" / "3_grad.npy").unlink()
    assert main(run) == 0
    assert tree(tmp_path / "run") == before
    assert main(["verify", str(tmp_path / "run"), "--quiet"]) == 0


def test_without_a_compiler_a_run_is_slower_and_says_so(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(tuning.COMPILING, "cpu", 0)  # it always pays

    def failing(*_: Any) -> Program:
        raise CompileError("no C++ compiler")

    monkeypatch.setattr(compiled, "program", failing)
    run = [*command, "--output-dir", str(tmp_path / "run"), "--quiet"]
    assert main([*run, "--compile", "on"]) == 2
    assert "the computation cannot be compiled here (no C++ compiler)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(run) == 0
    assert "warning: the computation is not compiled (no C++ compiler)" in capsys.readouterr().err
    assert manifest(tmp_path / "run")["environments"][0]["engine"] == "eager"


def test_auto_compiles_where_that_pays(
    command: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tuning.COMPILING, "cpu", 1e9)
    for name, batches, engine in (("few", 1e9, "eager"), ("known", 1, "compiled")):
        monkeypatch.setattr(tuning, "BATCHES", batches)
        assert main([*command, "--output-dir", str(tmp_path / name), "--quiet"]) == 0
        assert manifest(tmp_path / name)["computation"]["engine"] == engine
    assert tree(tmp_path / "known") == tree(whole)


def test_a_finished_run_is_not_prepared_again(command: list[str], whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Program:
        raise AssertionError("compiled for nothing")

    monkeypatch.setattr(compiled, "program", failing)
    before = tree(whole)
    assert main([*command, "--output-dir", str(whole), "--quiet"]) == 0
    assert tree(whole) == before


def test_tf32_is_refused_on_a_cpu(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--output-dir", str(tmp_path / "run"), "--precision", "tf32", "--device", "cpu"]) == 2
    assert "give float32 or bfloat16" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_bfloat16_warns_where_the_cpu_has_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for capabilities, warns in (({"avx2": True, "avx512_bf16": False}, True), ({"amx_bf16": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)  # noqa: B023
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            devices.check_precision("bfloat16", CPU)
        assert ("slower here" in caplog.text) == warns


def test_bfloat16_keeps_scores_and_their_order() -> None:
    """On a trained network: every score within half a percent, ranks as good as the same."""
    network = load_checkpoint(demo_backbone()).network
    plain, rounded = (Computer(network, CPU, 8, LAYERS, precision=name) for name in ("float32", "bfloat16"))
    pixels = torch.stack([resized(picture(1000 * person + face)) for person in range(6) for face in range(4)])
    expected, found = (
        torch.cat([computer(batch, gradients=False).scores for batch in torch.split(pixels, 8)])
        for computer in (plain, rounded)
    )
    relative = (found / expected - 1).abs()
    assert 1e-5 < relative.amax() < 5e-3
    for one, other in zip(expected.T, found.T, strict=True):
        ranks = torch.stack([values.argsort().argsort().double() for values in (one, other)])
        assert torch.corrcoef(ranks)[0, 1] > 0.999


def test_bfloat16_differs_and_is_checked_too(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*command, "--output-dir", str(tmp_path / "run"), "--precision", "bfloat16", "--compile", "off"]
    assert main(run) == 0
    assert "eager in bfloat16, agrees with the reference" in capsys.readouterr().out
    (environment,) = manifest(tmp_path / "run")["environments"]
    assert environment["precision"] == "bfloat16"
    assert 1e-4 < environment["self_check"]["gradients"]["block4"] < 5e-2


def test_the_self_check_finds_one_image_that_is_wrong_at_one_layer() -> None:
    network = random_network()
    pixels = torch.stack([resized(picture(number)) for number in range(3)])
    computer = Computer(network, CPU, 3, LAYERS)
    computed = computer(pixels)
    computed.gradients["block2"][1] *= 1.25
    computed.scores[1, 2] *= 1.25
    found = differences(computed, range(3), pixels, computer, LAYERS)
    assert found.images == 3
    assert found.gradients == {layer: pytest.approx(0.25 * (layer == "block2"), rel=1e-5) for layer in LAYERS}
    assert found.scores == {layer: pytest.approx(0.25 * (layer == "block2"), rel=1e-5) for layer in LAYERS}
    assert len(found.beyond("float32")) == 2
    assert "the score block2 by 0.25" in found.beyond("bfloat16")
    assert Differences(1, {"block4": 0.0}, {"block4": 0.0}).beyond("float32") == []


def test_images_without_finite_scores_are_not_compared() -> None:
    network = random_network()
    with torch.no_grad():
        network.bn2.running_mean.fill_(float("inf"))  # type: ignore[union-attr]
    computer, pixels = Computer(network, CPU, 2, ("block4",)), torch.zeros(2, 3, 112, 112, dtype=torch.uint8)
    found = differences(computer(pixels), range(2), pixels, computer, ("block4",))
    assert (found.images, found.beyond("float32")) == (0, [])


def test_a_request_that_cannot_be_prepared_leaves_a_finished_run_finished(
    command: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "block4" / "ann" / "3_grad.npy").unlink()
    before = tree(tmp_path / "run")

    def failing(*_: object) -> Computed:
        raise RuntimeError("no room")

    monkeypatch.setattr(Computer, "__call__", failing)
    assert main([*command, "--output-dir", str(tmp_path / "run"), "--quiet"]) == 2
    assert tree(tmp_path / "run") == before


# -- float64, batches, images that changed ------------------------------------------------------------------


def scores_of(output: Path) -> dict[str, Any]:
    from grafiqs import open_run

    found = open_run(output).scores
    return {layer: found[layer] for layer in open_run(output).manifest.layers}


def test_float64_is_the_reference_itself(weights: Path, tmp_path: Path) -> None:
    """Also with another batch size and number of threads: to nine digits and more."""
    faces = make_faces(tmp_path / "faces", {"ann": 3, "bob": 4})
    run = ["extract", "--image-path", str(faces), "--weights", str(weights), "--precision", "float64", "--quiet"]
    assert main([*run, "--output-dir", str(tmp_path / "one"), "--batch-size", "1"]) == 0
    torch.set_num_threads(2)
    assert main([*run, "--output-dir", str(tmp_path / "six"), "--batch-size", "6"]) == 0
    torch.set_num_threads(1)
    one, six = (scores_of(tmp_path / name) for name in ("one", "six"))
    checkpoint = load_checkpoint(weights)
    pixels = resized(decode((faces / "ann" / "0.png").read_bytes()))[None]
    expected = oracle_gradients(checkpoint.network, normalise(pixels, dtype=torch.float64))
    for layer in LAYERS:
        assert abs(one[layer] / six[layer] - 1).max() < 1e-12
        assert one[layer][0] == pytest.approx(float(expected[layer].abs().sum()), rel=1e-12)
    gradient = np.load(tmp_path / "one" / "block1" / "ann" / "0_grad.npy")
    assert gradient.dtype == np.float32
    assert np.array_equal(gradient, expected["block1"][0].float().numpy())
    (environment,) = manifest(tmp_path / "one")["environments"]
    assert (environment["engine"], environment["precision"], environment["self_check"]) == ("eager", "float64", None)
    assert main(["verify", str(tmp_path / "one"), "--quiet"]) == 0


def test_float64_is_not_compiled(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = [*command, "--output-dir", str(tmp_path / "run"), "--precision", "float64", "--compile", "on"]
    assert main(run) == 2
    assert "leave --compile out" in capsys.readouterr().err


def test_float32_lies_near_float64_and_batches_are_the_single_images_bit_for_bit() -> None:
    network = recorded_statistics(lambda: IResNet((1, 1, 1, 1), embedding_size=32))
    pixels = torch.stack([resized(picture(number)) for number in range(4)])
    alone, together = (Computer(network, CPU, size, LAYERS) for size in (1, 4))
    expected = Computer(network, CPU, 4, LAYERS, precision="float64")(pixels)
    found = together(pixels)
    single = [alone(pixels[place : place + 1]) for place in range(4)]
    for column, layer in enumerate(LAYERS):
        assert all(torch.equal(found.gradients[layer][place], single[place].gradients[layer][0]) for place in range(4))
        torch.testing.assert_close(found.scores[:, column], expected.scores[:, column], rtol=1e-4, atol=0)
    assert together._step.memory_format == torch.contiguous_format


def stopped_in_a_batch(run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop it with two of the four images of its second batch done."""
    from grafiqs.run.folder import RunFolder

    record, seen = RunFolder.record, iter(range(100))

    def stopping(run: RunFolder, outcome: Any) -> None:
        if next(seen) == 6:
            raise KeyboardInterrupt
        record(run, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "record", stopping)
        assert main(run) == 130


@pytest.mark.parametrize("how", ["other", "gone"])
def test_an_image_that_changed_since_it_was_scored_is_noticed_when_its_batch_is_read_again(
    how: str,
    faces: Path,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(faces, tmp_path / "faces")
    run = [*command, "--output-dir", str(tmp_path / "run"), "--quiet", "--compile", "off"]
    run[2] = str(tmp_path / "faces")
    stopped_in_a_batch(run, monkeypatch)
    image = tmp_path / "faces" / "ann" / "4.png"  # the first of the second batch
    content = image.read_bytes()
    image.write_bytes((faces / "bob" / "0.png").read_bytes() if how == "other" else b"")
    capsys.readouterr()
    before = without_progress(tmp_path / "run")
    assert main(run) == 3
    said = capsys.readouterr().err
    assert "the image ann/4.png is no longer the one that was scored. 6 of 19 images are done and kept" in said
    assert "--overwrite" in said
    assert without_progress(tmp_path / "run") == before
    assert lines_of(tmp_path / "run") == 6
    image.write_bytes(content)
    assert main(run) == 0


def test_a_run_goes_on_with_another_batch_size_and_says_so(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*command, "--output-dir", str(tmp_path / "run"), "--quiet", "--compile", "off"]
    stopped_in_a_batch(run, monkeypatch)
    capsys.readouterr()
    run[run.index("--batch-size") + 1] = "2"
    assert main(run) == 0
    assert "this run began in another environment (batch_size 4 then, 2 now)" in capsys.readouterr().err
    made = manifest(tmp_path / "run")
    assert made["computation"]["batch_size"] == 4
    assert [environment["batch_size"] for environment in made["environments"]] == [4, 2]
    assert main(["verify", str(tmp_path / "run"), "--quiet"]) == 0


def test_the_first_batch_is_computed_once(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what is held against the reference, and what is written."""
    computed, call = [], Computer.__call__

    def counting(self: Computer, pixels: torch.Tensor, gradients: bool = True) -> Computed:
        computed.append((self.batch_size, self.precision))
        return call(self, pixels, gradients)

    monkeypatch.setattr(Computer, "__call__", counting)
    monkeypatch.setattr(tuning, "CHECKED", 3)
    run = [*command, "--compile", "off", "--quiet"]
    assert main([*run, "--output-dir", str(tmp_path / "plain")]) == 0
    assert computed == [(4, "float32")] * 5
    computed.clear()
    assert main([*run, "--output-dir", str(tmp_path / "rounded"), "--precision", "bfloat16"]) == 0
    assert computed == [(4, "bfloat16"), (3, "float32"), *[(4, "bfloat16")] * 4]
    assert main([*run, "--output-dir", str(tmp_path / "scores"), "--no-dump-gradients"]) == 0
    assert sorted(path.name for path in (tmp_path / "scores").iterdir() if path.is_dir()) == []


def test_the_first_batch_is_read_once_while_the_engine_is_chosen(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    read = Reader.__call__

    def counting(self: Reader, location: str) -> Any:
        seen.append(location)
        return read(self, location)

    monkeypatch.setattr(Reader, "__call__", counting)
    monkeypatch.setattr("grafiqs.planning.are_plainly_unaligned", lambda *_: False)
    monkeypatch.setattr("grafiqs.planning.refuse_futile", lambda *_: None)
    monkeypatch.setattr("grafiqs.compute.preparation.Computer.was_compiled_before", lambda _self: False)
    assert main([*command, "--compile", "auto", "--quiet", "--output-dir", str(tmp_path / "run")]) == 0
    assert len(seen) == len(set(seen)) > 0


def test_a_dry_run_measures_what_the_run_does(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading on all threads, beside the computation: were it one after the other, it would take twice as long."""
    read, call = Reader.__call__, Computer.__call__

    def slow_read(self: Reader, location: str) -> Any:
        time.sleep(0.04)
        return read(self, location)

    def slow_call(self: Computer, pixels: torch.Tensor, gradients: bool = True) -> Computed:
        time.sleep(0.32)
        return call(self, pixels, gradients)

    monkeypatch.setattr(Reader, "__call__", slow_read)
    monkeypatch.setattr(Computer, "__call__", slow_call)
    monkeypatch.setattr("grafiqs.planning.are_plainly_unaligned", lambda *_: False)
    run = [*command, "--compile", "off", "--batch-size", "8", "--output-dir", str(tmp_path / "run"), "--dry-run"]
    assert main(run) == 0
    found = re.search(r"at ([\d.]+) images a second", capsys.readouterr().out)
    assert found is not None
    assert 15 < float(found[1]) < 25  # 8 in 0.32 s, and what the small network takes
