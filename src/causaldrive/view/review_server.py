"""The review page's server: loopback only, the standard library's HTTP server, JSON in and out.

A request whose Host header names another machine is refused (a page from elsewhere could otherwise reach it through a
name that resolves to this one), and so is a foreign Origin. Whatever a person or a script gets wrong is answered by a
sentence. Reads the page's own files; knows nothing of labels.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from causaldrive.ground.errors import UserError
from causaldrive.view.review_desk import Desk, Hidden, Stale

HOST = "127.0.0.1"
MOST_BODY_BYTES = 1 << 20
MOST_DRAINED_BYTES = 64 << 20  # a refused body is read away up to here; beyond, the connection is cut
_PAGE = {"/": ("review.html", "text/html"), "/review.css": ("review.css", "text/css"),
         "/review.js": ("review.js", "text/javascript")}  # fmt: skip
_STATUS = {Stale: 409, Hidden: 403}
_LABEL = re.compile(r"/api/labels/(\d{1,9})")
_CAUSES = re.compile(r"/api/labels/(\d{1,9})/causes")
_PICTURE = re.compile(r"/media/(\d{1,9})/([^/]+)/(-?\d{1,4})\.jpg")


class Refused(Exception):
    """An answer that is not a page: status and sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class ReviewServer(ThreadingHTTPServer):
    """`ReviewServer(desk, port=0)` listens at once; `url` tells where. Raises UserError for a port in use."""

    daemon_threads = True

    def __init__(self, desk: Desk, port: int = 0):
        self.desk = desk
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be opened ({error}); choose another --port, or 0 for any.") from error

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """A browser that closes a connection early is no error worth a traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    timeout = 30
    taken_bytes = 0  # of the present request's body

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *_: Any) -> None:
        """No line a request: the terminal belongs to the person."""

    def _answer(self, make: Callable[[str], tuple[bytes, str]]) -> None:
        self.taken_bytes = 0
        try:
            self._check_host()
            body, kind = make(unquote(urlsplit(self.path).path))
            self._send(200, body, kind)
        except Refused as refusal:
            self._send_error(refusal.status, str(refusal))
        except UserError as error:
            self._send_error(_STATUS.get(type(error), 400), str(error))
        except ConnectionError:
            self.close_connection = True

    def _send_error(self, status: int, sentence: str) -> None:
        self.close_connection = True  # an unread body must not be taken for the next request
        self._drain()
        self._send(status, json.dumps({"error": sentence}).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind if kind.startswith("image/") else f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "private, max-age=600" if kind.startswith("image/") else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _check_host(self) -> None:
        own = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        host = self.headers.get("Host", "")
        if host not in own:
            raise Refused(403, f"The host {host!r} is not this page's; open {self.server.url} instead.")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{name}" for name in own}:
            raise Refused(403, f"A page from {origin!r} may not write here; open {self.server.url} instead.")

    def _get(self, path: str) -> tuple[bytes, str]:
        if path in _PAGE:
            name, kind = _PAGE[path]
            return (Path(__file__).parent / name).read_bytes(), kind
        if path == "/api/labels":
            return _json(self.server.desk.overview())
        if found := _LABEL.fullmatch(path):
            return _json(self.server.desk.detail(int(found[1])))
        if found := _PICTURE.fullmatch(path):
            picture = self.server.desk.picture(int(found[1]), found[2], int(found[3]))
            if picture is None:
                raise Refused(404, "There is no picture at this moment.")
            return picture, "image/jpeg"
        raise Refused(404, f"There is nothing at {path!r}; the page is at {self.server.url}.")

    def _post(self, path: str) -> tuple[bytes, str]:
        body = self._body()
        if path == "/api/compose":
            return _json(self.server.desk.compose(body))
        if found := _CAUSES.fullmatch(path):
            return _json(self.server.desk.name_causes(int(found[1]), body))
        if found := _LABEL.fullmatch(path):
            return _json(self.server.desk.act(int(found[1]), body))
        raise Refused(404, f"Nothing can be written at {path!r}.")

    def _drain(self) -> None:
        """Read what is left of a refused body, so that the client hears the sentence and not a broken connection."""
        length = self.headers.get("Content-Length", "")
        left = min(int(length), MOST_DRAINED_BYTES) - self.taken_bytes if length.isdigit() else 0
        while left > 0 and (chunk := self.rfile.read1(min(left, 1 << 16))):
            left -= len(chunk)

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, f"The content type is {self.headers.get_content_type()}; application/json expected.")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            raise Refused(411, "The request names no length; Content-Length expected.")
        if int(length) > MOST_BODY_BYTES:
            raise Refused(413, f"The request holds {length} bytes; at most {MOST_BODY_BYTES} expected.")
        try:
            self.taken_bytes = int(length)
            body = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise Refused(400, f"The request is not valid JSON ({error}).") from error
        if not isinstance(body, dict):
            raise Refused(400, f"The request is a JSON {type(body).__name__}; an object expected.")
        return body


def _json(value: Any) -> tuple[bytes, str]:
    return json.dumps(value, ensure_ascii=False).encode(), "application/json"
