"""What a page shows of a run, fitted into a budget of bytes: its rows first, then faces and heat maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any

from grafiqs.datasets.dataset import Dataset
from grafiqs.disk.names import encoded, shown
from grafiqs.errors import RequestError
from grafiqs.faces.opencv import need_opencv, one_thread
from grafiqs.page.content import content, main_score, ordered
from grafiqs.page.page import as_json
from grafiqs.page.pictures import Pictures, Shown, map_sizes
from grafiqs.run.results import Run

log = logging.getLogger(__name__)

_OF_ROWS = 0.6
"""The share of the budget that rows may take; pictures have the rest."""

_OF_ROWS_ALONE = 0.97
"""The same if there are no pictures: all but what an estimate may be wrong by."""

_OF_MAPS = 0.45
"""The share of what is left that heat maps may take, if not all pictures fit."""

_LEAST = 50
"""With fewer images, a page of a larger run says too little."""

_TRIED = 200
"""By so many rows the size of all is estimated."""


class Fitted:
    """A run as a page shows it: `values`, as JSON. What is left out for the budget is said there, and logged."""

    def __init__(self, name: str, run: Run, budget: int, pictures: bool) -> None:
        self.name = name
        self.run = run
        share = _OF_ROWS if pictures else _OF_ROWS_ALONE
        order = ordered(run)
        if order:
            sizes = [len(encoded(as_json(content(name, run, order[:count])))) for count in (0, _TRIED)]
            each = max(1.0, (sizes[1] - sizes[0]) / min(_TRIED, len(order)))
            room = int((share * budget - sizes[0]) / each)
            if room < min(_LEAST, len(order)):
                left = f"{max(0, budget) / 1e6:.2f} MB for the run {shown(name)}"
                raise RequestError(
                    f"--max-size leaves {left}, beside the page's own, its evaluations and comparison: allow more"
                )
            order = order[:room]
        self.rows = sorted(order)
        places = {row: place for place, row in enumerate(self.rows)}
        self._order = [places[row] for row in order]
        height, width = run.manifest.preprocessing["size"]
        self.values: dict[str, Any] = {
            **content(name, run, self.rows),
            "crop": [height, width],
            "faces": {},
            "maps": {},
            "sizes_of_maps": {},
            "said": [],
        }
        kept, total = len(self.rows), len(run.scores)
        if kept < total:
            self.say(
                f"{self._kept(range(kept), total, 'scored images')}. What is counted on it is counted among these; the "
                "distributions are of all"
            )

    def _kept(self, found: Collection[int], total: int, what: str) -> str:
        """How much of something is on the page, and which."""
        has_ends = len(found) > 1 and all(row in found for row in self._order[:2])
        even = f" evenly over the ranking by {main_score(self.run)}" * (len(found) > 1)
        which = ", the best and the worst, and others" * has_ends + even
        return f"{len(found):,} of {total:,} {what} are on this page{which}: more would not fit its size (--max-size)"

    def say(self, line: str) -> None:
        """State what is not as one might think, on the page and in the log."""
        self.values["said"].append(line)
        log.info("%s: %s", shown(self.name), line)

    def add_pictures(self, dataset: Dataset | str, budget: int, advance: Callable[[], object]) -> tuple[int, int]:
        """Add faces from the data set, or say why there are none, and heat maps from the run's gradients.

        Returns how many bytes they take, and how many could not be shown as something was changed since the run.
        """
        run, order = self.run, self._order
        sizes = map_sizes(run)
        shown_rows = Shown.of(run, self.rows)
        of_maps = len(order) * sum(4 * (-(-height * width // 3)) + 3 for height, width in sizes.values())
        faces = Pictures()
        if isinstance(dataset, str):
            self.say(dataset)
        elif self._can_cut():
            with one_thread() if run.manifest.aligns else nullcontext():
                faces = shown_rows.faces(dataset, order, budget - int(min(of_maps, _OF_MAPS * budget)), advance)
            self._say_of("faces", faces, "images are no longer those that were scored")
        maps = shown_rows.maps(order, budget - faces.size, advance) if sizes else Pictures()
        if sizes:
            self._say_of(
                "heat maps",
                maps,
                "gradients are no longer those of the run ('grafiqs verify' says more)",
            )
            self.values["sizes_of_maps"] = {layer: list(size) for layer, size in sizes.items()}
        else:
            self.say("There are no heat maps: the run has no gradients (--no-dump-gradients, or --layers loss)")
        self.values["faces"] = {row: texts[0] for row, texts in faces.found.items()}
        self.values["maps"] = maps.found
        return faces.size + maps.size, faces.changed + maps.changed

    def _can_cut(self) -> bool:
        if not self.run.manifest.aligns:
            return True
        try:
            need_opencv("cutting faces out of photos")
        except RequestError as error:
            self.say(f"There are no faces: {error}")
            return False
        return True

    def _say_of(self, what: str, pictures: Pictures, why: str) -> None:
        """What is missing of pictures, if something is."""
        total, found = len(self._order), len(pictures.found)
        if pictures.changed:
            self.say(f"{what.capitalize()} left out, as {why}: {pictures.changed:,}")
        if found < total - pictures.changed:
            self.say(self._kept(pictures.found, total, what))
