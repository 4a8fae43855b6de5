"""`grafiqs score`: score photos, say which to take again; no run folder."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from functools import partial

from grafiqs.cli.arguments import Parser, Work, options_of
from grafiqs.cli.terminal import log_to_terminal, write
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.faces.opencv import need_opencv
from grafiqs.options.score import STANDARD_INPUT, ScoreOptions

log = logging.getLogger(__name__)

_MOST = 2**20
"""The longest line of standard input that is read at once."""

_EXAMPLES = """
A lower score means higher quality. What a score is worth depends on network and layer: a reference, which
'grafiqs calibrate' makes of a run, turns it into a quality from 0 to 100, where 80 means better than 80 % of the
reference's faces. Photos are aligned by --align; without it, images count as aligned crops.

examples:
  {prog} photo.jpg --weights backbone.pth --align yunet.onnx
  {prog} photos --weights backbone.pth --align yunet.onnx --reference reference.json --format csv > scores.csv
  {prog} photo.jpg --weights backbone.pth --reference reference.json --min-quality 20 --fail-below --quiet
  find . -name '*.jpg' | {prog} - --weights backbone.pth --heat-maps maps
  {prog} face.png                                   # the backbone for drawn faces that comes with grafiqs

exit codes:
  0    all done
  1    done, but some photos could not be scored; or, with --fail-below, one falls short
  2    the request is wrong
  3    stopped by trouble on the way
  130  stopped by Ctrl-C (143: by SIGTERM, 141: standard output was closed)
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(
        "Score photos, one after the other, and say which of them to take again.",
        _EXAMPLES,
        "PHOTO [PHOTO ...] [--weights FILE] [options]",
    )
    parser.add_options(ScoreOptions, photos="PHOTO")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(ScoreOptions, command)
    log_to_terminal(command.quiet, results_on_stdout=True)
    if options.align is not None:
        need_opencv("--align")
    from grafiqs.compute import devices
    from grafiqs.model.pictures import picture_of
    from grafiqs.model.rows import FORMATS
    from grafiqs.score import load_model, need_gradients, need_new_folder, save, scored  # loads torch

    need_new_folder(options)

    def work() -> int:
        if command.own_process:
            devices.keep_all_memory()
        model = load_model(options)
        need_gradients(options, model)
        reference = model.reference
        known = () if reference is None else tuple(filter(reference.distributions.__contains__, model.names))
        layer = None if reference is None else reference.layer
        limited = bool(options.min_quality or options.max_score)
        text = FORMATS[options.format](model.names, known, layer, limited, model.faces is not None)
        count = failed = short = 0
        lines = (
            ()
            if STANDARD_INPUT not in options.photos or sys.stdin is None
            else iter(partial(sys.stdin.buffer.readline, _MOST), b"")
        )
        try:
            for photo in scored(options, model, lines):
                if not count:
                    write(text.head())
                count += 1
                write(text.row(photo.result, photo.short))
                failed += photo.result.error is not None
                short += bool(photo.short)
                if options.heat_maps is not None and photo.result.error is None:
                    save(picture_of(photo.result), options.heat_maps, count, photo.result.path)
        except KeyboardInterrupt as stop:
            if not count:
                write((*text.head(), *text.end()))
            raise KeyboardInterrupt("stopped; what was printed is whole") from stop
        finally:
            if count:
                write(text.end())
        if not count:
            raise RequestError("there was no photo to score")
        log.info("%d of %d photos have scores%s", count - failed, count, f", {short} to be taken again" * limited)
        if options.heat_maps is not None and failed < count:
            log.info("Heat maps: %s", shown(options.heat_maps))
        return 1 if failed or (short and options.fail_below) else 0

    return work
