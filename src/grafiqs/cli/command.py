"""The command: which verbs there are, how one is run, and the exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from grafiqs import __version__
from grafiqs.cli.arguments import ABOUT, CODES, Parser, Work
from grafiqs.cli.terminal import log, log_to_terminal, silence
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, StoppedError
from grafiqs.signals import Signals

_VERBS = {
    "extract": "select a subset and write its gradients and scores",
    "sweep": "the same for many subsets, by lists of seeds; what they share is computed once",
    "score": "score photos, one after the other, and say which to take again; no run folder",
    "select": "write the chosen subset as CSV",
    "inspect": "describe a data set: identities, samples, duplicates, unreadable files",
    "align": "cut ordinary photos to aligned crops, as the networks expect them",
    "backbones": "list the known networks, or identify a checkpoint",
    "status": "say how far a run has come, by whom, and the time left",
    "verify": "check a finished run",
    "export": "copy a run: its gradients in another store or number format, or some of them",
    "evaluate": "say how well scores predict recognition errors, and at which score to discard",
    "compare": "say how runs of several seeds or networks agree, and what several seeds say together",
    "report": "show runs on one page: faces, heat maps, scores, what falls below a threshold",
    "calibrate": "make a reference of a run, by which scores have a quality from 0 to 100",
    "demo": "show it all on drawn faces, in less than a minute",
    "draw-faces": "draw a data set of people who do not exist",
}
"""The verbs: each is a module here, which gives its parser its arguments (`fill`) and does its work (`prepare`)."""

_STOPPED = "stopped; the same command starts again, or resumes"


def run_grafiqs(arguments: Sequence[str] | None) -> int:
    """The command `grafiqs` with these arguments, or those of the process."""
    parser = Parser(prog="grafiqs")
    parser.describe(ABOUT, CODES)
    parser.add_argument("--version", action="version", version=f"grafiqs {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    given = sys.argv[1:] if arguments is None else arguments
    for name, help in _VERBS.items():
        verb = verbs.add_parser(name, help=help)
        if name in given:  # the others need not be loaded
            _fill(verb, name)
    return _run(parser, arguments)


def run_extract() -> int:
    """The verb `extract` by itself, with the arguments of the process."""
    parser = Parser(prog="extract_grafiqs.py")
    _fill(parser, "extract")
    return _run(parser, None)


def _fill(parser: Parser, verb: str) -> None:
    module = import_module(f"grafiqs.cli.{verb.replace('-', '_')}")
    module.fill(parser)
    parser.set_defaults(prepare=module.prepare, quiet=False)


def _run(parser: Parser, arguments: Sequence[str] | None) -> int:
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
    except BrokenPipeError:  # standard output was closed
        silence(1, 2)
        return 128 + signal.SIGPIPE


def _exit_code(parser: Parser, arguments: Sequence[str] | None, signals: Signals) -> int:
    try:
        log_to_terminal()
        command = parser.parse_args(arguments)
        command.own_process = arguments is None
        log_to_terminal(command.quiet)
        work: Work = command.prepare(command)
        signals.listen()  # now that all is loaded
        return work()
    except (RequestError, StoppedError) as error:
        log.error("%s", error)
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:  # what can be foreseen is reported where it happens
        place = f" ({shown(error.filename)})" if error.filename else ""
        log.error("cannot go on: %s%s", error.strerror or error, place)
        return StoppedError.exit_code
