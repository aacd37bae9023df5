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
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server import invocations

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


def as_json(prices: pd.DataFrame) -> bytes:
    texts = prices.assign(timestamp=prices["timestamp"].astype(str), volume=prices["volume"].astype(int))
    return json.dumps({"dataframe_split": texts.to_dict(orient="split", index=False)}).encode()


def as_csv(prices: pd.DataFrame) -> bytes:
    return prices.to_csv(index=False).encode()


def as_parquet(prices: pd.DataFrame) -> bytes:
    body = io.BytesIO()
    prices.to_parquet(body)
    return body.getvalue()


FORMS: dict[str, tuple[str, Callable[[pd.DataFrame], bytes]]] = {
    "JSON": ("application/json", as_json),
    "CSV": ("text/csv", as_csv),
    "Parquet": ("application/vnd.apache.parquet", as_parquet),
}
ZONES: dict[str, str | None] = {"UTC": "UTC", "Tokyo": "Asia/Tokyo", "no zone": None}


def same(answer: str | bytes, wanted: pd.DataFrame) -> None:
    found = json.loads(answer)["predictions"]
    assert [row["y_pred"] for row in found] == wanted["y_pred"].tolist()
    assert [row["upper_90"] for row in found] == wanted["upper_90"].tolist()
    assert [row["symbol"] for row in found] == wanted["symbol"].tolist()
    assert found[-1]["as_of"].startswith(str(wanted["as_of"].iloc[-1].date()))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "body"), FORMS.values(), ids=list(FORMS))
def test_a_request_gives_the_forecasts_of_the_predictor(
    checkpoint: Path, address: str, kind: str, body: Callable[[pd.DataFrame], bytes]
) -> None:
    prices = walk(60)
    request = urllib.request.Request(address, body(prices), {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        same(answer.read(), Predictor.from_checkpoint(checkpoint).predict(prices))


def test_every_form_and_zone_gives_the_same_without_a_network(checkpoint: Path, tmp_path: Path) -> None:
    """What the server does with a request, in this process: CSV was refused by the types of MLflow."""
    save_pyfunc(checkpoint, tmp_path / "model")
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    prices = walk(60)
    wanted = Predictor.from_checkpoint(checkpoint).predict(prices)
    for zone in ZONES.values():
        local = prices.assign(timestamp=prices["timestamp"].dt.tz_localize(None).dt.tz_localize(zone))
        for kind, body in FORMS.values():
            answer = invocations(body(local), kind, model, model.metadata.get_input_schema())
            assert answer.status == 200
            same(answer.response, wanted)


@pytest.mark.slow
def test_a_damaged_table_is_refused_with_its_reason(address: str) -> None:
    prices = walk(60).assign(close=-1.0)
    split = prices.assign(timestamp=prices["timestamp"].astype(str)).to_dict(orient="split", index=False)
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(address, {"dataframe_split": split})
    with caught.value as answer:
        assert answer.code >= 400
        assert "close <= 0" in answer.read().decode()
