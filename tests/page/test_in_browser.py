"""The page of the demo in a real browser, at two widths, in light and dark: what people do with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page

from grafiqs.run.results import Run, open_run
from support.browser import Scheme, Visit
from support.pages import map_of, run_of

LOOKS: list[tuple[int, int, Scheme]] = [(1280, 900, "light"), (390, 844, "dark")]


@pytest.fixture(scope="module")
def page_of_demo(demonstration: tuple[Path, str]) -> Path:
    return demonstration[0] / "run" / "report.html"


@pytest.fixture(scope="module")
def run(demonstration: tuple[Path, str]) -> Run:
    return open_run(demonstration[0] / "run")


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]}-{look[2]}")
def visit(request: pytest.FixtureRequest, browser: Browser, page_of_demo: Path) -> Iterator[Visit]:
    """The page, of which nothing may be wrong when it was used."""
    width, height, scheme = request.param
    with Visit(browser, page_of_demo, width, height, scheme) as opened:
        opened.page.wait_for_selector("#missing")
        yield opened
        assert opened.problems() == []


def named(visit: Visit, name: str) -> str:
    return f"report-{name}-{visit.page.evaluate('innerWidth')}"


def tiles(page: Page) -> list[str]:
    """The paths of the faces that are seen in the gallery, in order."""
    names = page.locator("#faces .tile button").evaluate_all(
        "tiles => tiles.map(tile => [Number(tile.dataset.place), tile.querySelector('.name').textContent])"
    )
    return [name for _, name in sorted(names)]


def worst_first(run: Run, score: str) -> list[str]:
    values = run.scores[score] * (-1 if run.directions[score] == "lower" else 1)
    return [str(run.scores["path"][row]) for row in np.argsort(values, kind="stable")]


def test_it_opens_and_everybody_can_use_it(visit: Visit) -> None:
    visit.screenshot(named(visit, "top"))
    visit.screenshot(named(visit, "whole"), whole=True)
    wide = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0  # nothing sticks out
    assert visit.violations() == []


def test_faces_are_sorted(visit: Visit, run: Run) -> None:
    page, section = visit.page, visit.page.locator("#faces")
    assert tiles(page)[:6] == worst_first(run, "block4")[:6]
    section.get_by_label("Sort by").select_option("image")
    assert tiles(page)[:6] == worst_first(run, "image")[:6]
    section.get_by_label("Order").select_option("best")
    assert tiles(page)[:6] == worst_first(run, "image")[::-1][:6]
    section.get_by_label("Sort by").select_option("embedding_norm")
    assert tiles(page)[:6] == worst_first(run, "embedding_norm")[::-1][:6]
    section.get_by_label("Sort by").select_option("quality_block4")
    qualities = {str(row["path"]): row["quality_block4"] for row in run.scores}
    found = [qualities[path] for path in tiles(page)]
    assert found == sorted(found, reverse=True)
    assert len(found) < 150  # only what is seen is in the document


def test_faces_are_filtered(visit: Visit, run: Run) -> None:
    page, section = visit.page, visit.page.locator("#faces")
    section.get_by_label("Identity has").fill("SON_0008")
    assert section.get_by_role("status").inner_text().startswith("20 faces of 300")
    assert {path.partition("/")[0] for path in tiles(page)} == {"person_0008"}
    section.get_by_label("Score to").fill("0.2")
    below = [row for row in run.scores if row["identity"] == "person_0008" and row["block4"] <= 0.2]
    assert section.get_by_role("status").inner_text().startswith(f"{len(below)} faces of 300")
    section.get_by_role("button", name="Show all").click()
    section.get_by_label("Quality from").fill("40")
    section.get_by_label("Quality to").fill("60")
    between = int(((run.scores["quality_block4"] >= 40) & (run.scores["quality_block4"] <= 60)).sum())
    assert section.get_by_role("status").inner_text().startswith(f"{between} faces of 300")
    section.get_by_label("Identity has").fill("nobody")
    assert tiles(page) == []


def test_a_face_is_opened_by_key_and_its_neighbours_by_arrows(visit: Visit, run: Run) -> None:
    page, dialog = visit.page, visit.page.get_by_role("dialog")
    order = worst_first(run, "block4")
    page.locator('#faces [data-place="0"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert dialog.locator("h2").inner_text() == order[1]
    row = next(row for row in run.scores if row["path"] == order[1])
    cells = dialog.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [cell[0] for cell in cells] == list(run.manifest.scores)
    for name, score, standing, quality in cells:
        assert float(score) == pytest.approx(row[name], rel=1e-3)
        assert quality == str(row[f"quality_{name}"])
        better = (run.scores[name] > row[name]) if run.directions[name] == "lower" else (run.scores[name] < row[name])
        assert abs(int(standing.removesuffix(" %")) - 100 * better.sum() / 299) <= 1
    visit.screenshot(named(visit, "face"))
    assert dialog.evaluate("dialog => dialog.scrollWidth - dialog.clientWidth") <= 0  # nothing sticks out
    assert visit.violations() == []
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert dialog.locator("h2").inner_text() == order[2]
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.dataset.place") == "2"
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert dialog.locator("h2").inner_text() == order[-1]
    assert dialog.get_by_role("button", name="next").is_disabled()


def colours_of(canvas: Locator) -> list[int]:
    found: list[int] = canvas.evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    )
    return found


def test_heat_maps_are_those_of_the_layer(visit: Visit, page_of_demo: Path, run: Run) -> None:
    page, dialog = visit.page, visit.page.get_by_role("dialog")
    values = run_of(page_of_demo)
    page.locator('#faces [data-place="0"]').click()
    row = values["path"].index(worst_first(run, "block4")[0])
    for layer in ("image", "block2", "block4"):
        dialog.get_by_role("button", name=layer).click()
        shown = np.array(colours_of(dialog.locator(".large > div > .stack canvas")), int).reshape(-1, 4)
        levels = map_of(values, row, layer).ravel()
        assert np.array_equal(shown[:, 3], levels)  # what the gradients are, as opacity
    strong = levels > 200
    assert shown[strong, 0].mean() > shown[~strong & (levels > 20), 0].mean()
    slider = dialog.get_by_label("Strength")
    slider.fill("0.3")
    assert dialog.locator(".large > div > .stack canvas").evaluate("canvas => canvas.style.opacity") == "0.3"
    page.keyboard.press("Tab")
    dialog.get_by_role("button", name="none").click()
    assert dialog.locator(".large > div > .stack canvas").count() == 0
    visit.screenshot(named(visit, "heat"))


def test_a_threshold_says_what_is_left_and_saves_what_is_below(visit: Visit, run: Run) -> None:
    page, section = visit.page, visit.page.locator("#threshold")
    section.get_by_label("Share discarded").fill("200")
    limit = float(section.get_by_label("Threshold").input_value())
    section.get_by_label("Samples an identity needs").fill("15")
    below = [row for row in run.scores if row["block4"] > limit]
    assert 55 < len(below) <= 60
    left = {
        name: 20 - sum(row["identity"] == name for row in below) for name in {str(n) for n in run.scores["identity"]}
    }
    words = section.get_by_role("status").inner_text()
    lost = sum(count < 15 for count in left.values())
    assert f"{len(below)} faces of 300" in words
    assert f"{lost} identit{'y' if lost == 1 else 'ies'} of 15" in words
    assert "At FMR 0.01, FNMR goes from 27.23 % to " in words
    with page.expect_download() as saved:
        section.get_by_role("button", name="Save the list").click()
    table = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text("utf-8"))))
    assert [row["path"] for row in table] == [
        path for path in worst_first(run, "block4") if path in {row["path"] for row in below}
    ]
    assert list(table[0]) == ["identity", "path", *run.manifest.directions][: len(table[0])]
    visit.screenshot(named(visit, "threshold"))
    section.get_by_role("button", name="Show them").click()
    assert page.locator("#faces").get_by_role("status").inner_text().startswith(f"{len(below)} faces of 300")
    section.get_by_label("By").select_option("quality_image")
    section.get_by_label("Threshold").fill("30")
    section.get_by_label("Threshold").press("Enter")
    assert f"{int((run.scores['quality_image'] < 30).sum())} faces of 300" in section.get_by_role("status").inner_text()


def test_what_errors_are_left_is_what_the_evaluation_says(visit: Visit, demonstration: tuple[Path, str]) -> None:
    from grafiqs.evaluation.written import read

    section = visit.page.locator("#threshold")
    points = [
        point
        for point in read(demonstration[0] / "evaluation").operating_points
        if point["quality"] == "block4" and point["fmr"] == 0.01 and point["score_threshold"] is not None
    ]
    assert len(points) == 5
    for point in points:
        section.get_by_label("Threshold").fill(str(point["score_threshold"]))
        section.get_by_label("Threshold").press("Enter")
        assert (
            f"At FMR 0.01, FNMR goes from 27.23 % to {100 * point['fnmr']:.2f} %"
            in section.get_by_role("status").inner_text()
        )


def test_identities_are_sorted(visit: Visit, run: Run) -> None:
    section = visit.page.locator("#people")
    names = sorted({str(name) for name in run.scores["identity"]})
    means = {name: run.scores["image"][run.scores["identity"] == name].mean() for name in names}
    section.get_by_label("By").select_option("image")

    def order() -> list[str]:
        return section.locator("tbody th").all_inner_texts()

    assert order() == sorted(names, key=lambda name: -means[name])
    section.get_by_role("button", name="mean").click()
    assert order() == sorted(names, key=lambda name: means[name])
    section.get_by_role("button", name="identity").click()
    assert order() == names
    section.get_by_role("button", name="worst of person_0008").click()
    own = [path for path in worst_first(run, "image") if path.startswith("person_0008/")]
    assert visit.page.get_by_role("dialog").locator("h2").inner_text() == own[0]


def test_the_command_is_copied_and_points_are_faces(visit: Visit, page_of_demo: Path) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#card").get_by_role("button", name="Copy").click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == run_of(page_of_demo)["command"]
    page.locator("#layers .dot").nth(5).click(force=True)
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#evaluation svg[role=img]").count() == 2
    page.locator("#evaluation").scroll_into_view_if_needed()
    visit.screenshot(named(visit, "evaluation"))
