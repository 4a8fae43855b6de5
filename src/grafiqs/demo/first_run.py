"""The demo: draw a data set, extract the gradients of a seeded subset, evaluate them, show it all on a page."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import QUALITY
from grafiqs.demo import sheet
from grafiqs.demo.degrade import KINDS, Degradation
from grafiqs.demo.draw import draw_faces
from grafiqs.demo.embedded import demo_backbone, demo_reference
from grafiqs.demo.plan import FACES, read_faces
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, StoppedError, UnreadableSampleError
from grafiqs.evaluate import evaluate
from grafiqs.evaluation.written import JSON, write
from grafiqs.extract import extract_gradients
from grafiqs.faces.template import SIZE
from grafiqs.images.heat import magnitude
from grafiqs.options.draw import DrawOptions
from grafiqs.options.evaluate import EvaluateOptions
from grafiqs.options.extract import Options
from grafiqs.options.report import ReportOptions
from grafiqs.progress import duration
from grafiqs.report import report
from grafiqs.run.finished import REPORT, SCORES, is_page, need_folder
from grafiqs.run.results import Gradients, Run, open_run
from grafiqs.run.summary import Summary
from grafiqs.run.tables import FAILURES

log = logging.getLogger(__name__)

LAYER = "block4"
"""The layer by which the demo ranks: with its backbone it halves the errors soonest (MODEL_CARD.md)."""

DRAWN = (40, 30)  # identities, and samples of each, that are drawn
CHOSEN = (16, 20)  # ... and that are chosen of them
SHOWN = 8  # faces at either end in the picture
LISTED = 5  # ... and in the list
STRONG = 0.5  # the strength beyond which a degradation is called strong
NAME = "demo"  # what the run is called on the page
PICTURE = "best_and_worst.png"
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Ranked:
    """A face of the demo's run."""

    score: float
    quality: int
    identity: str
    sample: str
    path: str
    degradation: Degradation | None


def first_run(output_dir: Path, overwrite: bool = False) -> Summary:
    """Draw faces into output_dir/faces, run a seeded subset of them into output_dir/run, evaluate and show it.

    What is there already is kept: the demo resumes where it was stopped. With `overwrite`, a run that is there is
    removed. Raises RequestError when nothing can be written, StoppedError when what is there cannot be resumed.
    """
    started = time.monotonic()
    weights = demo_backbone()
    faces, run = output_dir / "faces", output_dir / "run"
    for folder in (faces, run):
        if folder.is_symlink():
            raise RequestError(f"{shown(folder)} is a link, which is not followed there: give another --output-dir")
    page = run / REPORT
    if os.path.lexists(page) and not is_page(page):
        raise RequestError(f"{shown(page)} is there already, and not a page of grafiqs: move it away")
    options = Options(
        image_path=Path(os.path.realpath(faces)),
        weights=weights,
        num_identities=CHOSEN[0],
        samples_per_identity=CHOSEN[1],
        output_dir=run,
        reference=demo_reference(),
        embeddings=True,
        overwrite=overwrite,
    )
    log.info("1. Draw faces of people who do not exist")
    drawn = draw_faces(DrawOptions(output=faces, identities=DRAWN[0], samples_per_identity=DRAWN[1]))
    log.info(
        "\n2. Choose the first %d identities and %d samples of each by seed, and extract their gradients",
        *(options.num_identities, options.samples_per_identity),
    )
    summary = _extracted(options)
    finished = open_run(run)
    ranking = ranked(faces, finished)
    picture = output_dir / PICTURE
    sheet.save(best_and_worst(faces, finished, ranking), picture)
    log.info("\n3. Say how well the scores predict recognition errors, and show it all on a page")
    page = _shown(run, output_dir / EVALUATION)
    log.info("\n4. What came out")
    for line in _report(ranking):
        log.info("%s", line)
    log.info(
        "\nDrew %d faces and scored %d of them with the demo backbone, in %s. Look at:",
        *(drawn, summary.scored, duration(time.monotonic() - started)),
    )
    for place, what in (
        (page, "open it in a browser: every face with its heat maps, and what falls below a threshold"),
        (picture, "the best and the worst faces, and the magnitude of their gradients (bright: large)"),
        (output_dir / EVALUATION / JSON, "how well the scores predict recognition errors"),
        (run / SCORES, "the scores of every layer, and their qualities"),
        (run / "<layer>", "the gradients: <identity>/<sample>_grad.npy"),
        (faces / FACES, "what was drawn: every number behind every face"),
    ):
        log.info("  %s\n      %s", shown(place), what)
    log.info(
        "\nThe demo backbone knows drawn faces only. With your own faces and weights:\n"
        "  grafiqs extract --image-path faces --weights backbone.pth --num-identities %d --samples-per-identity %d\n"
        "  grafiqs score photo.jpg --weights backbone.pth --align yunet.onnx",
        *(options.num_identities, options.samples_per_identity),
    )
    return summary


def _extracted(options: Options) -> Summary:
    """Extract; faces were drawn before, so whatever fails now is a stop on the way."""
    try:
        summary = extract_gradients(options)
    except RequestError as error:
        raise StoppedError(str(error)) from error
    if summary is None or summary.failed:
        raise StoppedError(
            f"faces in {shown(options.image_path)} are damaged; {shown(options.output_dir / FAILURES.name)} names "
            "them: the same command draws them again"
        )
    return summary


def _shown(run: Path, evaluation: Path) -> Path:
    """Evaluate the run, and write the page that shows it; returns where that is."""
    options = EvaluateOptions(scores=(str(run),), output_dir=evaluation, plots=False, quiet=True)  # no bar of 2 s
    try:
        need_folder(evaluation)
        write(evaluate(options), evaluation)
        return report(ReportOptions(runs=(f"{NAME}={run}",), evaluation=(str(evaluation),))).path
    except RequestError as error:
        raise StoppedError(str(error)) from error


def ranked(faces: Path, run: Run) -> list[Ranked]:
    """Every scored face, best first."""
    wrong = read_faces(faces)
    rows = [
        Ranked(float(row[LAYER]), int(row[QUALITY]), row["identity"], row["sample"], row["path"], wrong[row["path"]])
        for row in run.scores
    ]
    return sorted(rows, key=lambda one: (one.score, one.path))


def best_and_worst(faces: Path, run: Run, ranking: list[Ranked]) -> NDArray[np.uint8]:
    """A picture: the best and the worst faces, and below each the magnitude of its gradient at the image."""
    count = min(SHOWN, len(ranking) // 2)
    ends = (ranking[:count], ranking[-count:])
    images = run.gradients("image")
    gradients = {one.path: _magnitude(images, one) for end in ends for one in end}
    # One scale for all, so that a brighter map is a larger gradient.
    brightest = float(np.quantile(np.stack(list(gradients.values())), 0.995))
    rows: list[list[NDArray[np.uint8]]] = []
    for end, title in zip(ends, ("best", "worst"), strict=True):
        text = f"The {title} faces by {LAYER} (lower is better), and the magnitude of their gradients at the image"
        rows.append([sheet.heading(count * SIZE, text)])
        rows.append([sheet.tile(sheet.load(faces / one.path), sheet.words(one.degradation)) for one in end])
        rows.append(
            [
                sheet.tile(_heat(gradients[one.path] / brightest), f"{one.score:#.3g}, quality {one.quality}")
                for one in end
            ]
        )
    return sheet.arranged(rows)


def _magnitude(gradients: Gradients, one: Ranked) -> NDArray[np.float32]:
    """The sum of |gradient| over the colours (112, 112), at the image."""
    try:
        found = magnitude(gradients[one.path])
    except UnreadableSampleError:
        found = np.full((1, 1), np.nan, np.float32)
    if not np.isfinite(found).all():
        raise StoppedError(f"the gradient of {shown(one.path)} is damaged: start over with --overwrite")
    return found


def _heat(share: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels = (np.sqrt(np.clip(share, 0, 1)) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def _report(ranking: list[Ranked]) -> list[str]:
    """The ends of the ranking, and the median score of clean faces and of every degradation, light and strong."""
    lines = [f"Scores at {LAYER}, a lower one is better; and quality: better than so many of 100 drawn faces."]
    for title, end in (("best", ranking[:LISTED]), ("worst", ranking[-LISTED:])):
        lines += [
            f"  {title:<6}{one.score:<#9.3g}{one.quality:>4}  {one.path}  {sheet.words(one.degradation)}" for one in end
        ]
    lines.append("Their median (and the number of faces) by what was done to the face:")
    clean = [one.score for one in ranking if not one.degradation]
    lines.append(f"  {'clean':<16}{_median(clean)}")
    for kind in KINDS:
        degraded = [
            (one.degradation.strength, one.score) for one in ranking if one.degradation and one.degradation.kind == kind
        ]
        light, strong = (
            [score for strength, score in degraded if (strength > STRONG) == is_strong] for is_strong in (False, True)
        )
        lines.append(f"  {kind.replace('_', ' '):<16}{_median(light):<13}up to {STRONG}   {_median(strong):<13}beyond")
    lines.append("The scores of this backbone hardly follow jpeg and yaw; its model card has the figures.")
    return lines


def _median(scores: list[float]) -> str:
    return f"{median(scores):#.3g} ({len(scores)})" if scores else "-"
