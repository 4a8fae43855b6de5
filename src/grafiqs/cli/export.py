"""`grafiqs export`: copy a run, with its gradients in another store, number format, or fewer of them."""

from __future__ import annotations

from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work, options_of
from grafiqs.options.export import ExportOptions

_ABOUT = """
Copy a finished run: its gradients in another store or number format, of fewer layers, or of some identities alone.
What is copied is checked on the way. The copy is a run folder like any other, which says what it was copied from; to
and from shards in one number format, every gradient keeps its bytes. A copy that was stopped is resumed.
"""

_EXAMPLES = """
examples:
  # a dump of many small files as a few large ones, which are copied and read much faster
  {prog} grafiqs_output shards --store shards

  # half the size
  {prog} grafiqs_output half --gradient-dtype float16

  # one layer of the identities that a file names, a .npy file a sample
  {prog} shards some --store tree --layers block4 --identities names.txt
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(_ABOUT, _EXAMPLES + CODES, "RUN OUT [options]")
    parser.add_options(ExportOptions, run="RUN", output="OUT")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(ExportOptions, command)
    from grafiqs.export import export_run

    def work() -> int:
        return 1 if export_run(options).lost else 0

    return work
