"""The page of the demo in a real browser, at two widths, in light and dark: what people do with it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page

from grafiqs.evaluation.written import read
from grafiqs.run.results import Run, open_run
from support.browser import Scheme, Visit
from support.pages import map_of, run_of, values_of

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


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light"), (768, "light"), (320, "dark")])
def test_other_looks_are_as_good(width: int, scheme: Scheme, browser: Browser, page_of_demo: Path) -> None:
    with Visit(browser, page_of_demo, width, 900, scheme) as visit:
        visit.page.locator('#faces [data-place="0"]').click()
        visit.screenshot(f"report-face-{width}-{scheme}")
        assert visit.violations() == []
        visit.page.keyboard.press("Escape")
        visit.screenshot(f"report-whole-{width}-{scheme}", whole=True)
        wide = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0
        assert visit.problems() == []


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
    section.get_by_label("block4 to").fill("0.2")
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
        equal = (run.scores[name] == row[name]).sum() - 1
        assert standing == f"{100 * (better.sum() + equal / 2) / 299:.1f} %"
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
    values, colours = run_of(page_of_demo), values_of(page_of_demo)["colours"]
    page.locator('#faces [data-place="0"]').click()
    row = values["path"].index(worst_first(run, "block4")[0])
    for layer in ("image", "block2", "block4"):
        dialog.get_by_role("button", name=layer).click()
        shown = np.array(colours_of(dialog.locator(".large > div > .stack canvas")), int).reshape(-1, 4)
        levels = map_of(values, row, layer)
        assert np.array_equal(shown[:, :3], np.array(colours)[levels.ravel()])
        down, across = np.unravel_index(levels.argmax(), levels.shape)
        words = dialog.get_by_role("img", name=f"Heat map of {layer}").get_attribute("aria-label") or ""
        assert f"{100 * (across + 0.5) / levels.shape[1]:.0f} % from the left" in words
        assert f"{100 * (down + 0.5) / levels.shape[0]:.0f} % from the top" in words
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
    assert "At FMR 0.01, FNMR 27.23 % becomes " in words
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


def test_what_errors_are_left_is_what_comparisons_say(visit: Visit, run: Run, demonstration: tuple[Path, str]) -> None:
    section = visit.page.locator("#threshold")
    (limit,) = {row["threshold"] for row in read(demonstration[0] / "evaluation").results if row["fmr"] == 0.01}
    unit = run.embeddings.astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    same = run.scores["identity"][first] == run.scores["identity"][second]
    missed = (np.einsum("ij,ij->i", unit[first], unit[second]) < limit)[same]
    worse = np.maximum(run.scores["block4"][first], run.scores["block4"][second])[same]
    ranked = np.sort(run.scores["block4"])
    for score in (*ranked[[-1, -15, 150]], *((ranked[1:] + ranked[:-1]) / 2)[[-1, -2, -30, 200, 60]]):
        section.get_by_label("Threshold").fill(repr(float(score)))
        kept = worse <= score
        (words,) = re.findall("At FMR 0.01, (.*)", section.get_by_role("status").inner_text())
        found = re.fullmatch(
            r"FNMR 27.23 % becomes (?:about )?([0-9.]+) %, as (?:about )?([0-9.]+) % of .* are discarded.", words
        )
        if found is None:
            assert (words, kept.all()) == ("FNMR 27.23 % stays: no comparison is discarded.", True)
        else:
            fnmr, discarded = map(float, found.groups())
            assert abs(discarded - 100 * (1 - kept.mean())) <= 0.15  # long curves are thinned
            assert abs(fnmr - 100 * missed[kept].mean()) <= 0.15
    section.get_by_label("Threshold").fill("-5")
    assert "At FMR 0.01, FNMR 27.23 %: no comparison is left." in section.get_by_role("status").inner_text()


def test_a_threshold_is_followed(visit: Visit) -> None:
    section = visit.page.locator("#threshold")
    section.get_by_label("Threshold").fill("0.3")
    words = section.get_by_role("status").inner_text()
    slider = section.get_by_label("Share discarded")
    share = float(slider.input_value()) / 10
    assert f"({share:.1f} %) are worse than 0.3" in words
    assert slider.get_attribute("aria-valuetext") == f"{share:.1f} %"
    section.get_by_label("By").select_option("image")
    assert f"({share:.1f} %) are worse than" in section.get_by_role("status").inner_text()
    section.get_by_label("Samples an identity needs").fill("21")
    assert "0 identities of 15 fall below 21 samples; 15 have fewer from the start." in (
        section.get_by_role("status").inner_text()
    )
    section.get_by_label("Threshold").fill("")
    assert section.get_by_role("status").inner_text() == "Give a threshold, a number."


def test_all_is_shown_again(visit: Visit, run: Run) -> None:
    page, section = visit.page, visit.page.locator("#faces")
    section.get_by_label("Sort by").select_option("image")
    section.get_by_label("Order").select_option("best")
    section.get_by_label("Quality from").fill("99")
    section.get_by_role("button", name="Show all").click()
    assert section.get_by_label("Sort by").input_value() == "block4"
    assert section.get_by_label("Order").input_value() == "worst"
    assert section.get_by_role("status").inner_text() == "300 faces of 300, worst first by block4."
    assert tiles(page)[:6] == worst_first(run, "block4")[:6]


def test_the_gallery_is_one_stop_for_the_keyboard(visit: Visit) -> None:
    page = visit.page
    page.locator('#faces [data-place="0"]').focus()
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    place = int(page.evaluate("document.activeElement.dataset.place"))
    assert place > 0
    page.locator(".gallery").evaluate("box => { box.scrollTop = 1e6; }")
    page.wait_for_timeout(100)
    assert page.evaluate("document.activeElement.dataset.place") == str(place)  # though it is far away
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.place") == str(place + 1)
    order = page.locator(".tile button").evaluate_all("tiles => tiles.map(tile => Number(tile.dataset.place))")
    assert order == sorted(order)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#faces')") is None
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.dataset.place") == str(place + 1)


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


def test_points_are_reached_by_keys(visit: Visit, run: Run) -> None:
    page = visit.page
    page.locator("#layers svg").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    best = [str(run.scores["path"][row]) for row in np.argsort(run.scores["image"], kind="stable")]
    assert page.get_by_role("dialog").locator("h2").inner_text() in best[:5]


def test_a_part_that_cannot_be_drawn_leaves_the_others(browser: Browser, page_of_demo: Path, tmp_path: Path) -> None:
    broken = tmp_path / "page.html"
    broken.write_text(page_of_demo.read_text("utf-8").replace('"curves":[', '"curves":[null,'), "utf-8")
    with Visit(browser, broken) as visit:
        visit.page.wait_for_selector("#missing")
        assert "The part Evaluation cannot be drawn" in visit.page.get_by_role("alert").last.inner_text()
        assert len(tiles(visit.page)) > 20
        assert any("error" in line for line in visit.problems())


def test_it_is_printed_with_its_headings(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 718, "height": 1000})  # A4
    visit.page.emulate_media(media="print")
    assert visit.page.locator("#people thead button").first.is_visible()
    assert not visit.page.locator("#faces form").is_visible()
    wide = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


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
