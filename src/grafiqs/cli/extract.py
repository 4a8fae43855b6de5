"""`grafiqs extract`: select a subset and write its gradients and scores."""

from __future__ import annotations

from argparse import Namespace

from grafiqs.cli.arguments import ABOUT, CODES, Parser, Work, options_of
from grafiqs.faces.opencv import need_opencv
from grafiqs.options.extract import Options

_EXAMPLES = """
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


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(ABOUT, _EXAMPLES + CODES, "--image-path DIR --weights FILE [options]")
    parser.add_options(Options)


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(Options, command)
    if options.align is not None:
        need_opencv("--align")
    if options.engine == "ray":
        from grafiqs.cluster.driver import need_ray

        need_ray()
    from grafiqs.compute import devices
    from grafiqs.extract import extract_gradients  # loads torch

    def work() -> int:
        if command.own_process:
            devices.keep_all_memory()
        summary = extract_gradients(options)
        return 1 if summary and summary.failed else 0

    return work
