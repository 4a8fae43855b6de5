"""A page in a real browser: what it asks for, what it complains of, who cannot use it, and how it looks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NoReturn, Self

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Request, WebError, WebSocket, sync_playwright

REPOSITORY = Path(__file__).parents[2]
SCREENSHOTS = REPOSITORY / "build" / "screenshots"
PAGE = REPOSITORY / "tests" / "page"
"""Where `make check` and `make test` put what is from npm."""
AXE = PAGE / "node_modules" / "axe-core" / "axe.min.js"

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # without it, Chromium looks up hosts of its maker at every start
)

Scheme = Literal["light", "dark"]


def absent(what: str) -> NoReturn:
    """Skip the test, which needs what is not here; in CI it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def found() -> str:
    """Chromium's path."""
    for program in PROGRAMS:
        if (path := shutil.which(program)) is not None:
            return path
    absent(f"needs one of {', '.join(PROGRAMS)} on the PATH (Debian: apt-get install chromium)")


@contextmanager
def started() -> Iterator[Browser]:
    """Chromium without a window, with a profile of its own that goes with it; takes a second."""
    program = found()
    with sync_playwright() as playwright:
        sandbox = os.geteuid() != 0  # which Chromium refuses to root
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=sandbox, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page that is open: `page` is Playwright's; leaving the context closes it.

    What another origin is asked for, and so every file but the page itself, is a problem, and so is each error and
    warning in the console.
    """

    def __init__(
        self, browser: Browser, path: Path, width: int = 1280, height: int = 900, scheme: Scheme = "light"
    ) -> None:
        self._address = path.resolve().as_uri()
        self._problems: list[str] = []
        self._context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self._context.on("request", self._on_request)
        self._context.on("console", self._on_console)
        self._context.on("weberror", self._on_error)
        self.page = self._context.new_page()
        self.page.on("websocket", self._on_socket)
        self.page.goto(self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def problems(self) -> list[str]:
        """All requests for anything but the page, errors and warnings so far."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        return list(self._problems)

    def violations(self) -> list[str]:
        """What keeps people from using the page as it is now, as axe-core sees it: only what is serious or critical."""
        if not AXE.exists():
            absent("needs axe-core from npm (Debian: apt-get install nodejs npm; then make test)")
        self.page.evaluate(AXE.read_text("utf-8"))
        result = self.page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{rule['impact']} {rule['id']}: {node['html']} {' '.join(node['failureSummary'].split())}"
            for rule in result["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]

    def screenshot(self, name: str, folder: Path = SCREENSHOTS, *, whole: bool = False) -> Path:
        """A picture of what is seen, or of the whole page, in a folder that CI shows."""
        path = folder / f"{name}.png"
        self.page.screenshot(path=path, full_page=whole, animations="disabled")
        return path

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")) and request.url.partition("#")[0] != self._address:
            self._problems.append(f"asks for {request.url}")

    def _on_socket(self, socket: WebSocket) -> None:
        self._problems.append(f"asks for {socket.url}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self._problems.append(f"{message.type}: {message.text}")

    def _on_error(self, error: WebError) -> None:
        self._problems.append(f"error: {error.error.message}")
