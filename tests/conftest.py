"""Fixtures that several tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support.making import make_faces, random_network

# A shell's background job is deaf to Ctrl-C, and so would be the commands that the tests stop with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of compiled programs that nobody else fills; one, since the compiler loads a program once a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("programs")))
        yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a narrow iresnet18."""
    path = tmp_path_factory.mktemp("weights") / "narrow18.pth"
    torch.save(random_network().state_dict(), path)
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
