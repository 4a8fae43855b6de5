"""Fixtures that several tests share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import save_file

from grafiqs.demo import draw
from grafiqs.faces.detector import Detector
from grafiqs.faces.template import LANDMARKS
from support.making import grafiqs, make_faces, picture, random_network
from support.photos import (
    PEOPLE,
    PHOTOS,
    UNKNOWN,
    UNREADABLE,
    YUNET,
    Points,
    moved,
    photo,
    where,
    write_table,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A shell's background job is deaf to Ctrl-C, and so would be the commands that the tests stop with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Which files differ, where two folders should be alike; pytest would compare their bytes for minutes."""
    if op != "==" or not (isinstance(left, dict) and isinstance(right, dict)):
        return None
    if not all(isinstance(data, bytes) for data in (*left.values(), *right.values())):
        return None
    paths = sorted(path for path in left.keys() | right.keys() if left.get(path) != right.get(path))
    found = {True: "differs", False: "is on one side alone"}
    return ["the same files", *(f"{path} {found[path in left and path in right]}" for path in paths)]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session, the same one for all processes that the tests are spread over."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def _own_cache(shared: Path) -> Iterator[None]:
    """A cache of compiled programs that nobody else fills; one, since the compiler loads a program once a process."""
    (shared / "programs").mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(shared / "programs"))
        patch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "1")  # each process would compile seven programs to find that out
        yield


@pytest.fixture(scope="session")
def compiling(shared: Path) -> FileLock:
    """Held while a program is compiled that several tests run, so that one process does it, and the others load it."""
    return FileLock(shared / "compiling.lock")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a narrow iresnet18, in the form that is read fastest."""
    path = tmp_path_factory.mktemp("weights") / "narrow18.safetensors"
    save_file(random_network().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four identities with 6, 5, 2 and 6 samples; read only."""
    counts = {"ann": 6, "bob": 5, "cyd": 2, "dee": 6}
    return make_faces(tmp_path_factory.mktemp("faces"), counts)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small networks are fastest on one thread, and a manifest names the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_helper() -> Iterator[None]:
    """Drawings in this process have one helper process, which takes a second to begin; commands have all they want."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "processors", SimpleNamespace(usable=lambda: 1))
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of eight photos, six of which become crops; read only."""
    root = tmp_path_factory.mktemp("photos") / "photos"
    number = 0
    for identity, count in PEOPLE.items():
        (root / identity).mkdir(parents=True)
        for sample in range(count):
            source = photo(picture(1000 * number), where(number), (230, 250))
            Image.fromarray(source).save(root / identity / f"{sample}.png")
            number += 1
    (root / UNREADABLE).write_bytes(b"no image")
    shutil.copy(root / "cyd" / "0.png", root / UNKNOWN)
    return root


@pytest.fixture(scope="module")
def known_faces(photos: Path) -> dict[str, Points]:
    """The landmarks of the six."""
    paths = [f"{identity}/{sample}.png" for identity, count in PEOPLE.items() for sample in range(count)]
    return {path: moved(where(number), LANDMARKS) for number, path in enumerate(paths)}


@pytest.fixture(scope="module")
def table(known_faces: dict[str, Points], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "landmarks.csv", known_faces)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(YUNET)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty real photos of twelve people, and a picture without a face; read only."""
    root = tmp_path_factory.mktemp("people") / "people"
    for folder in sorted(path for path in PHOTOS.iterdir() if path.is_dir())[:12]:
        (root / folder.name).mkdir(parents=True)
        for path in sorted(folder.glob("*.jpg"))[:5]:
            (root / folder.name / path.name).symlink_to(path)
    (root / "nobody").mkdir()
    slope = np.add.outer(np.arange(300), np.arange(400)).astype(np.uint16) * 255 // 700
    Image.fromarray(slope.astype(np.uint8)).save(root / "nobody" / "slope.png")
    return root


@pytest.fixture(scope="session")
def demonstration(shared: Path) -> tuple[Path, str]:
    """A demo that a user ran, and what it said; once for all processes, and read only."""
    folder, said = shared / "demo", shared / "demo.txt"
    with FileLock(shared / "demo.lock"):
        if not said.exists():
            done = grafiqs("demo", "--output-dir", folder)
            assert done.returncode == 0, done.stderr
            said.write_text(done.stdout)
    return folder, said.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the tests of a file; where there is none they are skipped, but not in CI."""
    from support.browser import started  # which loads a library that no other test needs

    with started() as browser:
        yield browser
