"""What people said about labels: an append-only log beside the label set, and the label set that follows from it.

Each decision of a person is one line of `review.jsonl` (who, when, which label, before, after), synced to disk before
`labels.parquet` is rewritten atomically. Whoever dies in between loses nothing: on opening, the log is played again
over the labels. Reads and writes those two files. Knows nothing of pages or pictures.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_text
from causaldrive.label.store import SCHEMA, label_of_row, labels_path, read_labels, write_labels
from causaldrive.label.types import CocLabel

LOG = "review.jsonl"
ACTIONS = {"accept": "accepted", "edit": "edited", "reject": "rejected"}  # action -> status of the label

Key = tuple[str, int, int]  # recording id, t0_us, and which of several labels at that moment


@dataclass(frozen=True)
class Event:
    """One line of the log. `event` is an action, 'undo', or 'causes' (named before the future was shown)."""

    event: str
    who: str
    when: str
    key: Key
    before: CocLabel
    after: CocLabel
    note: str = ""


def keys_of(labels: Sequence[CocLabel]) -> list[Key]:
    """A key for each label, in order."""
    seen: dict[tuple[str, int], int] = {}
    keys = []
    for label in labels:
        moment = (label.recording_id, label.t0_us)
        seen[moment] = seen.get(moment, -1) + 1
        keys.append((*moment, seen[moment]))
    return keys


def log_path(labels: Path) -> Path:
    """The log that belongs to a label run's directory or to a `labels.parquet`."""
    file = labels_path(labels)
    return file.parent / (LOG if file.name == "labels.parquet" else f"{file.stem}.{LOG}")


def read_log(path: Path) -> list[Event]:
    """All events, oldest first; a last line cut by a crash is left out. Raises UserError for a damaged line."""
    return [_event(line, f"{path} line {number}") for number, line in enumerate(_whole_lines(path), 1)]


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]


def _event(line: str, where: str) -> Event:
    try:
        row = json.loads(line)
        key = (str(row["recording_id"]), int(row["t0_us"]), int(row["nth"]))
        before, after = (label_of_row(dict.fromkeys(SCHEMA.names) | row[name], where) for name in ("before", "after"))
        return Event(row["event"], row["who"], row["when"], key, before, after, row["note"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{where} is not an entry of a review log ({error}); restore the file or remove that line."
        ) from error


class ReviewLog:
    """The labels of one set and what a person does to them; one process at a time writes."""

    def __init__(self, labels: Path, who: str):
        self.file, self.who, self.path = labels_path(labels), who, log_path(labels)
        self.labels = read_labels(self.file)
        self.keys = keys_of(self.labels)
        self._place = {key: index for index, key in enumerate(self.keys)}
        self.events: dict[Key, list[Event]] = {key: [] for key in self.keys}
        self.stray = 0  # entries whose label is gone or was changed by something else since
        self._repair_end()
        self._play_again()

    def _repair_end(self) -> None:
        """Cut off a half-written last line, so that the next entry does not run into it."""
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            write_text(self.path, "".join(f"{line}\n" for line in _whole_lines(self.path)))

    def _play_again(self) -> None:
        changed = False
        for event in read_log(self.path):
            if event.key in self.events:
                self.events[event.key].append(event)
            else:
                self.stray += 1
        for key, events in self.events.items():
            now, states = self.labels[self._place[key]], _states(events)
            if not states or now == states[-1]:
                continue
            if now in states:
                self.labels[self._place[key]], changed = states[-1], True
            else:
                self.stray += len(events)
                self.events[key] = []
        if changed:
            write_labels(self.file, self.labels)

    def original(self, index: int) -> CocLabel:
        """The label as it was before any person touched it."""
        events = self.events[self.keys[index]]
        return events[0].before if events else self.labels[index]

    def revision(self, index: int) -> int:
        """How many entries a label has: an edit made on an older page is told by it."""
        return len(self.events[self.keys[index]])

    def named_causes(self, index: int) -> CocLabel | None:
        """The label with the causes this person named before seeing the future; None where not named yet."""
        named = [e for e in self.events[self.keys[index]] if e.event == "causes" and e.who == self.who]
        return named[-1].after if named else None

    def reviewed_by(self, index: int) -> str | None:
        """Who decided last; None for a label no person has decided on."""
        decided = _standing(self.events[self.keys[index]])
        return decided[-1].who if decided else None

    def act(self, index: int, action: str, after: CocLabel, note: str = "") -> CocLabel:
        """Log a decision of `ACTIONS` and rewrite the label set; returns the label as it now is."""
        return self._write(index, action, replace(after, status=ACTIONS[action]), note)

    def undo(self, index: int) -> CocLabel:
        """Take back the last decision. Raises UserError where there is none."""
        standing = _standing(self.events[self.keys[index]])
        if not standing:
            raise UserError("Nothing to take back: no person has decided on this label.")
        return self._write(index, "undo", standing[-1].before, "")

    def name_causes(self, index: int, named: CocLabel) -> None:
        """Log the causes named from history alone; the label itself stays as it is."""
        self._append(self._new_event("causes", index, named, ""))

    def _new_event(self, event: str, index: int, after: CocLabel, note: str) -> Event:
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return Event(event, self.who, when, self.keys[index], self.labels[index], after, note)

    def _write(self, index: int, event: str, after: CocLabel, note: str) -> CocLabel:
        self._append(self._new_event(event, index, after, note))
        self.labels[index] = after
        write_labels(self.file, self.labels)
        return after

    def _append(self, event: Event) -> None:
        line = json.dumps(_to_json(event), ensure_ascii=False) + "\n"
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self.events[event.key].append(event)


def _states(events: Sequence[Event]) -> list[CocLabel]:
    """Every state the label has had, oldest first; naming causes changes none."""
    return [state for event in events if event.event != "causes" for state in (event.before, event.after)]


def _standing(events: Sequence[Event]) -> list[Event]:
    """Decisions that were not taken back."""
    kept: list[Event] = []
    for event in events:
        if event.event in ACTIONS:
            kept.append(event)
        elif event.event == "undo" and kept:
            kept.pop()
    return kept


def _to_json(event: Event) -> dict[str, Any]:
    recording_id, t0_us, nth = event.key
    return {
        "event": event.event, "who": event.who, "when": event.when, "recording_id": recording_id, "t0_us": t0_us,
        "nth": nth, "note": event.note, "before": asdict(event.before), "after": asdict(event.after),
    }  # fmt: skip


def second_set(labels: Path, who: str) -> Path:
    """A label set of the second annotator's own, made of the labels as no person had touched them; kept if there."""
    own = labels_path(labels).parent / f"second_{who}" / "labels.parquet"
    if not own.exists():
        first = ReviewLog(labels, who)
        write_labels(own, [first.original(index) for index in range(len(first.labels))])
    return own


def decided_labels(labels: Path) -> Iterator[tuple[Key, CocLabel]]:
    """Labels that a person decided on, with their keys; all labels of a set that has no log."""
    reviewed = ReviewLog(labels, "")
    all_count = not log_path(labels).exists()
    for index, (key, label) in enumerate(zip(reviewed.keys, reviewed.labels, strict=True)):
        if all_count or reviewed.reviewed_by(index) is not None:
            yield key, label
