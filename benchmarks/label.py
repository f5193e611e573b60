"""What a label costs, and how many a machine makes: labels a second and CPU seconds per label.

    python benchmarks/label.py --recordings RECORDINGS --out docs/results/label.json

RECORDINGS: town recordings with camera (`causaldrive worlds record --scenes 120`). Three tables: the `expert` teacher
with one and two worker processes, which take 2 to 3 CPU seconds each to start; on the first 36 recordings the `openai`
teacher against an endpoint that answers at once; the same against one that takes a second, at rising concurrency, where
throughput should be concurrency / latency until the CPU is full:

    in use = requests under way / concurrency        requests a second = in use x concurrency / latency

`in use` is the mean, as the endpoint sees it, from the first request until 85 % have come: what comes later is the end,
where less is left to ask than could be. Beside it stand CPU seconds a second of the labeller, and how much of the
machine stood idle meanwhile: whoever else works on it takes from what a label could have.

Every case is a process of its own and makes shards as `causaldrive label` does, without the report. The endpoint is a
process of its own, so that its processor time is not counted; it runs on the same machine, and takes its share of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from causaldrive.clips.store import find_recordings
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_json
from causaldrive.label.asking import Asked, AskSettings
from causaldrive.label.critic import CriticConfig
from causaldrive.label.engines import label_all
from causaldrive.label.labelling import ShardTask
from causaldrive.label.openai_teacher import TeacherConfig
from causaldrive.label.store import read_labels

CAUSES = {"causes": [{"category": "critical_object", "kind": "lead_vehicle", "text": "the car ahead is braking",
                      "seen_s": -0.5, "agent_id": None}]}  # fmt: skip
DECISION = {"longitudinal": "lead_obstacle_following", "lateral": "lane_keeping", "direction": None, "binding": [1],
            "trace": "Follow the lead because the car ahead is braking."}  # fmt: skip
LATENCY_S = 1.0
CONCURRENCY = (1, 4, 16, 64, 256)
_COUNTED, ASKED = 0.85, 36
SECONDS_A_CASE = 15.0  # about, if nothing but the latency held it up


SPANS: list[tuple[float, float]] = []  # of the endpoint: when each request came and was answered


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
    """One connection of a chat-completions endpoint that takes `wait_s` for each reply; GET tells and forgets SPANS."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            came = time.monotonic()
            if head.startswith(b"GET"):
                _write(writer, SPANS)
                SPANS.clear()
                continue
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            asked = await reader.readexactly(length)
            await asyncio.sleep(wait_s)
            content = json.dumps(DECISION if b"You fix" in asked else CAUSES)
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
            usage = {"prompt_tokens": 1000, "completion_tokens": 60, "total_tokens": 1060}
            _write(writer, {"id": "x", "object": "chat.completion", "model": "m", "created": 0, "choices": [choice],
                            "usage": usage})  # fmt: skip
            SPANS.append((came, time.monotonic()))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _write(writer: asyncio.StreamWriter, value: Any) -> None:
    body = json.dumps(value).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def in_use(url: str, concurrency: int) -> float:
    """Mean share of the places that were taken, from the first request until `_COUNTED` of them had come."""
    with urllib.request.urlopen(url) as reply:
        spans = sorted(json.load(reply))
    first, last = spans[0][0], spans[int(_COUNTED * (len(spans) - 1))][0]
    busy_s = sum(max(min(end, last) - came, 0.0) for came, end in spans)
    return round(busy_s / (last - first) / concurrency, 3)


async def serve(wait_s: float) -> None:
    """Print the port, then answer until killed."""
    server = await asyncio.start_server(lambda r, w: answer(r, w, wait_s), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def endpoint(wait_s: float) -> Iterator[str]:
    """The base URL of such an endpoint in a process of its own."""
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(wait_s)], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    finally:
        server.kill()
        server.wait()


def make(recordings: str, teacher: str, every_s: float, limit: int, workers: int, url: str, concurrency: int,
         see: str) -> dict[str, Any]:  # fmt: skip
    """Make the shards of one case, in this process and its workers; figures of it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        directories = find_recordings(Path(recordings))[: limit or None]
        tasks = [ShardTask(d, out / f"{d.name}.parquet", teacher, every_s) for d in directories]
        openai = TeacherConfig(url=url, model="m", see=see, concurrency=concurrency, timeout_s=600.0)
        asked, began, spent, before = Asked(), time.monotonic(), _cpu_s(), psutil.cpu_times()
        label_all(tasks, AskSettings(teacher, openai, CriticConfig(), every_s, out / "replies"), asked, workers)
        wall_s, cpu_s, after = time.monotonic() - began, _cpu_s() - spent, psutil.cpu_times()
        idle = (after.idle - before.idle) / max(sum(after) - sum(before), 1e-9)
        labels = sum(len(read_labels(task.shard)) for task in tasks if task.shard.exists())
    return {"labels": labels, "requests": asked.teacher.requests, "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2),
            "labels_per_s": round(labels / wall_s, 2), "requests_per_s": round(asked.teacher.requests / wall_s, 2),
            "cpu_s_per_label": round(cpu_s / labels, 4), "cpu_share": round(cpu_s / wall_s, 3),
            "machine_idle": round(idle, 3)}  # fmt: skip


def _cpu_s() -> float:
    """Processor time of this process and of the workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def case(**settings: Any) -> dict[str, Any]:
    """`make` in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**{k: v for k, v in settings.items() if k in ("workers", "see", "concurrency")}, **json.loads(done.stdout)}


def measure(recordings: Path) -> dict[str, Any]:
    plain = {"recordings": str(recordings), "limit": 0, "workers": 1, "url": "", "concurrency": 16, "see": "motion"}
    found = find_recordings(recordings)
    expert = [case(**{**plain, "teacher": "expert", "every_s": 0.5, "workers": workers}) for workers in (1, 2)]
    asking = {**plain, "teacher": "openai", "limit": ASKED}
    with endpoint(0.0) as url:
        instant = [case(**{**asking, "url": url, "every_s": 1.0, "see": see}) for see in ("motion", "frames")]
    slow = []
    with endpoint(LATENCY_S) as url:
        for at_once in CONCURRENCY:
            # Two calls a label; about seven moments a recording at one a second, twice that at two a second.
            wanted = SECONDS_A_CASE / LATENCY_S * at_once / 2
            every_s, limit = (0.25, ASKED) if wanted > 14 * ASKED else (1.0, max(round(wanted / 7), 1))
            row = case(**{**asking, "url": url, "every_s": every_s, "limit": limit, "see": "frames",
                          "concurrency": at_once})  # fmt: skip
            slow.append(row | {"in_use": in_use(url, at_once)})
            print(slow[-1], file=sys.stderr)
    return {"recordings": len(found), "expert": expert, "openai_instant": instant, "openai_slow": slow,
            "latency_s": LATENCY_S}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, default=Path("runs/demo/record/recordings"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/label.json"))
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
    elif options.case:
        print(json.dumps(make(**json.loads(options.case))))
    else:
        result = measure(options.recordings)
        write_json(options.out, result)
        for table in ("expert", "openai_instant", "openai_slow"):
            print(table)
            for row in result[table]:
                print("  " + "  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"label: {error}") from None
