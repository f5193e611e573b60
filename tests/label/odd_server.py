"""A chat-completions server on a real socket that behaves as it is told and remembers what it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CAUSES = {
    "causes": [
        {"category": "critical_object", "kind": "lead_vehicle", "text": "the car ahead is braking", "seen_s": -0.5,
         "agent_id": None}
    ]
}  # fmt: skip
DECISION = {"longitudinal": "lead_obstacle_following", "lateral": "lane_keeping", "direction": None, "binding": [1],
            "trace": "Follow the lead and keep the lane because the car ahead is braking."}  # fmt: skip
GRADES = {"reason": "it fits", "behaviour": 5, "causality": 4}


class Answer:
    """One way to answer: a status, a body, headers, a wait before it, or a cut connection."""

    def __init__(
        self, body: Any = None, status: int = 200, headers: dict[str, str] | None = None, wait_s: float = 0.0,
        cut: bool = False,
    ):  # fmt: skip
        self.body, self.status, self.headers, self.wait_s, self.cut = body, status, headers or {}, wait_s, cut


def said(content: Any, finish: str = "stop", **message: Any) -> Answer:
    """A completion whose text is `content`, JSON unless it is text already."""
    text = content if isinstance(content, str) else json.dumps(content)
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return Answer({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


def sound(payload: dict) -> Answer:
    """What a good model says to each of the three prompts."""
    text = payload["messages"][0]["content"]
    return said(GRADES if "You judge" in text else DECISION if "You fix" in text else CAUSES)


class OddServer:
    """`with OddServer(behave) as server`: `behave(payload, how often this very payload came)` gives each `Answer`."""

    def __init__(self, behave: Callable[[dict, int], Answer]):
        self.payloads: list[dict] = []
        self.keys: list[str] = []  # Authorization headers
        self._seen: dict[str, int] = {}
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                payload = json.loads(raw)
                with server._lock:
                    server.payloads.append(payload)
                    server.keys.append(self.headers.get("Authorization", ""))
                    key = json.dumps(payload["messages"])
                    server._seen[key] = count = server._seen.get(key, 0) + 1
                self._answer(behave(payload, count))

            def _answer(self, answer: Answer) -> None:
                time.sleep(answer.wait_s)
                if answer.cut:
                    self.close_connection = True
                    self.connection.close()
                    return
                body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, the name is the library's
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # a client that stopped waiting is expected here
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> OddServer:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def most_of_one(self) -> int:
        """How often the most repeated payload came."""
        return max(self._seen.values(), default=0)
