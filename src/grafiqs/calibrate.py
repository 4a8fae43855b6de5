"""From a run to a reference: how its scores are distributed, and which of them predicts recognition errors."""

from __future__ import annotations

import logging
import math
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from grafiqs.backbones.catalogue import EMBEDDING_NORM
from grafiqs.calibration.distribution import Distribution
from grafiqs.calibration.reference import Reference, read_reference
from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.disk.output import Output
from grafiqs.errors import RequestError
from grafiqs.evaluate import evaluate
from grafiqs.evaluation.result import Evaluation
from grafiqs.options.calibrate import CalibrateOptions
from grafiqs.options.evaluate import EvaluateOptions
from grafiqs.ranking import Ranking, ranking_of
from grafiqs.run.finished import need_folder
from grafiqs.run.results import Run, open_run

__all__ = ["CalibrateOptions", "Reference", "calibrate"]

log = logging.getLogger(__name__)

_FEWEST = 20
"""Of fewer images, a quality is a step of five or more."""

_FINE = 1000
"""Of fewer images, single ones move a quality."""


def calibrate(options: CalibrateOptions) -> Reference:
    """Make a reference of a run, and write it; how its scores rank, and which of them it takes, is logged.

    Raises RequestError when the run cannot be read or has too few scores, when the file exists and is not to be
    replaced, and when `pairs` are given that cannot be evaluated; nothing was written then.

    >>> from grafiqs import Options, extract_gradients
    >>> made = Options(image_path="faces", weights="weights.pth", embeddings=True, output_dir="run", quiet=True)
    >>> _ = extract_gradients(made)
    >>> reference = calibrate(CalibrateOptions(run="run", fmr=0.2, bootstrap=20, quiet=True))
    >>> reference.quality("image", reference.distributions["image"].quantiles[250])
    75
    """
    _need_output(options)
    run = open_run(options.run)
    place = Path(run.manifest.data_set["place"])
    Output(options.output.parent, "", argument="--output").refuse_inside(place)
    distributions = _distributions(run)
    if options.layer is not None and options.layer not in distributions:
        raise RequestError(
            f"--layer is {options.layer}, and the run has no scores of it: it has {', '.join(distributions)}"
        )
    found, why = _evaluated(options, run)
    if (count := len(run.scores)) < _FINE:
        log.warning(
            "warning: %d images make a coarse reference: a quality is uncertain by up to %.0f; take %s or more",
            *(count, 100 * 1.96 * 0.5 / math.sqrt(count), f"{_FINE:,}"),
        )
    ranking = Ranking(why=why) if found is None else ranking_of(found)
    if any(row.pauc_normalised is not None for row in ranking.rows):
        log.info("Errors left at FMR %g when up to %g of the comparisons are discarded:", options.fmr, options.x_max)
        log.info("the area under the curve relative to no gain (1), smaller is better, with its interval of 95 %")
        for line in ranking.lines():
            log.info("%s", line)
    if options.layer is None:
        _conclude(ranking, found)
    else:
        _weigh(options.layer, ranking)
    reference = Reference(
        distributions=distributions,
        directions={name: run.directions[name] for name in distributions},
        layer=options.layer or ranking.best,
        ranking=[row.row() for row in ranking.rows],
        holds_for=run.manifest.holds_for(options.any_alignment),
        about=_about(options, run, found, ranking),
    )
    _write(reference, options.output)
    return reference


def _need_output(options: CalibrateOptions) -> None:
    """Raise RequestError when the file cannot be written, or is not to be replaced."""
    path = options.output
    need_folder(path.parent, "--output")
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise RequestError(f"{shown(path)} is a folder: give the --output a file's name, such as reference.json")
    if not options.overwrite:
        raise RequestError(f"{shown(path)} exists already: give another --output, or replace it with --overwrite")
    try:
        read_reference(path)
    except RequestError as error:
        raise RequestError(
            f"{shown(path)} is not a reference, and --overwrite replaces nothing else: give another --output, or "
            "remove it by hand"
        ) from error


def _distributions(run: Run) -> dict[str, Distribution]:
    """How the scores of a run are distributed. Raises RequestError when there are too few."""
    count = len(run.scores)
    if count < _FEWEST:
        raise RequestError(
            f"the run in {shown(run.folder)} has scores of {count} images, and a reference takes {_FEWEST} at least, "
            f"better {_FINE:,}: make it of a run of more"
        )
    try:
        found = {name: Distribution.of(run.scores[name]) for name in run.manifest.scores}
        for name, each in found.items():
            if each.quantiles[0] == each.quantiles[-1]:
                log.warning("warning: all scores of %s are equal: its quality tells nothing apart", name)
        return found
    except ValueError as error:
        raise RequestError(
            f"the run in {shown(run.folder)} is damaged (it has scores that are not finite): 'grafiqs verify' says more"
        ) from error


# -- ranking -----------------------------------------------------------------------------------------------


def _evaluated(options: CalibrateOptions, run: Run) -> tuple[Evaluation | None, str]:
    """How well the scores of a run predict errors, or why that cannot be said.

    Raises RequestError when pairs are given, and cannot be evaluated.
    """
    if options.pairs is None and not run.manifest.embeds:
        return None, "the run has no embeddings: make it with --embeddings, or give --pairs with similarities"
    try:
        found = evaluate(
            EvaluateOptions(
                scores=(str(options.run),),
                methods=(*run.manifest.scores, *([EMBEDDING_NORM] if run.manifest.embeds else [])),
                pairs=options.pairs,
                seed=options.seed,
                fmr=(options.fmr,),
                protocol=options.protocol,
                x_max=(options.x_max,),
                bootstrap=options.bootstrap,
                output_dir=options.output.parent,
                quiet=options.quiet,
            )
        )
    except RequestError as error:
        if options.pairs is not None:
            raise
        return None, str(error)
    return found, ""


# -- saying ------------------------------------------------------------------------------------------------


def _conclude(ranking: Ranking, found: Evaluation | None) -> None:
    """Say which score the reference takes, and what that is worth."""
    best, norm = ranking.best, ranking.of(EMBEDDING_NORM)
    if best is None:
        log.warning(
            "warning: %s. The reference names no layer: its qualities say where a score stands among those of this "
            "run, and not whether a face will be recognised. --layer chooses one by hand",
            ranking.verdict(),
        )
        if norm is not None and norm.predicts:
            log.warning(
                "The length of the embedding does predict them: --layer %s takes it for quality", EMBEDDING_NORM
            )
        return
    log.info("%s predicts errors best of the layers and the loss: quality is that of %s", best, best)
    row = ranking.of(best)
    if (
        found is not None
        and norm is not None
        and row is not None
        and ranking.rows.index(norm) < ranking.rows.index(row)
    ):
        log.info(
            "The length of the embedding predicts them better by %s: --layer %s takes it for quality",
            *(_difference(found, best), EMBEDDING_NORM),
        )


def _difference(found: Evaluation, best: str) -> str:
    """How much smaller the area of the embedding's length is than that of the best layer, in words."""
    row = next(row for row in found.differences if {row["first"], row["second"]} == {best, EMBEDDING_NORM})
    sign = 1 if row["first"] == best else -1
    low, high = sorted((sign * row["ci_low"], sign * row["ci_high"]))
    doubt = "" if low > 0 else ", so that it may be chance"
    return f"{sign * row['difference']:.3f} (interval {low:.3f} to {high:.3f}{doubt})"


def _weigh(layer: str, ranking: Ranking) -> None:
    """Say what bears out a layer that was chosen by hand, or that nothing does."""
    row, best = ranking.of(layer), ranking.best
    if row is None or row.predicts is None:
        log.warning("warning: nothing says whether %s predicts errors: %s", layer, ranking.why or "it was not ranked")
    elif not row.predicts:
        area, interval = row.figures()
        log.warning(
            "warning: %s is taken as asked for, and %s: its area is %s, interval %s",
            layer,
            "predicts errors the wrong way round" if row.reversed else "is not shown to predict errors",
            *(area, interval),
        )
    elif best is not None and best != layer and layer != EMBEDDING_NORM:
        log.info("%s is taken as asked for; %s predicts errors better", layer, best)
    else:
        log.info("quality is that of %s, as asked for", layer)


# -- writing -----------------------------------------------------------------------------------------------


def _about(options: CalibrateOptions, run: Run, found: Evaluation | None, ranking: Ranking) -> dict[str, Any]:
    """What the reference was made of, and how its scores were ranked."""
    about: dict[str, Any] = {
        "grafiqs": version("grafiqs"),
        "run": Path(os.path.realpath(run.folder)).name,
        "subset_sha256": run.manifest.subset.sha256,
        "images": len(run.scores),
        "without_score": len(run.failures),
        "layer": "by hand" if options.layer is not None else "by ranking" if ranking.best else ranking.verdict(),
    }
    if found is not None:
        row = found.results[0]
        about |= {
            "comparisons": found.about["comparisons"],
            **{name: row[name] for name in ("n_genuine", "n_impostor", "fmr", "protocol", "x_max", "e0")},
            "seed": options.seed,
            "bootstrap": options.bootstrap,
        }
    return about


def _write(reference: Reference, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as file:
            file.write(reference.file)
    except OSError as error:
        raise RequestError(f"cannot write {shown(path)}: {error.strerror}; give another --output") from error
