"""Make the two example reports of the guide, and their screenshots: python -m docs.reports [--runs DIR].

One report is on the next-day return of the shipped bars, the other on a simulated market with a planted signal. The
screenshots are taken in a headless Chromium, at the width of a desktop and of a phone. The extra `docs` has all that
they need.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from docs.screenshots import COLOURS, browser, program
from tests.experiments import run
from tests.validity.controls import judge, planted

ROOT = Path(__file__).resolve().parents[1]
IMAGES, REPORTS = ROOT / "docs/images", ROOT / "docs/reports"
DESKTOP, PHONE = (1280, 1500), (390, 844)


def main() -> None:
    """Makes the reports, unless a folder of an earlier call has them, and takes the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.runs or Path(temporary)
        for name, make in (("no_evidence", next_day_return), ("evidence", planted_signal)):
            report = folder / name / "run/report.html"
            if not report.is_file():
                make(folder / name)
            REPORTS.mkdir(exist_ok=True)
            shutil.copyfile(report, REPORTS / report.with_stem(name).name)
            for suffix, size in (("", DESKTOP), ("_phone", PHONE)):
                photograph(report, IMAGES / f"report_{name}{suffix}.png", size)


def next_day_return(folder: Path) -> None:
    """Trains and tests the shipped configuration on the shipped bars."""
    arguments = ("--run_dir", folder / "run", "--quiet", "true")
    if run("fit", "--config", ROOT / "configs/next_day_return.yaml", *arguments):
        raise SystemExit("the fit failed")
    if run("test", "--config", folder / "run/config.yaml", "--ckpt_path", "best"):
        raise SystemExit("the test failed")


def planted_signal(folder: Path) -> None:
    """Trains and tests on a market whose return follows the product of the two returns before."""
    print(judge(folder, planted(seed=0), seed=0, window=20))


def photograph(page: Path, image_file: Path, size: tuple[int, int]) -> None:
    """Takes the top of a page at a width, in few colours.

    Args:
        page: HTML file.
        image_file: PNG file to write.
        size: Width and height in CSS pixels.
    """
    binary, driver = program("chromium", "chromium-browser", "google-chrome"), program("chromedriver")
    with tempfile.TemporaryDirectory() as profile, browser(binary, driver, Path(profile), size) as chrome:
        chrome.get(page.resolve().as_uri())
        image = Image.open(io.BytesIO(chrome.get_screenshot_as_png())).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(image_file, optimize=True)


if __name__ == "__main__":
    main()
