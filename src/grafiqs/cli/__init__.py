"""The entry of the command line: it loads little, so that signals and names are handled from the start."""

from __future__ import annotations

# The part of `signal` that is in every interpreter: what else there is takes as long to load as all of this.
import _signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `grafiqs`: parse the arguments, run the verb, return its exit code.

    Without `arguments` they are those of the process, which is taken to be this command and nothing else.
    """
    if arguments is None:
        _begin()
    from grafiqs.cli.command import run_grafiqs

    return run_grafiqs(arguments)


def extract_main() -> int:
    """The guide's `extract_grafiqs.py`: the verb `extract` by itself."""
    _begin()
    from grafiqs.cli.command import run_extract

    return run_extract()


def _begin() -> None:
    """Prepare this process for a command; first of all, let Ctrl-C and SIGTERM end it at once.

    That is until a verb is at work: what is raised in the middle of an import may show a traceback, abort the process,
    or be lost.
    """
    for number in (_signal.SIGINT, _signal.SIGTERM):
        if _signal.getsignal(number) != _signal.SIG_IGN:  # as under nohup
            _signal.signal(number, _signal.SIG_DFL)
    from grafiqs.disk.utf8 import in_utf8

    in_utf8()
    _fill_closed()


def _fill_closed() -> None:
    """Replace closed standard streams: else a file of a run takes their place, and what C code prints."""
    import os

    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
