"""Pictures of a report for these pages: `python docs/screenshots.py demo-run docs/images`; playwright and Chromium."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

COLOURS = 96
LOOKS = {"light": (1180, 1720, "light"), "dark": (1180, 1720, "dark"), "phone": (390, 1500, "light")}
"""Width and height in pixels, and the colour scheme."""


def main(run: Path, folder: Path) -> None:
    """Write a picture per look, and the first page as it prints."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height, scheme) in {**LOOKS, "print": (794, 1123, "light")}.items():
            page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
            page.goto((run / "report.html").resolve().as_uri())
            if name == "print":
                page.emulate_media(media="print")
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(folder / f"report-{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
