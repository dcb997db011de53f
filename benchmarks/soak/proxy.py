"""The network between the backend and Label Studio, which can be slow or broken for a while."""

import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import httpx

TIMEOUT_S: Final = 900.0
NOT_FORWARDED: Final = {"connection", "content-encoding", "content-length", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Weather:
    """How requests fare."""

    delay_s: float = 0.0
    """How long a request takes to arrive."""
    fails: bool = False
    """Whether it is answered by 500 instead."""
    path: str = ""
    """Part of the addresses that this is about; all others arrive at once."""


class Proxy(ThreadingHTTPServer):
    """Hands every request on to one server, under the present `weather`."""

    daemon_threads = True

    def __init__(self, port: int, server: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.weather = Weather()
        self.client = httpx.Client(base_url=server, timeout=TIMEOUT_S)
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing from now on."""
        self.shutdown()
        self.server_close()
        self.client.close()

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that went away: being killed is what they are here for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        weather = self.server.weather
        if weather.path in self.path:
            time.sleep(weather.delay_s)
            if weather.fails:
                self._answer(500, {}, b"made to fail")
                return
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in NOT_FORWARDED | {"host", "accept-encoding"}
        }
        headers["Accept-Encoding"] = "identity"
        try:
            answer = self.server.client.request(
                self.command, self.path, content=body, headers=headers
            )
        except httpx.HTTPError:
            self._answer(502, {}, b"nobody there")
            return
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in NOT_FORWARDED}
        self._answer(answer.status_code, kept, answer.content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
