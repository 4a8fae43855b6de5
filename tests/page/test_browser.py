"""What the tests of the page would see: a fault of each kind, on small pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from support import browser as in_browser
from support.browser import Visit

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
IMAGE = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


def written(folder: Path, body: str, policy: str = POLICY) -> Path:
    path = folder / "a page.html"
    head = f'<meta charset="utf-8"><title>A page</title><meta http-equiv="Content-Security-Policy" content="{policy}">'
    path.write_text(
        f'<!doctype html><html lang="en"><head>{head}</head><body><main><h1>A page</h1>{body}</main></body>'
    )
    return path


def test_a_clean_page_has_no_problems_and_no_violations(browser: Browser, tmp_path: Path) -> None:
    body = f'<img src="{IMAGE}" alt="nothing"><a href="#here">There</a><script>console.log("fine")</script>'
    with Visit(browser, written(tmp_path, body)) as visit:
        visit.page.get_by_text("There").click()
        assert visit.problems() == []
        assert visit.violations() == []
        assert visit.problems() == []  # nor does the look itself make any


def test_each_problem_is_seen(browser: Browser, tmp_path: Path) -> None:
    faults = {
        '<img src="http://127.0.0.1:9/x" alt="">': "asks for http://127.0.0.1:9/x",
        '<img src="https://example.org/x" alt="">': "asks for https://example.org/x",
        '<script src="beside.js"></script>': f"asks for {(tmp_path / 'beside.js').as_uri()}",
        '<script>new WebSocket("ws://127.0.0.1:9/x")</script>': "ws://127.0.0.1:9/x",
        '<script>console.error("so wrong")</script>': "error: so wrong",
        '<script>console.warn("rather wrong")</script>': "warning: rather wrong",
        '<script>setTimeout(() => { throw new Error("so late") })</script>': "error: so late",
        "<script>nobody()</script>": "error: nobody is not defined",
    }
    with Visit(browser, written(tmp_path, "".join(faults), policy="")) as visit:
        problems = visit.problems()
    assert [fault for fault, said in faults.items() if not any(said in problem for problem in problems)] == []


def test_what_the_page_forbids_itself_is_seen(browser: Browser, tmp_path: Path) -> None:
    with Visit(browser, written(tmp_path, '<img src="http://127.0.0.1:9/x" alt="">')) as visit:
        assert any("127.0.0.1:9/x" in problem for problem in visit.problems())


def test_who_cannot_use_a_page_is_seen(browser: Browser, tmp_path: Path) -> None:
    pale = '<p style="color: #aaa; background: #fff">pale</p>'
    with Visit(browser, written(tmp_path, f'<img src="{IMAGE}">{pale}')) as visit:
        found = visit.violations()
    assert [violation.split(":")[0] for violation in found] == ["serious color-contrast", "critical image-alt"]
    assert pale in found[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_width_and_colours_are_as_asked(browser: Browser, tmp_path: Path, scheme: in_browser.Scheme) -> None:
    with Visit(browser, written(tmp_path, ""), 390, 844, scheme) as visit:
        assert visit.page.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
        assert visit.page.evaluate("[innerWidth, innerHeight]") == [390, 844]
        taken = visit.screenshot("small", tmp_path)
    assert taken.read_bytes().startswith(b"\x89PNG")


def test_without_chromium_tests_are_skipped_but_fail_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        in_browser.found()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        in_browser.found()
