"""A folder of a stranger, and what its files must not reach: a module, a web server."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cnn_lstm import specs

MODULE = "module_of_a_stranger"
CODE = (
    "import pathlib; pathlib.Path(__file__).with_name('pwned').touch()\nclass X: pass\ndef f(bars): return bars.close\n"
)


class Stranger:
    """The folder; `untouched` says that its module did not run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / f"{MODULE}.py").write_text(CODE)

    @property
    def untouched(self) -> bool:
        return not (self.folder / "pwned").exists() and MODULE not in sys.modules


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    """A stranger's folder, as the current one, from which Python would import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(specs, "_trusted", {"cnn_lstm"})
    return Stranger(tmp_path)


class Server:
    """A web server that answers every request with a configuration, and counts them."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        requests = self.requests

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"window: 30\n")

            do_HEAD = do_GET  # noqa: N815 - the name that http.server wants

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/x.yaml"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every name that was looked up, and every address that was connected to; none of them is reached."""
    asked: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        asked.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: refuse(address))
    return asked
