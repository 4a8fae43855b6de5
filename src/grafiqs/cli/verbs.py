"""The verbs: arguments, help, messages and exit codes."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

from grafiqs import __version__
from grafiqs.errors import RequestError, StoppedError
from grafiqs.names import encoded, shown
from grafiqs.opencv import need_opencv
from grafiqs.options import OPTIONS, AlignOptions, DrawOptions, Options, flag, path
from grafiqs.signals import Signals

log = logging.getLogger("grafiqs")

_Kind = TypeVar("_Kind", Options, AlignOptions, DrawOptions)

_CODES = """
exit codes:
  0    all done
  1    done, but some images could not be scored, aligned (failures.csv) or read, or 'verify' found something wrong
  2    the request is wrong; nothing was written
  3    stopped by trouble on the way; what was done is kept, and the same command goes on
  130  stopped by Ctrl-C (143: by SIGTERM, 141: nobody reads what it says); the same command goes on
"""

_ABOUT = """
Face image quality by gradient magnitudes (GraFIQs, CVPRW 2024): picks a subset of a face data set that is fixed
by seeds, runs every image through a pretrained face recognition network, and writes the gradients of the
batch-normalisation-statistics loss at the image and at blocks 1 to 4, with their absolute sums, the scores.
A lower score means higher quality.
"""

_EXTRACT = """
examples:
  # 40 samples of each of the first 24 identities
  {prog} --image-path faces --weights backbone.pth --num-identities 24 --samples-per-identity 40

  # 24 identities drawn with one seed, their samples with another
  {prog} --image-path faces --weights backbone.pth --num-identities 24 --samples-per-identity 40 \\
      --random-identity-selection --identity-selection-seed 123 --random-seed 456 --output-dir run_123_456

  # how many images, how many gigabytes, how long?
  {prog} --image-path faces --weights backbone.pth --dry-run

  # scores only, of every image
  {prog} --image-path faces --weights backbone.pth --no-dump-gradients

  # ordinary photos, aligned first by a YuNet face detector; embeddings, too
  {prog} --image-path photos --weights backbone.pth --align yunet.onnx --embeddings

  # a network of your own
  {prog} --image-path faces --weights w.pth --backbone package.module:factory --blocks stage1,stage2,stage3,stage4
"""

_SELECT = """
examples:
  {prog} --image-path faces --num-identities 24 --samples-per-identity 40 --output subset.csv
  {prog} --image-path faces --samples-per-identity 5 --strict --num-identities 100 | cut -d, -f3
"""

_INSPECT = """
Identities, their numbers of samples, sizes, formats and modes; images that cannot be read; images with the same pixels,
within an identity and across; and a warning where images are no aligned crops, which the networks expect.

examples:
  {prog} faces --samples-per-identity 50
  {prog} train.rec --json > train.json
"""

_VERIFY = """
The subset is derived again from the manifest (where the data set is at hand), and every file is checked against
it: there or not, shape, dtype, checksum, finite values, and score = sum of |gradient|. The images are checked against
the checksums they had when they were read. Of an alignment the samples, every crop and table, and the photos.

examples:
  {prog} grafiqs_output
  {prog} crops
  {prog} grafiqs_output --image-path /elsewhere/faces
"""


_ALIGN = """
Five landmarks of a face are brought to the ArcFace template by a turn, a scale and a shift. The networks were trained
on such crops: scores of unaligned faces mean little. OUT mirrors the data set, in PNG files; OUT/align.csv has box,
landmarks and score of every face, OUT/failures.csv what no face was found in. Of several faces the largest near the
centre is taken. An alignment that was stopped goes on.

A detector is a YuNet model, such as face_detection_yunet_2023mar.onnx of OpenCV's model zoo.

examples:
  {prog} photos crops --detector yunet.onnx
  {prog} photos crops --landmarks crops_before/align.csv
"""

_BACKBONES = """
Any other network with BatchNorm2d can be had from code of your own, a function or class that makes it:
  grafiqs extract --backbone package.module:factory --blocks layer1,layer2,layer3,layer4 --weights w.pth ...

examples:
  {prog}
  {prog} weights.pth
"""

_DRAW = """
People who do not exist, in aligned crops of 112x112 pixels, to try things on: OUT/person_0000/0000.png and so on.
OUT/faces.csv holds every number behind every face, its degradation and strength among them. The same options give
the same bytes on the same kind of machine; a drawing that was stopped goes on.

examples:
  {prog} faces
  {prog} faces --identities 200 --samples-per-identity 12 --degraded 0 --seed 7 --contact-sheet faces.png
"""

_DEMO = """
Draws faces of people who do not exist, chooses a subset by seeds, extracts its gradients with the backbone that comes
with the package, and writes a picture of the best and the worst faces. It takes less than a minute.

examples:
  {prog}
  {prog} --output-dir elsewhere
"""


def run_grafiqs(arguments: Sequence[str] | None) -> int:
    """The command `grafiqs` with these arguments, or those of the process."""
    parser = _Parser(prog="grafiqs", description=_ABOUT, epilog=_CODES)
    parser.add_argument("--version", action="version", version=f"grafiqs {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for name, (help, fill) in _VERBS.items():
        fill(verbs.add_parser(name, help=help))
    return _run(parser, arguments)


def run_extract() -> int:
    """The verb `extract` by itself, with the arguments of the process."""
    parser = _Parser(prog="extract_grafiqs.py")
    _fill_extract(parser)
    return _run(parser, None)


def _run(parser: _Parser, arguments: Sequence[str] | None) -> int:
    signals = Signals()
    try:
        try:
            code = _exit_code(parser, arguments, signals)
            signals.rest()
        except KeyboardInterrupt as stop:
            signals.rest()
            code = 128 + (signals.heard or signal.SIGINT)
            log.error("%s", stop.args[0] if stop.args else _STOPPED)
        finally:
            signals.restore()
        if signals.heard and code != 128 + signals.heard:  # what it raised was caught on the way
            if code < RequestError.exit_code:  # from there on, something was said
                log.error("%s", _STOPPED)
            code = 128 + signals.heard
        return code
    except BrokenPipeError:  # nobody reads what is said any more
        _silence(1, 2)
        return 128 + signal.SIGPIPE


_STOPPED = "stopped; the same command begins again, or goes on"


def _exit_code(parser: _Parser, arguments: Sequence[str] | None, signals: Signals) -> int:
    try:
        log_to_terminal(quiet=False)
        command = parser.parse_args(arguments)
        command.own_process = arguments is None
        log_to_terminal(command.quiet)
        work: _Work = command.verb(command)
        signals.listen()  # now that all is loaded
        return work()
    except _UnheardError as error:
        _silence(1)
        log.error("%s", error)
        return error.exit_code
    except (RequestError, StoppedError) as error:
        log.error("%s", error)
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:  # what can be foreseen is told where it happens
        place = f" ({shown(error.filename)})" if error.filename else ""
        log.error("cannot go on: %s%s", error.strerror or error, place)
        return StoppedError.exit_code


# -- verbs: each loads what it needs, and returns its work, which ends with the exit code --------------------

_Work = Callable[[], int]


def _fill_extract(parser: _Parser) -> None:
    parser.describe(_ABOUT, _EXTRACT + _CODES)
    parser.usage = f"{parser.prog} --image-path DIR --weights FILE [options]"
    _add_options(parser, OPTIONS)
    parser.set_defaults(verb=_extract)


def _extract(command: argparse.Namespace) -> _Work:
    options = _options(Options, command)
    if options.align is not None:
        need_opencv("--align")
    from grafiqs import devices
    from grafiqs.extract import extract_gradients  # loads torch

    def work() -> int:
        if command.own_process:
            devices.keep_all_memory()
        summary = extract_gradients(options)
        return 1 if summary and summary.failed else 0

    return work


def _fill_select(parser: _Parser) -> None:
    parser.usage = f"{parser.prog} --image-path DIR [options]"
    parser.describe("Write the chosen subset as CSV (identity, sample, path); no image is opened.", _SELECT)
    _add_options(parser, [field for field in OPTIONS if field.metadata["group"] in ("data set", "subset")])
    parser.add_argument("--output", metavar="FILE", type=path, help="the CSV file (default: standard output)")
    parser.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    parser.set_defaults(verb=_select)


def _select(command: argparse.Namespace) -> _Work:
    from grafiqs.run.files import whole
    from grafiqs.run.tables import subset_csv
    from grafiqs.select import select_subset

    if command.output is None:
        log_to_terminal(command.quiet, results_on_stdout=True)

    def work() -> int:
        subset = select_subset(_options(Options, command))
        log.info("Subset SHA-256: %s", subset.sha256)
        if command.output is None:
            _print_bytes(subset_csv(subset), "give --output FILE")
            return 0
        try:
            output = Path(os.path.realpath(command.output))
            # A pipe or a device is written to; anything else appears whole, or not at all.
            with open(output, "wb") if output.exists() and not output.is_file() else whole(output) as file:
                file.writelines(subset_csv(subset))
        except BrokenPipeError:
            raise
        except OSError as error:
            place = shown(command.output)
            raise RequestError(f"cannot write {place}: {error.strerror}; give another --output") from error
        return 0

    return work


def _fill_inspect(parser: _Parser) -> None:
    parser.usage = f"{parser.prog} DATASET [options]"
    parser.describe("Say what a data set is like; every image is read.", _INSPECT + _CODES)
    data_set = {field.name: field for field in OPTIONS if field.metadata["group"] == "data set"}
    parser.add_argument("image_path", metavar="DATASET", type=path, help=data_set.pop("image_path").metadata["help"])
    _add_options(parser, data_set.values())
    parser.add_argument(
        "--samples-per-identity", metavar="M", type=int, help="list the identities with fewer than M samples"
    )
    parser.add_argument("--json", action="store_true", help="print all that was found as JSON, to standard output")
    parser.add_argument("--quiet", action="store_true", help="print warnings and errors only (and the JSON)")
    parser.set_defaults(verb=_inspect)


def _inspect(command: argparse.Namespace) -> _Work:
    from grafiqs import inspect_report
    from grafiqs.inspect import inspect_dataset

    log_to_terminal(command.quiet, results_on_stdout=command.json)
    if sys.stdout is None:
        raise RequestError("standard output is closed, where the report goes")

    def work() -> int:
        found = inspect_dataset(_options(Options, command))
        if command.json:
            _print_bytes([json.dumps(found.to_json(), indent=1).encode(), b"\n"])
        else:
            for line in inspect_report.lines(found):
                log.info("%s", line)
        for warning in found.warnings():
            log.warning("warning: %s", warning)
        return 1 if found.unreadable else 0

    return work


def _fill_verify(parser: _Parser) -> None:
    parser.describe("Check a finished run, or a finished alignment.", _VERIFY)
    parser.add_argument("run", metavar="RUN", type=path, help="the run folder, or the folder of crops")
    parser.add_argument("--image-path", metavar="PATH", type=path, help="where the data set is now")
    parser.add_argument("--root", metavar="DIR", type=path, help="where the paths in a list begin now")
    parser.add_argument("--quiet", action="store_true", help="print what is wrong only")
    parser.set_defaults(verb=_verify)


def _verify(command: argparse.Namespace) -> _Work:
    from grafiqs.verify import verify_run

    return lambda: 1 if verify_run(command.run, command.image_path, command.quiet, command.root) else 0


def _fill_draw(parser: _Parser) -> None:
    parser.usage = f"{parser.prog} OUT [options]"
    parser.describe("Draw a data set of faces.", _DRAW + _CODES)
    parser.add_argument("output", metavar="OUT", type=path, help="the folder of the data set, new or empty")
    _add_options(parser, [field for field in dataclasses.fields(DrawOptions) if field.name != "output"])
    parser.set_defaults(verb=_draw)


def _draw(command: argparse.Namespace) -> _Work:
    need_opencv("drawing faces")
    from grafiqs.demo.draw import draw_faces

    def work() -> int:
        draw_faces(_options(DrawOptions, command))
        return 0

    return work


def _fill_demo(parser: _Parser) -> None:
    parser.describe("Show on drawn faces what the package does.", _DEMO + _CODES)
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        type=path,
        default=Path("demo_output"),
        help="the folder of the demo; one that was stopped there goes on (default: demo_output)",
    )
    parser.add_argument("--overwrite", action="store_true", help="remove the run that the folder holds, and begin anew")
    parser.set_defaults(verb=_demo, quiet=False)


def _demo(command: argparse.Namespace) -> _Work:
    need_opencv("drawing faces")
    from grafiqs.demo.first_run import first_run

    return lambda: 1 if first_run(command.output_dir, command.overwrite).failed else 0


def _fill_align(parser: _Parser) -> None:
    parser.usage = f"{parser.prog} IN OUT --detector ONNX | --landmarks CSV [options]"
    parser.describe(
        "Cut ordinary photos to aligned crops of 112x112 pixels, as the networks expect them.", _ALIGN + _CODES
    )
    fields = {field.name: field for field in dataclasses.fields(AlignOptions)}
    parser.add_argument("image_path", metavar="IN", type=path, help=fields.pop("image_path").metadata["help"])
    parser.add_argument("output", metavar="OUT", type=path, help=fields.pop("output").metadata["help"])
    _add_options(parser, fields.values())
    parser.set_defaults(verb=_align)


def _align(command: argparse.Namespace) -> _Work:
    options = _options(AlignOptions, command)
    need_opencv("aligning faces")
    from grafiqs.align import align_faces

    return lambda: 1 if align_faces(options).failed else 0


def _fill_backbones(parser: _Parser) -> None:
    parser.usage = f"{parser.prog} [FILE] [options]"
    parser.describe("List the networks that are known, or say what a checkpoint is.", _BACKBONES + _CODES)
    parser.add_argument(
        "file", metavar="FILE", type=path, nargs="?", help="a checkpoint: .pth, .pt, .ckpt, .safetensors"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(verb=_backbones, quiet=False)


def _backbones(command: argparse.Namespace) -> _Work:
    log_to_terminal(quiet=False, results_on_stdout=True)
    from grafiqs.backbones.description import describe, described, known, known_lines

    if command.file is not None:
        import torch  # noqa: F401 - what describes a file loads it

    def work() -> int:
        if command.file is None:
            text = json.dumps(known(), indent=1) if command.json else "\n".join(known_lines())
        else:
            found = describe(command.file)
            text = json.dumps(found, indent=1) if command.json else "\n".join(described(found))
        _print_bytes([encoded(text), b"\n"])
        return 0

    return work


_VERBS: dict[str, tuple[str, Callable[[_Parser], None]]] = {
    "extract": ("select a subset and write its gradients and scores", _fill_extract),
    "select": ("write the chosen subset as CSV", _fill_select),
    "inspect": ("say what a data set is like: identities, samples, duplicates, unreadable files", _fill_inspect),
    "align": ("cut ordinary photos to aligned crops, as the networks expect them", _fill_align),
    "backbones": ("list the networks that are known, or say what a checkpoint is", _fill_backbones),
    "verify": ("check a finished run", _fill_verify),
    "demo": ("show all of it on drawn faces, in less than a minute", _fill_demo),
    "draw-faces": ("draw a data set of people who do not exist", _fill_draw),
}


# -- from the list of options to arguments, and back -------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """argparse with its examples left as they are laid out, and errors without the whole usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def describe(self, description: str, epilog: str) -> None:
        self.description = description.strip()
        self.epilog = epilog.replace("{prog}", self.prog)

    def error(self, message: str) -> NoReturn:
        _warn(f"{self.prog}: {shown(message)}\nTry '{self.prog} --help'.")
        self.exit(RequestError.exit_code)

    def _print_message(self, message: str, _file: object = None) -> None:
        """Print help, or the version: argparse would say nothing of an output that takes none of it."""
        if sys.stdout is None:
            raise RequestError("standard output is closed")
        _say(message.removesuffix("\n"), sys.stdout)


def _add_options(parser: _Parser, options: Iterable[dataclasses.Field[Any]]) -> None:
    groups: dict[str, argparse._ArgumentGroup] = {}
    for field in options:
        group = field.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        default = None if field.default is dataclasses.MISSING else field.default
        settings: dict[str, Any] = {"help": field.metadata["help"], "default": default}
        if isinstance(default, bool):
            settings["action"] = argparse.BooleanOptionalAction if default else "store_true"
        else:
            settings |= {name: field.metadata[name] for name in ("metavar", "choices")}
            settings["type"] = field.metadata["parse"]
            settings["required"] = field.default is dataclasses.MISSING
            if default not in (None, ()):
                settings["help"] += f" (default: {_written(default)})"
        groups[group].add_argument(flag(field.name), **settings)


def _written(value: Any) -> str:
    """A default as it is written on the command line: words with commas, a size with an x."""
    if not isinstance(value, tuple):
        return str(value)
    return ",".join(value) if isinstance(value[0], str) else "x".join(map(str, value))


def _options(kind: type[_Kind], command: argparse.Namespace) -> _Kind:
    given = vars(command)
    return kind(**{field.name: given[field.name] for field in dataclasses.fields(kind) if field.name in given})


# -- messages ----------------------------------------------------------------------------------------------


class _Terminal(logging.Handler):
    """What a run says: to standard output, or where results go there, to standard error; warnings always there."""

    def __init__(self, results_on_stdout: bool) -> None:
        super().__init__()
        self._results_on_stdout = results_on_stdout

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            _warn(f"grafiqs: {record.getMessage()}")
        else:
            stream = sys.stderr if self._results_on_stdout else sys.stdout
            _say(record.getMessage(), stream, "mend that, and the same command goes on")


def _say(text: str, stream: TextIO | None, advice: str = "") -> None:
    """Print a line to standard output, or where results go there, to standard error; to none, if that is closed."""
    try:
        if stream is not None:
            print(text, file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unheard(error, advice) from error


def _warn(text: str) -> None:
    """Print a line to standard error, if that is there and takes it."""
    try:
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:  # its disk is full: there is nobody left to tell, but for the exit code
        _silence(2)


def _print_bytes(pieces: Iterable[bytes], advice: str = "") -> None:
    """Write results to standard output."""
    if sys.stdout is None:
        raise RequestError(f"standard output is closed{advice and ': ' + advice}")
    try:
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unheard(error, advice) from error


class _UnheardError(StoppedError):
    """Standard output takes no more: its disk is full, say."""


def _unheard(error: OSError, advice: str) -> _UnheardError:
    return _UnheardError(f"cannot write to standard output: {error.strerror}{advice and '; ' + advice}")


def _silence(*outputs: int) -> None:
    """Keep Python from trying again, at its exit, to write what nobody takes."""
    with open(os.devnull, "wb") as nowhere:
        for output in outputs:
            os.dup2(nowhere.fileno(), output)


def log_to_terminal(quiet: bool, results_on_stdout: bool = False) -> None:
    """Let the package's log speak on the terminal; if `quiet`, its warnings and errors alone."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
    log.handlers = [_Terminal(results_on_stdout)]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False
    # The decoder warns on standard error of what the failures table says better.
    warnings.filterwarnings("ignore", module="PIL")
