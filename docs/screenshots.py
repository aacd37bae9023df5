"""Take the screenshots of TensorBoard and MLflow in docs/images: python docs/screenshots.py [--runs DIR] [NAME ...].

Trains the quickstart, or uses a folder of runs that an earlier call has left, and drives a headless Chromium.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import mlflow
from mlflow import MlflowClient
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).resolve().parents[1]
IMAGES = Path(__file__).parent / "images"
MODEL = "five_day_volatility"
SIZE = (1400, 900)
COLOURS = 128
SECONDS = 60.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
# the pages are built of shadow trees, which a plain selector does not enter
ALL = """
function all(root) {
  return [...root.querySelectorAll('*')].flatMap(e => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
}
function visible(e) { const box = e.getBoundingClientRect(); return box.width > 0 && box.height > 0; }
function text(e) { return [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join('').trim(); }
"""
TEXT = ALL + "return all(document).filter(visible).map(text).join('\\n');"
CLICK = ALL + "all(document).filter(e => visible(e) && text(e) === arguments[0])[0].click();"
HIDE_PATH = "all(document).filter(e => text(e).startsWith('Path:')).forEach(e => { e.style.visibility = 'hidden'; });"
# what a visitor would fold away: the settings next to the curves, the assistant next to a run
SETTINGS = {
    "_tb_global_settings": '{"timeSeriesSettingsPaneOpened":false,"stepSelectorEnabled":false,"ignoreOutliers":false}',
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}


class Page(NamedTuple):
    """A page of which a screenshot is taken, once it shows the texts and no longer changes."""

    name: str
    url: str
    texts: tuple[str, ...]
    clicks: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()


def main() -> None:
    """Takes all screenshots, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="folder of runs with a quickstart of this script; trained if empty")
    parser.add_argument("names", nargs="*", help="screenshots to take, such as tensorboard-graph; all if none")
    given = parser.parse_args()
    programs = program("chromium", "chromium-browser", "google-chrome"), program("chromedriver")
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        runs = (given.runs or temporary / "runs").resolve()
        if not (runs / "mlflow.db").exists():
            train(runs)
        pages = [
            *tensorboard_pages(stack.enter_context(tensorboard(runs))),
            *record_pages(stack.enter_context(record(runs)), runs),
        ]
        driver = stack.enter_context(browser(*programs, temporary / "profile"))
        for page in pages:
            if not given.names or page.name in given.names:
                take(driver, page)


def program(*names: str) -> str:
    """Path of the first of some programs that is on the PATH."""
    paths = [path for path in map(shutil.which, names) if path]
    if not paths:
        sys.exit(f"screenshots: none of {', '.join(names)} is on the PATH")
    return paths[0]


def train(runs: Path) -> None:
    """Fits, tests and predicts the quickstart.

    Args:
        runs: Folder that the run folder and MLflow's database are written to.
    """
    run = runs / "quickstart"
    fit = ["--config", "configs/quickstart.yaml", "--run_dir", str(run), "--tensorboard_plots.histograms", "true"]
    fit += ["--tensorboard_plots.every_n_epochs", "1"]
    again = ["--config", str(run / "config.yaml"), "--ckpt_path", "best"]
    for argv in (["fit", *fit, "--register_model", MODEL], ["test", *again], ["predict", *again]):
        subprocess.run([sys.executable, "-m", "cnn_lstm", *argv], cwd=ROOT, check=True)


# -- servers and browser ---------------------------------------------------------------------------------------------


def tensorboard(runs: Path) -> AbstractContextManager[str]:
    """Address of a TensorBoard."""
    return _served(lambda port: ["tensorboard.main", "--logdir", runs.name, "--port", port], runs.parent)


def record(runs: Path) -> AbstractContextManager[str]:
    """Address of an MLflow server."""
    store = f"sqlite:///{runs / 'mlflow.db'}"
    return _served(lambda port: ["mlflow", "ui", "--backend-store-uri", store, "--port", port], runs)


@contextmanager
def _served(argv_of: Callable[[str], list[str]], folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-m", *argv_of(port)], cwd=folder, stdout=quiet, stderr=quiet)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(lambda: _answers(address), f"{address} does not answer")
        yield address
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def browser(binary: str, driver: str, profile: Path, size: tuple[int, int] = SIZE) -> Iterator[Chrome]:
    """A headless Chromium with the given profile; below 600 pixels of width it is a phone."""
    options = ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    os.environ["SE_OFFLINE"] = "true"
    chrome = Chrome(options=options, service=Service(driver))
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        yield chrome
    finally:
        chrome.quit()


# -- pages -----------------------------------------------------------------------------------------------------------


def tensorboard_pages(address: str) -> list[Page]:
    """Pages of TensorBoard."""
    curves = r"%5E(train%7Cval)%2F(loss%7Cmae%7Crmse)%24"
    full_size = ("Show actual image size",)
    return [
        Page("tensorboard-curves", f"{address}/?tagFilter={curves}&smoothing=0#timeseries", ("rmse",)),
        Page("tensorboard-forecasts", f"{address}/#images&tagFilter=forecasts", ("tag:",), clicks=full_size),
        Page("tensorboard-attention", f"{address}/#images&tagFilter=attention", ("tag:",), clicks=full_size),
        Page("tensorboard-graph", f"{address}/#graphs", ("Sequential",)),
        Page("tensorboard-histograms", f"{address}/#histograms&tagFilter=weights.*lstm", ("tag:",)),
        Page("tensorboard-hparams", f"{address}/#hparams", ("CNNLSTM",), clicks=("features", "network.activation")),
    ]


def record_pages(address: str, runs: Path) -> list[Page]:
    """Pages of MLflow."""
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    version = client.get_model_version_by_alias(MODEL, "challenger")
    experiment = f"{address}/#/experiments/{client.get_run(version.run_id).info.experiment_id}"
    run = f"{experiment}/runs/{version.run_id}"
    registered = f"{address}/#/models/{MODEL}/versions/{version.version}"
    mlflow.set_tracking_uri(f"sqlite:///{runs / 'mlflow.db'}")
    signature = mlflow.models.get_model_info(f"models:/{MODEL}/{version.version}").signature
    columns = (f"Outputs ({len(signature.outputs)})",)
    hide = (HIDE_PATH,)
    return [
        Page("mlflow-run", run, ("SampleBars",)),
        Page("mlflow-metrics", f"{run}/model-metrics", ("clipped_share",)),
        Page("mlflow-system", f"{run}/system-metrics", ("cpu_utilization_percentage",)),
        Page("mlflow-artifacts", f"{run}/artifacts/history.png", ("summary.json",), scripts=hide),
        Page("mlflow-version", registered, ("challenger",), clicks=columns),
    ]


# -- taking ----------------------------------------------------------------------------------------------------------


def take(driver: Chrome, page: Page) -> None:
    """Writes the screenshot of a page.

    Args:
        driver: Browser.
        page: What to open, to wait for and to press.
    """
    driver.get(page.url)
    for key, value in SETTINGS.items():
        driver.execute_script("localStorage.setItem(...arguments)", key, value)
    driver.get("about:blank")
    driver.get(page.url)
    for text in page.texts:
        _appears(driver, page, text)
    for text in page.clicks:
        _appears(driver, page, text)
        driver.execute_script(CLICK, text)
    for script in page.scripts:
        _still(driver, page.name)
        driver.execute_script(ALL + script)
    file = IMAGES / f"{page.name}.png"
    image = Image.open(io.BytesIO(_still(driver, page.name))).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.relative_to(ROOT)}  {file.stat().st_size // 1000} kB", flush=True)


def _appears(driver: Chrome, page: Page, text: str) -> None:
    _wait(lambda: text in driver.execute_script(TEXT), f"{page.name}: no {text!r} on the page")


def _still(driver: Chrome, name: str) -> bytes:
    """The screenshot, once it has been the same for two seconds."""
    taken: list[bytes] = []

    def unchanged() -> bool:
        taken.append(driver.get_screenshot_as_png())
        return len(taken) > 4 and len(set(taken[-5:])) == 1

    _wait(unchanged, f"{name}: the page keeps changing", pause=0.4)
    return taken[-1]


def _wait(ready: Callable[[], bool], failure: str, pause: float = 0.2) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > end:
            sys.exit(f"screenshots: {failure}")
        time.sleep(pause)


if __name__ == "__main__":
    main()
