"""`grafiqs backbones`: list the known networks, or identify a checkpoint."""

from __future__ import annotations

import json
from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work
from grafiqs.cli.terminal import log_to_terminal, write
from grafiqs.disk.names import encoded
from grafiqs.errors import RequestError
from grafiqs.options.field import path

_EXAMPLES = """
Any other network with BatchNorm2d is available from code of your own, a function or class that makes it:
  grafiqs extract --backbone package.module:factory --blocks layer1,layer2,layer3,layer4 --weights w.pth ...

examples:
  {prog}
  {prog} weights.pth
  {prog} checkpoint.pth --weights-key ema
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe("List the known networks, or identify a checkpoint.", _EXAMPLES + CODES, "[FILE] [options]")
    parser.add_argument(
        "file", metavar="FILE", type=path, nargs="?", help="a checkpoint: .pth, .pt, .ckpt, .safetensors"
    )
    parser.add_argument(
        "--weights-key", metavar="NAME", help="which of several networks in that file: the names before its keys"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    log_to_terminal(results_on_stdout=True)
    if command.weights_key is not None and command.file is None:
        raise RequestError("--weights-key needs FILE, the checkpoint that holds several networks")
    from grafiqs.backbones.description import describe, described, known, known_lines

    if command.file is not None:
        import torch  # noqa: F401 - what describes a file loads it

    def work() -> int:
        if command.file is None:
            text = json.dumps(known(), indent=1) if command.json else "\n".join(known_lines())
        else:
            found = describe(command.file, command.weights_key)
            text = json.dumps(found, indent=1) if command.json else "\n".join(described(found))
        write([encoded(text), b"\n"])
        return 0

    return work
