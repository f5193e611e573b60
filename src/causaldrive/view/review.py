"""The command `view review`: people accept, edit or reject labels on a local page.

Writes `review.jsonl` beside the labels and the labels themselves (see `review_log`). The page is served on this machine
only and needs no network. Knows nothing of HTTP.
"""

from __future__ import annotations

import getpass
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from causaldrive.ground.errors import UserError
from causaldrive.view.review_desk import Desk
from causaldrive.view.review_log import ReviewLog, second_set
from causaldrive.view.review_media import Media, find_beside
from causaldrive.view.review_server import ReviewServer


@dataclass(frozen=True)
class ReviewConfig:
    """Review labels by hand on a local page."""

    labels: Positional[Path]  # a label run's directory, or a labels.parquet
    recordings: Path | None = None  # where the drives are; found beside the labels when not given
    annotator: str = ""  # who decides; the name of the logged-in user when empty
    two_stage: bool = False  # name causes from history alone; the future is shown afterwards
    second: bool = False  # second annotator: the labels as the teacher wrote them, kept in a set of their own
    port: int = 0  # of 127.0.0.1; 0 takes a free one


def run(config: ReviewConfig) -> None:
    """Serve the page until interrupted. Raises UserError for labels that cannot be read or a port in use."""
    server = open_server(config)
    log = server.desk.log
    print(f"review: {len(log.labels)} labels of {log.file}, decisions by {log.who} go to {log.path}")
    if log.stray:
        print(f"review: {log.stray} log entries belong to labels that are gone or were written anew; left alone")
    missing = {label.recording_id for label in log.labels} - set(server.desk.media.directories)
    if missing:
        print(f"review: {len(missing)} recordings were not found (first: {min(missing)}); name them with --recordings")
    print(f"review: open {server.url}  (Ctrl-C ends; every decision is saved at once)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print(f"\nreview: {summary(log)}")
    finally:
        server.server_close()


def open_server(config: ReviewConfig) -> ReviewServer:
    """The listening server, not yet serving."""
    who = config.annotator or _user()
    if not re.fullmatch(r"[\w .@-]{1,60}", who) or not re.search(r"\w", who):
        raise UserError(f"annotator is {who!r}; letters, digits, spaces and . @ - _ expected, at most 60.")
    labels = second_set(config.labels, who.replace(" ", "_")) if config.second else config.labels
    log = ReviewLog(labels, who)
    if not log.labels:
        raise UserError(f"{log.file} holds no label; label some recordings first.")
    return ReviewServer(Desk(log, Media(find_beside(config.labels, config.recordings)), config.two_stage), config.port)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # a container without a user database
        raise UserError("the name of the user is not known here; say who decides with --annotator.") from error


def summary(log: ReviewLog) -> str:
    """One line: how many labels stand how."""
    decided = Counter(label.status for index, label in enumerate(log.labels) if log.reviewed_by(index) is not None)
    parts = ", ".join(f"{decided[status]} {status}" for status in ("accepted", "edited", "rejected"))
    return f"{sum(decided.values())} of {len(log.labels)} labels decided by people ({parts}): {log.file}, {log.path}"
