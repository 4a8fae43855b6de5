"""The process that begins a run on a cluster: it keeps workers at work until the run is finished."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grafiqs.cluster.worker import Extract, Found, Worker
from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, StoppedError, first_line
from grafiqs.options.extract import Options
from grafiqs.progress import progress_bar
from grafiqs.run import finished, shard_journals
from grafiqs.run import manifest as manifests
from grafiqs.run.claims import Claims
from grafiqs.run.contents import fitting
from grafiqs.run.folder import RunFolder, output_of
from grafiqs.run.shard_journals import ShardJournals
from grafiqs.run.summary import Summary
from grafiqs.select import Subset, open_dataset, select_subset
from grafiqs.signals import check, listen_again

log = logging.getLogger(__name__)

_LOOK = 0.5
"""Seconds between two looks at the workers."""

_LOSSES = 5
"""Workers that may be lost, one after the other, with nothing done in between."""

_ANSWER = 10.0
"""Seconds within which a cluster has to answer."""

_SILENCE = 20.0
"""Seconds without an answer after which a cluster counts as gone; after 60, Ray ends the process that asks."""

_KEPT = "what is done is kept, and the same command resumes"


def need_ray() -> None:
    """Raise RequestError, which says what to install, if Ray is missing."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise RequestError(f"--engine ray needs Ray ({error}): pip install 'grafiqs[ray]'") from error


def extract_on_cluster(options: Options, extract: Extract) -> Summary | None:
    """Run the pipeline that `options` describe on a Ray cluster; a run that was stopped in the same folder is resumed.

    `extract` is what a worker does its part of the run by. Raises RequestError when the request is wrong, or a node
    cannot do it, and StoppedError when the run cannot go on, with everything done so far kept.
    """
    need_ray()
    folder = options.output_dir
    output = output_of(folder)
    output.refuse_inside(options.image_path)
    output.refuse_foreign()
    if not options.overwrite and output.is_used() and finished.is_finished(folder):
        log.info("The run is finished: what it lacks is done by this process")
        return extract(_local(options))
    subset = select_subset(options, open_dataset(options))
    with _cluster(options), output.shared():
        if options.overwrite and output.is_used():
            with RunFolder(folder, manifests.read(folder, subset), overwrite=True).opened() as run:
                run.discard()
        with (
            _begun(folder) as beginning,
            _watched(beginning),
            _crew(options, extract, beginning) as crew,
        ):
            summary = _supervised(crew, folder, subset, options.quiet)
            for level, line in summary.said(manifests.read(folder, subset)):
                crew.say(level, line)
    return summary


def _local(options: Options) -> Options:
    """The same run by one process."""
    return replace(options, engine="local", ray_address=None, ray_cpus=Options.ray_cpus)


@contextmanager
def _cluster(options: Options) -> Iterator[None]:
    """Use the cluster that is named, or start one on this machine, and end it."""
    import ray

    if options.ray_address is not None:
        _need_answer(options.ray_address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    given: dict[str, Any] = {"address": options.ray_address or "local"}
    if options.ray_address is None:
        given["include_dashboard"] = False
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **given)
    except Exception as error:  # whatever can be wrong with an address, or a machine
        where = "a local Ray cluster" if options.ray_address is None else f"--ray-address {shown(options.ray_address)}"
        no_cluster = options.ray_address == "auto" and isinstance(error, ConnectionError)
        why = "this machine belongs to no cluster" if no_cluster else first_line(error)
        raise RequestError(f"cannot use {where}: {why}{_advice(options)}") from error
    listen_again()  # Ray answers SIGTERM itself, by exit code 1
    try:
        yield
    finally:
        ray.shutdown()


def _advice(options: Options) -> str:
    """What to do when a cluster is not to be had."""
    if options.ray_address is None:
        return ""
    if options.ray_address == "auto":
        return "; 'ray start --head' starts one, and without --ray-address one of this machine is started and ended"
    return "; if it asks for a token, RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH say so and which, here as there"


def _need_answer(address: str) -> None:
    """Raise RequestError when nothing answers at an address: Ray itself would try for a long time."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise RequestError("--ray-address takes auto, or host:port; the ray:// addresses of Ray's client are not taken")
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise RequestError(f"--ray-address is {shown(address)}: it takes auto, or host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()
    except OSError as error:
        raise RequestError(f"cannot use --ray-address {shown(address)}: nothing answers there ({error})") from error


@dataclass(frozen=True)
class _Beginning:
    """The claim in the run folder of the process that began the run, and the bytes with which it starts."""

    claims: Claims
    claim: str
    sign: bytes


@contextmanager
def _begun(folder: Path) -> Iterator[_Beginning]:
    """Say in the run folder that this process is at work there; what was made for nothing is removed again."""
    place = folder / shard_journals.NAME
    claims = Claims(place)
    try:
        place.mkdir(exist_ok=True)
        claim = claims.take("driver")
        if claim is None:
            raise RequestError(f"another command with --engine ray is at work in {shown(folder)}: wait until it ends")
        sign = files.read(place / claim.name)
    except OSError as error:
        raise output_of(folder).unwritable(error) from error
    try:
        yield _Beginning(claims, claim.name, sign)
    finally:
        claims.close()
        if not files.exists(folder / manifests.NAME):
            for path in shard_journals.paths(folder):
                with suppress(OSError):
                    (folder / path).unlink()
            with suppress(OSError):
                place.rmdir()


@dataclass
class _Hired:
    """A worker as the driver knows it."""

    actor: Any
    where: Any
    """What tells its host and process, once it is there."""
    saying: Any
    """What tells what it has said."""
    who: tuple[str, int] | None = None


class _Crew:
    """The workers: as many as the cluster has room for."""

    def __init__(self, options: Options, extract: Extract, beginning: _Beginning) -> None:
        self._options = options
        self._extract = extract
        self._beginning = beginning
        self.hired: dict[Any, _Hired] = {}
        """Each by what its work is to come to."""
        self._heard: set[str] = set()

    def fill(self) -> None:
        """Hire workers until no more have room. Raises StoppedError when there is room for none."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        needs = self._needs(nodes)
        room = sum(int(min(node.get(name, 0) // count for name, count in needs.items())) for node in nodes)
        if not room and not self.hired:
            raise StoppedError(f"the Ray cluster has no room for a worker ({_counted(nodes)}): {_KEPT}")
        if not self._heard:
            self.say(logging.INFO, f"On a Ray cluster of {len(nodes)} nodes ({_counted(nodes)}): {room} workers")
        options = replace(_local(self._options), part="1/1", overwrite=False, quiet=True)
        for _ in range(len(self.hired), room):
            settings = {"num_cpus": needs["CPU"], "num_gpus": needs.get("GPU", 0), "max_concurrency": 2}
            actor: Any = (
                ray.remote(Worker)
                .options(**settings)
                .remote(options, self._extract, os.getcwd(), self._beginning.claim, self._beginning.sign)
            )
            self.hired[actor.work.remote()] = _Hired(actor, actor.who.remote(), actor.said.remote())

    def _needs(self, nodes: list[dict[str, float]]) -> dict[str, float]:
        """What a worker takes of a node: a GPU if there are any, and cores."""
        cores = self._options.ray_cpus
        with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
        if with_gpus and self._options.device != "cpu":
            return {"GPU": 1, "CPU": max(0, min(cores, *(node.get("CPU", 0) // node["GPU"] for node in with_gpus)))}
        return {"CPU": max(1, min(cores, max((node.get("CPU", 0) for node in nodes), default=0)))}

    def listen(self) -> None:
        """Hear who the workers are, and what they say."""
        import ray

        for hired in self.hired.values():
            with suppress(ray.exceptions.RayError):
                if hired.who is None and ray.wait([hired.where], timeout=0)[0]:
                    hired.who = ray.get(hired.where)
                if ray.wait([hired.saying], timeout=0)[0]:
                    for level, line in ray.get(hired.saying):
                        self.say(level, line)
                    hired.saying = hired.actor.said.remote()

    def say(self, level: int, line: str) -> None:
        """Say what no worker has said before."""
        if line not in self._heard:
            self._heard.add(line)
            log.log(level, "%s", line)

    def lost(self, hired: _Hired) -> None:
        """Give back what a worker held that is no more, or is out of reach and is ended."""
        import ray

        with suppress(ray.exceptions.RayError):
            ray.kill(hired.actor)
        if hired.who is not None:
            self._beginning.claims.give_back(*hired.who)

    def leaves(self, hired: _Hired) -> None:
        """A worker has done its work: hear what it said last, and let it go."""
        import ray

        with suppress(ray.exceptions.RayError):
            for reference in (hired.saying, hired.actor.said.remote()):
                for level, line in ray.get(reference, timeout=10):
                    self.say(level, line)
        ray.kill(hired.actor)

    def end(self) -> None:
        """End all workers, wherever they are in their work."""
        import ray

        with suppress(ray.exceptions.RayError):
            self.listen()
        for hired in self.hired.values():
            self.lost(hired)
        self.hired.clear()


@contextmanager
def _crew(options: Options, extract: Extract, beginning: _Beginning) -> Iterator[_Crew]:
    crew = _Crew(options, extract, beginning)
    try:
        yield crew
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped; {_KEPT}",)
        raise
    finally:
        crew.end()


@contextmanager
def _watched(beginning: _Beginning) -> Iterator[None]:
    """End this process, as a run is stopped, if the head of the cluster does not answer for long.

    Ray's calls wait for it without end, cannot be interrupted, and after a minute end the process with exit code 1.
    """
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    address, ended = (host.strip("[]"), int(port)), threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not ended.wait(_LOOK * 4):
            try:
                socket.create_connection(address, _LOOK * 4).close()
                answered = time.monotonic()
            except OSError as error:
                if time.monotonic() - answered > _SILENCE and not ended.is_set():
                    log.error("the Ray cluster no longer answers (%s): %s", error, _KEPT)
                    beginning.claims.close()
                    os._exit(StoppedError.exit_code)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _supervised(crew: _Crew, folder: Path, subset: Subset, quiet: bool) -> Summary:
    """Keep the workers at work until the run is finished; what the last of them came to."""
    import ray

    progress, losses, total = _Progress(folder, subset), 0, len(subset.samples)
    with progress_bar(total, 0, quiet) as bar:
        while True:
            crew.fill()
            ready, _ = ray.wait(list(crew.hired), timeout=_LOOK)
            check()
            crew.listen()
            done = progress.count()
            losses = losses if done <= bar.n else 0
            bar.update(max(0, done - bar.n))
            for reference in ready:
                hired = crew.hired.pop(reference)
                try:
                    found: Found = ray.get(reference)
                except ray.exceptions.RayError as error:
                    losses += 1
                    crew.lost(hired)
                    log.warning("warning: a worker was lost (%s): others do its work", _reason(error))
                    if losses > _LOSSES:
                        raise StoppedError(
                            f"workers are lost again and again, with nothing done ({_reason(error)}): {_KEPT}"
                        ) from error
                    continue
                crew.leaves(hired)
                if found.why is not None:
                    raise (RequestError if found.is_refused else StoppedError)(f"{found.node}: {found.why}")
                if found.summary is not None and found.summary.is_finished:
                    bar.update(total - bar.n)
                    return found.summary


def _reason(error: Exception) -> str:
    """What Ray says of a worker that is lost, in a line: if it could not begin, what its own error says last."""
    said = str(error).strip()
    return shown(said.rpartition("\n")[2].strip()) if "creation task" in said else first_line(error)


class _Progress:
    """How many samples of a run are done, by its folder."""

    def __init__(self, folder: Path, subset: Subset) -> None:
        self._folder = folder
        self._subset = subset
        self._journals: ShardJournals | None = None

    def count(self) -> int:
        """How many samples are done."""
        if self._journals is None:
            if not files.exists(self._folder / manifests.NAME):
                return 0
            manifest = manifests.read(self._folder, self._subset)
            self._journals = ShardJournals(self._folder, manifest.shards, fitting(manifest))
        with suppress(OSError):  # the folder goes when the run is finished
            self._journals.look()
        return self._journals.count()


def _counted(nodes: list[dict[str, float]]) -> str:
    cores, gpus = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
    return f"{cores:g} cores, {gpus:g} GPUs"
