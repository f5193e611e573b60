"""The reply cache: every raw reply, found again by the digest of what was asked.

A directory of JSON-lines files, one per process that asked, so that several can write; a last line cut by a kill is
left out. Pictures are kept as their digest. Reads and writes those files. Knows nothing of what replies mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any, Protocol


class Asked(Protocol):
    """What was asked: its messages."""

    @property
    def messages(self) -> tuple[dict[str, Any], ...]: ...


def digest_of(*parts: Any) -> str:
    """SHA-256 of the parts as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class ReplyCache:
    """Replies by digest; holds where each lies, not its text."""

    def __init__(self, directory: Path):
        directory.mkdir(parents=True, exist_ok=True)
        self._own = directory / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._places: dict[str, tuple[Path, int]] = {}
        for path in sorted(directory.glob("*.jsonl")):
            self._index(path)

    def __len__(self) -> int:
        return len(self._places)

    def _index(self, path: Path) -> None:
        place = 0
        with path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    self._places[json.loads(line[: line.index(b",")] + b"}")["key"]] = (path, place)
                place += len(line)

    def get(self, key: str) -> dict[str, Any] | None:
        """The raw body of a reply, None where this was never answered."""
        found = self._places.get(key)
        if found is None:
            return None
        with found[0].open("rb") as stream:
            stream.seek(found[1])
            return json.loads(stream.readline())["body"]

    def put(self, key: str, model: str, host: str, asked: Asked, body: dict[str, Any]) -> None:
        """Keep a reply beside what was asked; one write a line, so that a kill cuts at most the last."""
        entry = {"key": key, "model": model, "endpoint": host, "unix_s": round(time.time(), 3),
                 "messages": [_without_pictures(message) for message in asked.messages], "body": body}  # fmt: skip
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        with self._own.open("ab") as stream:
            place = stream.tell()
            stream.write(line)
        self._places[key] = (self._own, place)


def _without_pictures(message: dict[str, Any]) -> dict[str, Any]:
    if isinstance(message["content"], str):
        return message
    parts = [
        {"type": "image_url", "sha256": hashlib.sha256(part["image_url"]["url"].encode()).hexdigest()}
        if part["type"] == "image_url"
        else part
        for part in message["content"]
    ]
    return {**message, "content": parts}
