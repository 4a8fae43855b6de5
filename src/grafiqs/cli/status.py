"""`grafiqs status`: how far a run has come, and who is at work on it."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from grafiqs.cli.arguments import Parser, Work
from grafiqs.cli.terminal import write
from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError

_ABOUT = """
Say how far a run has come: what is done, what is in flight, by whom and since when, what failed, and the time left.
The run may be at work, on this machine or on others that see its folder; nothing is written.
"""

_EXAMPLES = """
examples:
  {prog} run
  {prog} run --json

exit codes:
  0    the run is finished
  1    it is not
  2    that is no run folder
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(_ABOUT, _EXAMPLES, "RUN [--json]")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run folder")
    parser.add_argument("--json", action="store_true", help="write all that is known as JSON, for scripts")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    from grafiqs.run import state
    from grafiqs.status import report

    def work() -> int:
        try:
            found = state.look(command.run)
        except (OSError, ValueError) as error:
            if isinstance(error, RequestError):
                raise
            raise RequestError(f"cannot read the run in {shown(command.run)}: {files.reason(error)}") from error
        if command.json:
            document = {**asdict(found), "folder": str(found.folder)}
            write([json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"])
        else:
            write([f"{line}\n".encode("utf-8", "backslashreplace") for line in report(found)])
        return 0 if found.is_finished else 1

    return work
