"""Make the pictures of the documentation that show the page of a run, from the demo, in a real browser.

make pictures
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.browser import Visit, started

DOCS = Path(__file__).resolve().parent

QUALITY = 88
"""Of the pictures, as JPEG."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name, started() as browser:
        folder = Path(name) / "demo_output"
        subprocess.run([sys.executable, "-m", "grafiqs", "demo", "--output-dir", folder], check=True)
        path = folder / "run" / "report.html"
        with Visit(browser, path, 1180, 900) as visit:
            page = visit.page
            page.locator(".tile img").first.wait_for()
            save("report", page, page.locator("header").bounding_box(), page.locator("#ends").bounding_box())
            page.locator('#faces [data-place="3"]').click()
            page.get_by_role("dialog").get_by_role("button", name="block2").click()
            save("report-face", page, page.get_by_role("dialog").bounding_box())
            page.keyboard.press("Escape")
            page.locator("#threshold").get_by_label("Share discarded").fill("100")
            for part in ("threshold", "evaluation"):
                page.evaluate("part => document.getElementById(part).scrollIntoView()", part)
                box = page.locator(f"#{part}").bounding_box()
                save(f"report-{part}", page, box)
        with Visit(browser, path, 390, 780, "dark") as visit:
            visit.page.locator(".tile img").first.wait_for()
            visit.page.locator('#faces [data-place="1"]').click()
            save("report-phone", visit.page, {"x": 0, "y": 0, "width": 390, "height": 780})


def save(name: str, page: Page, *boxes: FloatRect | None) -> None:
    """Write what lies from the first of these boxes to the last, as far as the window shows it."""
    known = [box for box in boxes if box is not None]
    whole = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    left, top = (int(min(box[side] for box in known)) for side in ("x", "y"))
    right = int(max(box["x"] + box["width"] for box in known))
    bottom = int(max(box["y"] + box["height"] for box in known))
    cut = whole.crop((max(0, left - 8), max(0, top - 4), min(whole.width, right + 8), min(whole.height, bottom + 8)))
    cut.save(DOCS / f"{name}.jpg", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
