"""Reading ahead: on threads and on processes, in order, whatever cannot be read."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grafiqs.datasets.folders import Files
from grafiqs.datasets.scan import scan
from grafiqs.errors import StoppedError, UnreadableSampleError
from grafiqs.images.reading import Read, Reader, processes_for, read_ahead
from grafiqs.workers import processors
from support.making import make_faces


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_faces(tmp_path_factory.mktemp("faces"), {"ann": 20, "bob": 25})
    (root / "ann" / "3.png").write_bytes(b"no image")
    (root / "bob" / "7.png").write_bytes(b"")
    return root


@pytest.mark.parametrize("processes", [0, 2])
def test_samples_come_in_order_with_their_checksums(flawed: Path, processes: int) -> None:
    dataset = scan(flawed)
    locations = [dataset.location(name, sample) for name in dataset.identities for sample in dataset.samples(name)]
    found = list(read_ahead(Reader(dataset), locations, 8, processes))
    assert len(found) == len(locations) == 45
    unread = {}
    for location, image in zip(locations, found, strict=True):
        if isinstance(image, UnreadableSampleError):
            unread[location] = str(image)
        else:
            with Image.open(flawed / location) as picture:
                assert np.array_equal(image.pixels, np.array(picture).transpose(2, 0, 1))
    assert unread == {"ann/3.png": "not an image in a known format", "bob/7.png": "the file is empty"}


def test_reading_that_nobody_goes_on_with_ends(flawed: Path) -> None:
    dataset = scan(flawed)
    reads = read_ahead(Reader(dataset), ["ann/0.png"] * 10_000, 64, 2)
    next(reads)
    started = time.monotonic()
    reads.close()
    assert time.monotonic() - started < 20
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_stops_the_run(flawed: Path) -> None:
    class Deadly:
        def __reduce__(self) -> tuple[object, ...]:
            return os._exit, (1,)

    with pytest.raises(StoppedError, match="a process that reads images has died"):
        list(read_ahead(Deadly(), ["ann/0.png"], 8, 1))  # type: ignore[arg-type]


def test_reading_processes_do_not_outlive_a_killed_run(flawed: Path, tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from grafiqs.images.reading import Reader, read_ahead
from grafiqs.datasets.scan import scan
if __name__ == "__main__":
    reads = read_ahead(Reader(scan(Path({str(flawed)!r}))), ["ann/0.png"] * 1_000_000, 64, 2)
    next(reads)
    print("reading", flush=True)
    time.sleep(100)
"""
    script = tmp_path / "script.py"
    script.write_text(program)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "reading\n"
    children = descendants(parent.pid)
    assert len(children) >= 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, children))


def test_ctrl_c_while_reading_processes_begin_is_said_in_one_sentence(
    faces: Path, weights: Path, tmp_path: Path
) -> None:
    """A terminal sends it to all of them."""
    program = """
import sys
from grafiqs import pipeline
from grafiqs.cli import main
pipeline.processes_for = lambda *_: 2
sys.exit(main(sys.argv[1:]))
"""
    dataset = tmp_path / "faces"
    dataset.mkdir()
    for identity in range(20):  # work for two processes
        (dataset / f"{identity}").symlink_to(faces / "ann")
    options = ["--image-path", dataset, "--weights", weights, "--output-dir", tmp_path / "run", "--quiet"]
    with subprocess.Popen(
        [sys.executable, "-c", program, "extract", *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as process:
        while len(descendants(process.pid)) < 3:  # two, and one that multiprocessing has for itself
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    end = r"grafiqs: stopped\. \d+ of 120 images are done and kept: the same command resumes\n"
    assert re.search(f"{end}\\Z", said)  # the first batch is read here


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found += map(int, (thread / "children").read_text().split())
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


class Large(Files):
    """Files that take a megabyte to send to another process, where they are there once two processes have asked."""

    def __reduce__(self) -> tuple[object, ...]:
        return met, (self.root,), {"more": bytes(10**6)}  # is read after `met` has returned


def met(root: Path) -> Files:
    (root / f"{os.getpid()}.met").touch()
    deadline = time.monotonic() + 30
    while len(list(root.glob("*.met"))) < 2:
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(0.01)
    return Files(root)


def test_processes_that_are_sent_much_start_at_the_same_time(flawed: Path) -> None:
    found = list(read_ahead(Reader(Large(flawed)), ["ann/0.png"] * 200, 200, 2))
    assert len(found) == 200
    assert not any(isinstance(image, UnreadableSampleError) for image in found)


def test_a_process_is_sent_no_names(flawed: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"ann/{number:08d}.png\n" for number in range(10_000)) + "bob/0.png")
    for dataset in (scan(tmp_path / "list.txt", root=flawed), scan(flawed)):
        reader = Reader(dataset)
        sent = pickle.dumps(reader)
        assert len(sent) < 1000
        again = pickle.loads(sent)
        assert pickle.dumps(again) == sent
        for location in ("bob/0.png", "bob/7.png", "carl/0.png"):
            expected, found = reader(location), again(location)
            if isinstance(expected, Read):
                assert isinstance(found, Read)
                assert found.sha256 == expected.sha256
            else:
                assert str(found) == str(expected)


def test_processes_read_for_a_gpu_with_much_to_do_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "usable", lambda: 16)
    assert processes_for(torch.device("cpu"), 10**6) == 0
    assert processes_for(torch.device("cuda"), 100) == 0
    assert processes_for(torch.device("cuda"), 10**6) == 14
    monkeypatch.setattr(processors, "usable", lambda: 2)
    assert processes_for(torch.device("cuda"), 10**6) == 0
