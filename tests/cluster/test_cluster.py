"""A run on a Ray cluster of two nodes: the bytes of one process, whatever happens to workers and nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from grafiqs.cli import main
from support.browser import absent
from support.commands import extracting
from support.making import make_faces, tree

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


def need_ray() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        absent("needs Ray: pip install 'grafiqs[ray]'")


@contextmanager
def cluster() -> Iterator[Any]:
    """Two nodes of a core each, on this machine."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        made.add_node(num_cpus=1)
        yield made
    finally:
        made.shutdown()  # type: ignore[no-untyped-call]


class Runs:
    """The same run, made again and again: 120 faces in shards of 4, one of which cannot be read."""

    def __init__(self, folder: Path, weights: Path, address: str) -> None:
        self.folder, self.weights, self.address = folder, weights, address
        self.faces = make_faces(folder / "faces", {"ann": 40, "bob": 40, "cyd": 40})
        (self.faces / "bob" / "7.png").write_bytes(b"no image")
        assert main(self.command("alone")) == 1
        self.alone = tree(folder / "alone")

    def command(self, output: str, *more: str) -> list[str]:
        sizes = ("--layers", "block4", "--batch-size", 2, "--shard-size", 4)
        return extracting(self.faces, self.weights, self.folder / output, *sizes, "--quiet", *more)

    def on_cluster(self, output: str, *more: str) -> list[str]:
        return self.command(output, "--engine", "ray", "--ray-address", self.address, "--ray-cpus", "1", *more)

    def shards_done(self, output: str) -> int:
        return len(list((self.folder / output / "progress").glob("*.done")))

    def workers(self, output: str) -> set[int]:
        """The processes that hold shards."""
        from grafiqs.run.claims import Claims

        claims = Claims(self.folder / output / "progress")
        holders = [claims.holder(name) for work, name in claims.newest().items() if work.isdecimal()]
        return {holder.process for holder in holders if holder is not None}


@contextmanager
def when(condition: Callable[[], bool], then: Callable[[], object]) -> Iterator[None]:
    """Beside the block, do something as soon as a condition holds; it has to."""
    met = threading.Event()

    def watch() -> None:
        for _ in range(1200):
            if condition():
                then()
                met.set()
                return
            time.sleep(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()
    assert met.is_set()


def test_a_cluster(tmp_path: Path, weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One cluster for all that is to be seen there: starting one takes many seconds."""
    need_ray()
    with cluster() as nodes:
        runs = Runs(tmp_path, weights, nodes.address)
        a_run_has_the_bytes_of_one_process(runs, capfd)
        a_node_that_sees_something_else_is_refused(runs, capfd)
        a_worker_that_is_killed_is_replaced(runs)
        a_command_that_is_stopped_ends_its_workers(runs)
        a_node_that_goes_away_is_survived(runs, nodes)
        a_cluster_that_goes_away_is_said(runs, nodes)


def a_run_has_the_bytes_of_one_process(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    command = [each for each in runs.on_cluster("ray") if each != "--quiet"]
    assert main(command) == 1
    said = capfd.readouterr()
    assert tree(runs.folder / "ray") == runs.alone
    assert "On a Ray cluster of 2 nodes (2 cores, 0 GPUs): 2 workers" in said.out
    assert said.out.count("Input: 112x112 RGB") == 1
    assert "119 of 120 images have scores" in said.out
    assert "1 images have no score" in said.err
    assert main(runs.on_cluster("ray")) == 1  # it is finished
    assert tree(runs.folder / "ray") == runs.alone


def a_node_that_sees_something_else_is_refused(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    """Its folders are others, as where nothing is shared: here, a folder that is gone when workers look for it."""
    here, gone = Path.cwd(), runs.folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rename(runs.folder / "moved")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getcwd", lambda: str(gone))
            assert main(runs.on_cluster("refused")) == 2
    finally:
        os.chdir(here)
    assert "all nodes need a file system that they share" in capfd.readouterr().err
    assert not (runs.folder / "refused").exists()


def a_worker_that_is_killed_is_replaced(runs: Runs) -> None:
    """Killed three times; each time, all that hold a shard."""
    killed: set[int] = set()

    def kill() -> None:
        for process in runs.workers("killed") - {os.getpid()}:
            killed.add(process)
            os.kill(process, signal.SIGKILL)

    with when(lambda: runs.shards_done("killed") >= 4, kill):
        assert main(runs.on_cluster("killed")) == 1
    assert killed
    assert tree(runs.folder / "killed") == runs.alone


def a_command_that_is_stopped_ends_its_workers(runs: Runs) -> None:
    """By SIGTERM, as Slurm stops it; what is done is kept, and one process does the rest."""
    with (
        subprocess.Popen(
            [sys.executable, "-m", "grafiqs", *runs.on_cluster("stopped")], stderr=subprocess.PIPE, text=True
        ) as process,
        when(lambda: runs.shards_done("stopped") >= 4, lambda: process.send_signal(signal.SIGTERM)),
    ):
        _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "what is done is kept, and the same command resumes" in said
    assert "Traceback" not in said
    started = time.monotonic()
    assert main(runs.command("stopped")) == 1
    assert time.monotonic() - started < 60  # nobody is waited for
    assert tree(runs.folder / "stopped") == runs.alone


def a_node_that_goes_away_is_survived(runs: Runs, nodes: Any) -> None:
    other = next(iter(nodes.worker_nodes))
    with when(lambda: runs.shards_done("removed") >= 6, lambda: nodes.remove_node(other, allow_graceful=False)):
        assert main(runs.on_cluster("removed")) == 1
    assert tree(runs.folder / "removed") == runs.alone


def a_cluster_that_goes_away_is_said(runs: Runs, nodes: Any) -> None:
    """The head of it, killed; what is done is kept."""
    head = nodes.head_node
    program = f"""
import sys
from grafiqs.cluster import driver
driver._SILENCE = 3.0
from grafiqs.cli import main
sys.exit(main({runs.on_cluster("gone")!r}))
"""
    with (
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process,
        when(lambda: runs.shards_done("gone") >= 2, lambda: head.kill_gcs_server(check_alive=False)),
    ):
        _, said = process.communicate(timeout=120)
    assert process.returncode == 3, said
    assert "the Ray cluster no longer answers" in said
    assert "what is done is kept, and the same command resumes" in said


def test_without_ray_it_is_said_what_to_install(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    faces = make_faces(tmp_path / "faces", {"ann": 1})
    command = ["extract", "--image-path", str(faces), "--weights", str(weights), "--output-dir", str(tmp_path / "run")]
    assert main([*command, "--engine", "ray"]) == 2
    assert "pip install 'grafiqs[ray]'" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ray://localhost:10001", "the ray:// addresses of Ray's client are not taken"),
        ("localhost", "it takes auto, or host:port"),
        ("127.0.0.1:1", "nothing answers there"),
    ],
)
def test_an_address_where_no_cluster_is(
    address: str, why: str, tmp_path: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    need_ray()
    faces = make_faces(tmp_path / "faces", {"ann": 1})
    command = ["extract", "--image-path", str(faces), "--weights", str(weights), "--output-dir", str(tmp_path / "run")]
    assert main([*command, "--engine", "ray", "--ray-address", address]) == 2
    assert why in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", [("--part", "1/2"), ("--dry-run",)])
def test_what_a_cluster_does_not_do_is_refused(
    more: tuple[str, ...], tmp_path: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    faces = make_faces(tmp_path / "faces", {"ann": 1})
    assert main(["extract", "--image-path", str(faces), "--weights", str(weights), "--engine", "ray", *more]) == 2
    assert "contradict each other" in capfd.readouterr().err
