"""What a model said, as values: thinking taken off, JSON found and mended, entries checked one by one.

    pixel = value / 1000 * side      per axis, origin top left, x right, y down (Qwen3-VL, Cosmos-Reason2)

Taken as they come: code fences, `<think>` and `<answer>` blocks, words around the JSON, a single object instead of a
list, keyed objects, other names of the same field, trailing commas, replies cut at their longest. What stands in a cut
reply's last entry is not believed. Entries that make no sense are dropped and counted. Knows nothing of models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import json_repair

from causaldrive.label.replies import without_thinking

KINDS = ("prose", "boxes", "points_3d", "paths", "spans", "waypoints")
COORDINATES = ("thousand", "pixels")
FULL = 1000.0
_SLACK = 10.0  # models count to 1000 and now and then a little beyond
_FARTHEST_M, _TOO_LARGE = 500.0, 1e9
_FENCE = re.compile(r"```(?:\w+)?\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_BEGINS = re.compile(r"""\[\s*[\[{"'\d-]|\{\s*["'\w]""")  # a bracket that means JSON, unlike one in prose
_LISTS = ("answer", "boxes", "objects", "detections", "points", "trajectory", "waypoints", "events", "path", "answers")
_FIELDS = {
    "boxes": ("bbox_2d", "box_2d", "bbox", "box", "bounding_box"),
    "points_3d": ("point_3d", "center_3d", "xyz", "position", "point", "bbox_3d"),
    "paths": ("point_2d", "point", "xy", "points"),
    "waypoints": ("xy", "xy_m", "point", "position"),
}
_LABELS = ("label", "name", "category", "caption", "object", "description", "event", "text")
Numbers = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Entry:
    """One thing said. `values`: a box's two corners or a path's points, 0 to 1 of the picture's sides; a point's x, y,
    z in the camera's frame (m); a span's start and end (s from the first picture shown); way-points' x, y (m)."""

    label: str
    values: Numbers


@dataclass(frozen=True)
class Reading:
    """What was read of one reply. `failure` is None where it could be read; `mended`: only after repair."""

    text: str  # the reply without its thinking
    thinking: str
    entries: tuple[Entry, ...] = ()
    dropped: int = 0
    mended: bool = False
    failure: str | None = None


@dataclass(frozen=True)
class Scale:
    """How the model counts: to 1000 on either axis, or in pixels of the picture that it saw."""

    coordinates: str = "thousand"
    width_px: int = 1
    height_px: int = 1

    @property
    def sides(self) -> tuple[float, float]:
        return (FULL, FULL) if self.coordinates == "thousand" else (float(self.width_px), float(self.height_px))


def read(reply: str, kind: str, scale: Scale | None = None) -> Reading:
    """The reply as entries of `kind` (of KINDS); prose has none. Never raises for anything a model says."""
    scale, thinking = scale or Scale(), _thinking_of(reply)
    text = without_thinking(reply)
    inside = _ANSWER.search(text)
    text = inside.group(1).strip() if inside else text
    base = Reading(text, thinking)
    if not text:
        return replace(base, failure="empty")
    return base if kind == "prose" else _structured(base, kind, scale)


def _thinking_of(reply: str) -> str:
    before, mark, _ = reply.rpartition("</think>")
    opened = before if mark else (reply if "<think>" in reply else "")
    return opened.replace("<think>", "").strip()


def _structured(base: Reading, kind: str, scale: Scale) -> Reading:
    """The first JSON value that holds an entry; a mended one only where none is sound."""
    best = replace(base, failure="invalid_json")
    fenced = _FENCE.findall(base.text)
    for text in (*fenced, base.text):
        for value, mended, cut in _values(text):
            entries, dropped = _entries(value, kind, scale, cut)
            if entries or (not mended and _is_nothing(value)):
                return replace(base, entries=entries, dropped=dropped, mended=mended)
            best = replace(best, dropped=max(best.dropped, dropped))
    return best


def _is_nothing(value: Any) -> bool:
    """Whether the model says in so many words that there is nothing: an empty list, bare or under a name."""
    return value in ([], {}) or (isinstance(value, dict) and any(value.get(name) == [] for name in _LISTS))


def _values(text: str) -> Iterator[tuple[Any, bool, bool]]:
    """(value, whether it was mended, whether it was cut) of JSON lists and objects in the text.

    From the first bracket on that begins JSON but is not sound, the rest is mended: what stands inside a broken list is
    part of it, not an answer of its own.
    """
    decoder, place = json.JSONDecoder(strict=False), 0
    while (start := _next_bracket(text, place)) is not None:
        try:
            value, place = decoder.raw_decode(text, start)
            yield value, False, False
        except (json.JSONDecodeError, RecursionError):
            place = start + 1
            if _BEGINS.match(text, start):
                break
    if start is not None:
        try:
            yield json_repair.loads(text[start:]), True, _is_cut(text[start:])
        except (ValueError, RecursionError):
            return


def _next_bracket(text: str, place: int) -> int | None:
    found = re.compile(r"[\[{]").search(text, place)
    return found.start() if found else None


def _is_cut(text: str) -> bool:
    """Whether brackets are left open at the end, those in strings aside."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"?', "", text)
    return sum(bare.count(b) for b in "[{") > sum(bare.count(b) for b in "]}")


def _entries(value: Any, kind: str, scale: Scale, cut: bool) -> tuple[tuple[Entry, ...], int]:
    label = _label_of(value) if isinstance(value, dict) else ""
    items = _items(value, kind)
    read_one = _READERS[kind]
    found = [read_one(item, scale) for item in items]
    sound = [entry for entry in found if entry is not None]
    last_is_cut = bool(cut and found and found[-1] is not None)
    sound = sound[:-1] if last_is_cut else sound
    dropped = len(items) - len(sound)
    if kind in ("paths", "waypoints"):
        return _joined(sound, kind, label), dropped
    return tuple(sound), dropped


def _items(value: Any, kind: str) -> list[Any]:
    """The list of things in whatever shape it came."""
    if isinstance(value, dict):
        inner = next((value[name] for name in _LISTS if isinstance(value.get(name), (list, dict))), None)
        if inner is not None:
            return _items(inner, kind)
        if kind == "spans" or any(name in value for name in (*_FIELDS.get(kind, ()), "x", "x_m", "x1")):
            return _spread(value, kind)
        keyed = [(name, item) for name, item in value.items() if isinstance(item, (list, dict))]
        return [{"label": name, **(item if isinstance(item, dict) else {_FIELDS[kind][0]: item})}
                for name, item in keyed]  # fmt: skip
    if isinstance(value, list) and value and all(_is_number(item) for item in value):
        return [value]  # one bare box or point
    if not isinstance(value, list):
        return []
    return [part for item in value for part in (_spread(item, kind) if isinstance(item, dict) else [item])]


def _spread(item: dict[str, Any], kind: str) -> list[Any]:
    """An entry whose field holds a list of points is one entry a point."""
    for name in _FIELDS.get(kind, ()):
        inner = item.get(name)
        if kind in ("paths", "waypoints") and isinstance(inner, list) and inner and isinstance(inner[0], list):
            return [{**item, name: point} for point in inner]
    return [item]


def _joined(points: list[Entry], kind: str, label: str) -> tuple[Entry, ...]:
    """Points in their order as paths, one a label; all way-points are one path."""
    paths: dict[str, list[tuple[float, ...]]] = {}
    for point in points:
        paths.setdefault("" if kind == "waypoints" else point.label, []).extend(point.values)
    return tuple(Entry(name or label, tuple(values)) for name, values in paths.items())


def _numbers(item: Any, kind: str, count: int) -> list[float] | None:
    """At least `count` finite numbers: bare, under one of the kind's names, or one a key."""
    value = item
    if isinstance(item, dict):
        value = next((item[name] for name in _FIELDS[kind] if name in item), None)
        for names in ("xyz"[:count], tuple(f"{axis}_m" for axis in "xyz"[:count]), ("x1", "y1", "x2", "y2")):
            if value is None and len(names) == count and all(name in item for name in names):
                value = [item[name] for name in names]
    if not isinstance(value, list) or len(value) < count or not all(_is_number(v) for v in value[:count]):
        return None
    return [float(v) for v in value[:count]]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _TOO_LARGE


def _label_of(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    names = (*_LABELS, "reason", "action")
    return next((" ".join(str(item[n]).split()) for n in names if isinstance(item.get(n), str)), "")


def _shares(numbers: list[float], scale: Scale) -> list[tuple[float, float]] | None:
    """Pairs (x, y) as shares 0 to 1 of the sides; None where one lies outside the picture."""
    pairs = []
    for x, y in zip(numbers[::2], numbers[1::2], strict=True):
        share = (x / scale.sides[0], y / scale.sides[1])
        if not all(-_SLACK / FULL <= part <= 1 + _SLACK / FULL for part in share):
            return None
        pairs.append(tuple(min(max(part, 0.0), 1.0) for part in share))
    return pairs


def _box(item: Any, scale: Scale) -> Entry | None:
    numbers = _numbers(item, "boxes", 4)
    pairs = _shares(numbers, scale) if numbers else None
    if not pairs or not (pairs[0][0] < pairs[1][0] and pairs[0][1] < pairs[1][1]):
        return None
    return Entry(_label_of(item), tuple(pairs))


def _path_point(item: Any, scale: Scale) -> Entry | None:
    numbers = _numbers(item, "paths", 2)
    pairs = _shares(numbers, scale) if numbers else None
    return Entry(_label_of(item), tuple(pairs)) if pairs else None


def _point_3d(item: Any, scale: Scale) -> Entry | None:
    numbers = _numbers(item, "points_3d", 3)
    if numbers is None or numbers[2] <= 0 or max(map(abs, numbers)) > _FARTHEST_M:
        return None
    return Entry(_label_of(item), (tuple(numbers),))


def _waypoint(item: Any, scale: Scale) -> Entry | None:
    numbers = _numbers(item, "waypoints", 2)
    if numbers is None or max(map(abs, numbers)) > _FARTHEST_M:
        return None
    return Entry("", (tuple(numbers),))


def _span(item: Any, scale: Scale) -> Entry | None:
    if not isinstance(item, dict):
        return None
    start, end = (seconds_of(item.get(name, item.get(f"{name}_time"))) for name in ("start", "end"))
    if start is None or end is None or not 0 <= start <= end:
        return None
    return Entry(_label_of(item), ((start, end),))


def seconds_of(value: Any) -> float | None:
    """Seconds of a number, '3.2 s', 'mm:ss.ff' or 'hh:mm:ss'; None where it is no time."""
    if _is_number(value):
        return float(value)
    text = value.strip().lower().removesuffix("seconds").removesuffix("s").strip() if isinstance(value, str) else ""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        return None
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds if seconds < _TOO_LARGE else None


_READERS: dict[str, Callable[[Any, Scale], Entry | None]] = {
    "boxes": _box, "points_3d": _point_3d, "paths": _path_point, "spans": _span, "waypoints": _waypoint,
}  # fmt: skip


def schema_of(kind: str) -> dict[str, Any]:
    """JSON schema of an answer, for endpoints that hold models to one; its root is an object, as they demand."""
    number, text = {"type": "number"}, {"type": "string"}

    def entries(**fields: Any) -> dict[str, Any]:
        one = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
        return {"type": "array", "items": one}

    def row(count: int) -> dict[str, Any]:
        return {"type": "array", "items": number, "minItems": count, "maxItems": count}

    fields: dict[str, dict[str, Any]] = {
        "prose": {"answer": text},
        "boxes": {"answer": entries(bbox_2d=row(4), label=text)},
        "points_3d": {"answer": entries(point_3d=row(3), label=text)},
        "paths": {"answer": entries(point_2d=row(2), label=text)},
        "spans": {"answer": entries(start=text, end=text, caption=text)},
        "waypoints": {"reason": text, "trajectory": {"type": "array", "items": row(2)}},
    }
    found = fields[kind]
    return {"type": "object", "properties": found, "required": list(found), "additionalProperties": False}
