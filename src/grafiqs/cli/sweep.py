"""`grafiqs sweep`: many subsets by lists of seeds, each its own run."""

from __future__ import annotations

from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work, options_of
from grafiqs.faces.opencv import need_opencv
from grafiqs.options.sweep import ALONE, SweepOptions

_ABOUT = """
Make a run of each of many subsets that differ in their seeds. Each is a run folder of its own in DIR, the same as a
single 'grafiqs extract' makes, which 'grafiqs verify' checks; DIR/sweep.csv lists them. An image that several subsets
hold is computed once, and its gradients lie on the disk once (hard links). More seeds can be added later.
"""

_EXAMPLES = """
examples:
  # two experiments: identities by seed 111 with samples by 222, and 333 with 444
  {prog} --image-path faces --weights backbone.pth --num-identities 100 --samples-per-identity 50 \\
      --identity-selection-seeds 111,333 --random-seeds 222,444

  # robustness across identity sets: several identity seeds, one sample seed
  {prog} --image-path faces --weights backbone.pth --num-identities 100 --samples-per-identity 50 \\
      --identity-selection-seeds 1,2,3,4,5 --random-seed 42

  # sample diversity: the first 100 identities, several sample seeds
  {prog} --image-path faces --weights backbone.pth --num-identities 100 --samples-per-identity 50 \\
      --random-seeds 1,2,3,4,5

  # ten subsets by seeds 42 to 51, or ten that share no identity
  {prog} --image-path faces --weights backbone.pth --num-identities 20 --samples-per-identity 50 \\
      --random-identity-selection --replicates 10
  {prog} --image-path faces --weights backbone.pth --num-identities 20 --samples-per-identity 50 \\
      --replicates 10 --disjoint
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(_ABOUT, _EXAMPLES + CODES, "--image-path DIR --weights FILE --random-seeds SEEDS [options]")
    parser.add_options(SweepOptions, ALONE)


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(SweepOptions, command)
    if options.align is not None:
        need_opencv("--align")
    from grafiqs.compute import devices
    from grafiqs.sweep import extract_subsets  # loads torch

    def work() -> int:
        if command.own_process:
            devices.keep_all_memory()
        summaries = extract_subsets(options)
        return 1 if any(summary.failed for summary in summaries or ()) else 0

    return work
