"""The MLflow model answers a real request over HTTP with the predictor's forecasts."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.inference.pyfunc import save_pyfunc
from tests.fits import small_checkpoint
from tests.markets import walk

PATIENCE = 120.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def address(checkpoint: Path) -> Iterator[str]:
    """A server of the model, as docs/serving.md starts it."""
    save_pyfunc(checkpoint, checkpoint.parent / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["models", "serve", "-m", str(checkpoint.parent / "model"), "--env-manager", "local", "--port", str(port)]
    scripts = Path(mlflow.__file__).parents[4] / "bin"  # where uvicorn lies, also in an environment on top of another
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    with (checkpoint.parent / "server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "mlflow", *words], env=environment, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/ping", server, Path(log.name))
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            server.terminate()
            server.wait(30)


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"no server: {log.read_text()[-2000:]}")


def post(address: str, body: object) -> bytes:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        content: bytes = answer.read()
    return content


@pytest.mark.slow
def test_a_request_gives_the_forecasts_of_the_predictor(checkpoint: Path, address: str) -> None:
    prices = walk(60)
    split = prices.assign(timestamp=prices["timestamp"].astype(str)).to_dict(orient="split", index=False)
    found = json.loads(post(address, {"dataframe_split": split}))["predictions"]
    wanted = Predictor.from_checkpoint(checkpoint).predict(prices)
    assert [row["y_pred"] for row in found] == wanted["y_pred"].tolist()
    assert [row["upper_90"] for row in found] == wanted["upper_90"].tolist()
    assert found[-1]["as_of"].startswith(str(wanted["as_of"].iloc[-1].date()))


@pytest.mark.slow
def test_a_parquet_file_gives_the_same(checkpoint: Path, address: str) -> None:
    prices, body = walk(60), io.BytesIO()
    prices.to_parquet(body)
    request = urllib.request.Request(address, body.getvalue(), {"Content-Type": "application/vnd.apache.parquet"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        found = json.loads(answer.read())["predictions"]
    wanted = Predictor.from_checkpoint(checkpoint).predict(prices)
    assert [row["y_pred"] for row in found] == wanted["y_pred"].tolist()


@pytest.mark.slow
def test_a_damaged_table_is_refused_with_its_reason(address: str) -> None:
    prices = walk(60).assign(close=-1.0)
    split = prices.assign(timestamp=prices["timestamp"].astype(str)).to_dict(orient="split", index=False)
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(address, {"dataframe_split": split})
    with caught.value as answer:
        assert answer.code >= 400
        assert "close <= 0" in answer.read().decode()
