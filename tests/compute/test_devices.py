"""The machine: numbers are what they are asked to be whatever the caller has set, and what is the caller's stays so."""

from __future__ import annotations

import ctypes
import multiprocessing
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from grafiqs import Options, RequestError, cli, extract, extract_gradients
from grafiqs.cli import main
from grafiqs.compute import cuda, devices
from support.making import tree

CPU = torch.device("cpu")
GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than that of Linux")


def alone(function: str, *arguments: object) -> None:
    """Call a function of this module in a process of its own, in which nothing has been set yet."""
    path = [str(folder) for folder in Path(__file__).parents[:2]]
    code = f"import sys; sys.path[:0] = {path!r}; import test_devices; test_devices.{function}(*{arguments!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


# -- number formats ----------------------------------------------------------------------------------------

STATES = [
    "",
    *(f'backends.fp32_precision = "{value}"' for value in ("tf32", "ieee", "bf16")),
    *(f'backends.cudnn.fp32_precision = "{value}"' for value in ("tf32", "ieee")),
    *(f'backends.cudnn.conv.fp32_precision = "{value}"' for value in ("none", "tf32", "ieee")),
    'backends.cudnn.rnn.fp32_precision = "ieee"',
    *(f'backends.cuda.matmul.fp32_precision = "{value}"' for value in ("none", "tf32", "ieee")),
    *(f'backends.mkldnn.{name}.fp32_precision = "bf16"' for name in ("conv", "rnn", "matmul")),
    'backends.mkldnn.set_flags(_fp32_precision="bf16")',
    *(f'torch.set_float32_matmul_precision("{value}")' for value in ("highest", "high", "medium")),
    *(f"backends.cuda.matmul.allow_tf32 = {value}" for value in (True, False)),
    *(f"backends.cudnn.allow_tf32 = {value}" for value in (True, False)),
    # In any mix, of which PyTorch's older interface raises.
    'backends.fp32_precision = "tf32"; backends.cudnn.allow_tf32 = False',
    'backends.fp32_precision = "tf32"; backends.cudnn.conv.fp32_precision = "ieee"',
    'backends.cudnn.conv.fp32_precision = "ieee"; backends.cudnn.rnn.fp32_precision = "tf32"',
    'torch.set_float32_matmul_precision("high"); backends.cuda.matmul.fp32_precision = "ieee"',
    'torch.set_float32_matmul_precision("medium"); backends.cuda.matmul.fp32_precision = "none"',
    'torch.set_float32_matmul_precision("medium"); backends.fp32_precision = "ieee"',
    'backends.cuda.matmul.allow_tf32 = True; backends.mkldnn.matmul.fp32_precision = "bf16"',
]
PLACES = [
    ("generic", "all"),
    *((backend, operation) for backend in ("cuda", "mkldnn") for operation in ("all", "conv", "rnn", "matmul")),
]


def told() -> dict[tuple[str, str], str]:
    return {place: torch._C._get_fp32_precision_getter(*place) for place in PLACES}


def told_by_the_older_interface() -> list[object]:
    answers: list[object] = []
    for ask in (torch._C._get_cudnn_allow_tf32, torch._C._get_cublas_allow_tf32, torch.get_float32_matmul_precision):
        try:
            answers.append(ask())
        except RuntimeError:
            answers.append("raises")
    return answers


def computed_as_wanted(precision: str) -> bool:
    found = told()
    wanted = {place: "tf32" if place[0] == "cuda" and precision != "float32" else "ieee" for place in PLACES}
    return found == wanted and told_by_the_older_interface()[1:] == (
        [False, "highest"] if precision == "float32" else [True, "high"]
    )


def after(state: str, precision: str) -> list[object]:
    """All that can be found out about PyTorch's settings after that, also by changing what others inherit."""
    warnings.simplefilter("error")
    exec(state, {"torch": torch, "backends": torch.backends})
    if precision:
        with devices.arithmetic(precision):
            assert computed_as_wanted(precision)
            with suppress(KeyError), devices.arithmetic("float32"):
                assert computed_as_wanted("float32")
                raise KeyError
            assert computed_as_wanted(precision)
    found: list[object] = [told(), told_by_the_older_interface()]
    for places in ([("generic", "all")], [("cuda", "all"), ("mkldnn", "all")]):
        for value in ("tf32", "ieee", "none"):
            for place in places:
                torch._C._set_fp32_precision_setter(*place, value)
            found += [told(), told_by_the_older_interface()]
    return found


def check_number_formats() -> None:
    # A process for each state: what has been set once cannot be made as it was before.
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for state in STATES:
            plain, *others = pool.starmap(after, [(state, precision) for precision in ("", "float32", "tf32")], 1)
            assert others == [plain] * 2, state


def test_number_formats_are_what_was_asked_for_and_then_what_the_caller_has_set() -> None:
    alone("check_number_formats")


@contextmanager
def put(backend: str, operation: str, value: str) -> Iterator[None]:
    torch._C._set_fp32_precision_setter(backend, operation, value)
    try:
        yield
    finally:
        torch._C._set_fp32_precision_setter(backend, operation, "none")


@pytest.mark.parametrize("operation", ["conv", "matmul"])
def test_float32_is_not_rounded_where_the_caller_lets_it_be(operation: str) -> None:
    """On a CPU whose library can compute float32 in bfloat16."""
    layer = nn.Conv2d(64, 64, 3, bias=False) if operation == "conv" else nn.Linear(28, 64, bias=False)
    x = torch.randn(4, 64, 28, 28)
    with torch.no_grad(), put("mkldnn", operation, "none"):
        expected = layer(x)
    with torch.no_grad(), put("mkldnn", operation, "bf16"):
        rounded = layer(x)
        with devices.arithmetic():
            assert torch.equal(layer(x), expected)
    if torch.equal(rounded, expected):
        pytest.skip("PyTorch rounds no float32 numbers on this CPU, whatever is set")


@pytest.mark.parametrize("name", ["ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])
def test_a_variable_that_has_the_cpu_round_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    for value in ("strict", "STRICT"):
        monkeypatch.setenv(name, value)
        devices.check_precision("float32", CPU)
    monkeypatch.setenv(name, "bf16")
    for precision in ("float32", "bfloat16"):
        with pytest.raises(RequestError, match=f"{name}=bf16 has this CPU round float32 numbers"):
            devices.check_precision(precision, CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    devices.check_precision("float32", CPU)


# -- what else the caller may have set ---------------------------------------------------------------------


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def without_onednn() -> Iterator[None]:
    torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(True)  # type: ignore[no-untyped-call]


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: default_device("meta"),
    "meta here": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "without oneDNN": without_onednn,
    "deterministic": deterministic,
    "tf32": lambda: put("generic", "all", "tf32"),
    "bf16": lambda: put("generic", "all", "bf16"),
}


def run(faces: Path, weights: Path, output: Path) -> dict[str, bytes]:
    options = Options(
        image_path=faces,
        weights=weights,
        output_dir=output,
        num_identities=1,
        samples_per_identity=3,
        batch_size=3,
        embeddings=True,
        compile="off",
        device="cpu",
        quiet=True,
    )
    extract_gradients(options)
    files = tree(output)
    for name in ("manifest.json", "SHA256SUMS"):  # places
        del files[name]
    return files


@pytest.fixture(scope="module")
def plain(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return run(faces, weights, tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_has_the_same_bytes_whatever_the_caller_has_set(
    name: str, plain: dict[str, bytes], faces: Path, weights: Path, tmp_path: Path
) -> None:
    def settings() -> tuple[object, ...]:
        return (
            torch.get_default_dtype(), torch.get_default_device(), torch.is_inference_mode_enabled(),
            torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.are_deterministic_algorithms_enabled(),
            *(getattr(torch.backends.cudnn, flag) for flag in ("enabled", "benchmark", "deterministic")),
            torch.backends.mkldnn.enabled, told(), told_by_the_older_interface(),
        )  # fmt: skip

    with SETTINGS[name]():
        before = settings()
        assert run(faces, weights, tmp_path / "run") == plain
        assert settings() == before


def test_settings_return_when_a_run_fails(tmp_path: Path) -> None:
    with default_dtype(torch.float64), torch.inference_mode(), default_device("meta"):
        with pytest.raises(RequestError):
            extract_gradients(Options(image_path=tmp_path / "none", output_dir=tmp_path / "run"))
        assert torch.get_default_dtype() == torch.float64
        assert torch.is_inference_mode_enabled()
        assert torch.get_default_device() == torch.device("meta")
    with suppress(KeyError), torch.autocast("cpu"), devices.arithmetic():
        assert not torch.is_autocast_enabled("cpu")
        raise KeyError
    assert not torch.backends.cudnn.deterministic


# -- memory ------------------------------------------------------------------------------------------------


def seconds_for(megabytes: int) -> float:
    """How long it takes to make an array of that size and let it go again."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        np.ones(megabytes * 2**17)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def pages_for(megabytes: int) -> int:
    """How many pages the system has to find for five tensors of that size, made and let go one after the other."""
    counts = []
    for _ in range(4):  # what comes first finds no place that has room yet
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.ones(megabytes * 2**18)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)


def check_allocations(faces: str, weights: str, output: str) -> None:
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for largest in (0, 30):
            pool.apply(compare_allocations, (Path(faces), Path(weights), Path(output, str(largest)), largest))


def compare_allocations(faces: Path, weights: Path, output: Path, largest: int) -> None:
    """Before a run and after it, in a process that had arrays of so many megabytes before."""
    np.ones(largest * 2**17)
    pages = {size: pages_for(size) for size in (4, 16)}
    seconds = {size: seconds_for(size) for size in (4, 16, 64)}
    run(faces, weights, output)
    for size in pages:
        assert pages_for(size) <= 1.5 * pages[size] + 100, (largest, size)
    for size in seconds:
        assert any(seconds_for(size) <= 1.5 * seconds[size] for _ in range(20)), (largest, size)


@GLIBC
def test_arrays_of_the_caller_cost_after_a_run_what_they_did_before(faces: Path, weights: Path, tmp_path: Path) -> None:
    alone("check_allocations", str(faces), str(weights), str(tmp_path))


def check_what_is_kept() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    with devices.kept_memory():
        assert pages_for(25) < 100 < pages_for(64)
        many = [torch.ones(2**18) for _ in range(200)]
        del many[:-1]  # the last stands at the end of the memory, which could be cut off otherwise
        held = resident()
    assert resident() < held - 150 * 2**20
    devices.keep_all_memory()
    assert pages_for(64) < 100


@GLIBC
def test_memory_is_kept_inside_the_block_and_by_a_command_all_of_it() -> None:
    alone("check_what_is_kept")


def test_a_command_keeps_all_memory_in_a_process_of_its_own_alone(
    plain: dict[str, bytes], faces: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(devices, "keep_all_memory", lambda: calls.append("kept"))
    run(faces, weights, tmp_path / "run")
    assert not calls
    monkeypatch.setattr(extract, "extract_gradients", lambda _: calls.append("run"))
    arguments = ["extract", "--image-path", str(faces), "--weights", str(weights), "--quiet"]
    assert main(arguments) == 0
    assert calls == ["run"]
    monkeypatch.setattr(cli, "_begin", lambda: None)  # which makes the process as a command should find it
    monkeypatch.setattr(sys, "argv", ["grafiqs", *arguments])
    assert main() == 0
    assert calls == ["run", "kept", "run"]


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(name: str | None) -> ctypes.CDLL:
        raise AssertionError

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", failing)
    devices.keep_all_memory()
    with devices.kept_memory():
        torch.ones(10)


# -- the environment ---------------------------------------------------------------------------------------


def test_a_cpu_is_known_by_what_changes_last_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in devices._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    plain = devices.environment(CPU)
    packages = {"grafiqs", "torch", "numpy", "pillow"}
    assert plain.keys() == {"python", "platform", *packages, "device", "threads"}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert devices.environment(CPU) == {**plain, "ONEDNN_MAX_CPU_ISA": "SSE41"}


class Driver:
    """NVIDIA's library of management, as far as it is asked."""

    def __init__(self, failure: int = 0) -> None:
        self.failure = failure

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return self.failure

    def nvmlSystemGetDriverVersion(self, found: ctypes.Array[ctypes.c_char], length: ctypes.c_uint) -> int:  # noqa: N802
        found.value = b"580.95.05"[: length.value - 1]
        return 0


@pytest.mark.parametrize("driver", [True, False])
def test_a_gpu_is_known_by_what_changes_last_digits(driver: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def library(name: str) -> Driver:
        assert name == "libnvidia-ml.so.1"
        if not driver:
            raise OSError("no such library")
        return Driver()

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch, "version", SimpleNamespace(cuda="13.0"))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91300, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", library)
    found = devices.environment(torch.device("cuda", 0))
    assert (
        found.items()
        >= {
            "device": "cuda NVIDIA H100",
            "compute_capability": "9.0",
            "driver": "580.95.05" if driver else None,
            "cuda": "13.0",
            "cudnn": 91300,
        }.items()
    )
    assert "triton" in found
    monkeypatch.setattr(cuda, "version", lambda name: f"version of {name}")
    assert devices.environment(torch.device("cuda", 0))["triton"] == "version of triton"


def test_a_driver_that_does_not_answer_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(failure=9))
    assert cuda._driver() is None
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert cuda._driver() is None
