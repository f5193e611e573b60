"""Engines: one budget for many processes; with Ray, the same labels whoever makes them and whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from label_drives import recording_of, speeds
from odd_server import Answer, OddServer, sound

from causaldrive.clips.store import write_recording
from causaldrive.ground.errors import MissingExtra, UserError
from causaldrive.ground.runs import read_metrics
from causaldrive.label.asking import Asked, AskSettings, ask_all
from causaldrive.label.budget import StopAsking, Usage
from causaldrive.label.critic import CriticConfig
from causaldrive.label.endpoint import EndpointConfig
from causaldrive.label.ledger import Ledger, LedgerPurse
from causaldrive.label.openai_teacher import TeacherConfig
from causaldrive.label.stage import LabelConfig, run
from causaldrive.label.store import labels_path, read_labels

DRIVES = 8
ALWAYS_ANEW = 0.013  # m/s more each frame: no two moments look alike, so that no two questions are equal
DRIVE = np.maximum(speeds(12, (0, 4), (-1.5, 8), (0, 3), (1.2, 6), (0, 8)), 0)
DRIVE = DRIVE + ALWAYS_ANEW * np.arange(len(DRIVE))


@pytest.fixture(scope="module")
def drives(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("spread")
    for i in range(DRIVES):
        write_recording(directory / f"drive_{i}", recording_of(DRIVE + 0.3 * i, name=f"drive_{i}"), {})
    return directory


def asking(server: OddServer, **changes: Any) -> TeacherConfig:
    return TeacherConfig(**{"url": server.url, "model": "m", "see": "motion", "backoff_s": 0.01, "concurrency": 4,
                            "timeout_s": 60.0, **changes})  # fmt: skip


def cost(out: Path) -> dict:
    return next(line for line in read_metrics(out)[::-1] if line.get("role") == "teacher")


def test_an_engine_that_is_unknown_or_not_installed_is_one_sentence(drives, tmp_path, monkeypatch):
    config = LabelConfig(drives, tmp_path / "out", teacher="motion")
    with pytest.raises(UserError, match="Did you mean ray"):
        run(replace(config, engine="rya"))
    with pytest.raises(UserError, match="--ray-address auto found without --engine ray"):
        run(replace(config, ray_address="auto"))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"--engine ray needs .* pip install 'causaldrive\[ray\]'"):
        run(replace(config, engine="ray"))
    assert not (tmp_path / "out").exists()


def test_a_killed_run_may_go_on_elsewhere(drives, tmp_path):
    config = LabelConfig(drives, tmp_path / "out", teacher="motion")
    assert replace(config, engine="ray", ray_address="auto", workers=9).deciding == config.deciding
    assert replace(config, every_s=3.0).deciding != config.deciding


class LedgerThread:
    """A ledger with an event loop of its own, called as an actor is."""

    def __init__(self, ledger: Ledger):
        self._loop = asyncio.new_event_loop()
        self.set_aside = SimpleNamespace(remote=lambda *args: asyncio.wrap_future(self._call(ledger.set_aside(*args))))
        self.settle = SimpleNamespace(remote=lambda *args: self._loop.call_soon_threadsafe(ledger.settle, *args))

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def __enter__(self) -> LedgerThread:
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def test_two_that_pay_from_one_ledger_spend_no_more_than_one_would(drives, tmp_path):
    took, stops = [Asked(), Asked()], ["", ""]

    def attempt(number: int, config: TeacherConfig, ledger: LedgerThread) -> None:
        settings = AskSettings("openai", config, CriticConfig(), 2.0, tmp_path / "replies")
        try:
            ask_all(sorted(drives.iterdir())[number::2], settings, lambda *row: None, took[number],
                    lambda role, at: LedgerPurse(ledger, f"attempt {number}", role))  # fmt: skip
        except StopAsking as stop:
            stops[number] = str(stop)

    with OddServer(lambda payload, count: sound(payload)) as server:
        config = asking(server, budget_tokens=9_000, max_tokens=200)
        with LedgerThread(Ledger({"teacher": config})) as ledger:
            both = [threading.Thread(target=attempt, args=(number, config, ledger)) for number in (0, 1)]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
        assert len(server.payloads) == sum(asked.teacher.requests for asked in took)
    spent = [asked.teacher.usage.tokens_in + asked.teacher.usage.tokens_out for asked in took]
    assert 5_000 < sum(spent) <= 9_000 and min(spent) > 0
    assert all("the budget of 9000 (tokens) does not last" in stop for stop in stops)


def test_what_a_dead_attempt_had_under_way_is_spent_and_nobody_waits_for_it():
    most, used = Usage(300, 100), Usage(290, 10)

    async def story(budget_tokens: int) -> tuple[str, Asked]:
        ledger = Ledger({"teacher": EndpointConfig(budget_tokens=budget_tokens)})
        assert await ledger.set_aside("first", "teacher", most) == ""
        ledger.settle("first", "teacher", most, used)
        assert await ledger.set_aside("first", "teacher", most) == ""
        other = asyncio.create_task(ledger.set_aside("second", "teacher", most))
        await asyncio.sleep(0)
        assert other.done() == (budget_tokens > 1000), "300 are spent, 400 under way, 400 asked for"
        lost = ledger.bury("first")
        ledger.settle("first", "teacher", most, used)  # word that comes late changes nothing
        return await other, lost

    said, lost = asyncio.run(story(1000))
    assert "the budget of 1000 (tokens) does not last for the next request, 1100 needed" in said
    assert lost.teacher.requests == 2 and lost.teacher.usage == Usage(590, 110)
    assert asyncio.run(story(1100)) == ("", lost)


def test_an_attempt_that_dies_while_it_waits_takes_nothing():
    async def story() -> None:
        ledger, most = Ledger({"teacher": EndpointConfig(budget_tokens=500)}), Usage(300, 100)
        assert await ledger.set_aside("alive", "teacher", most) == ""
        waits = asyncio.create_task(ledger.set_aside("dead", "teacher", most))
        await asyncio.sleep(0)
        assert ledger.bury("dead") == Asked()
        ledger.settle("alive", "teacher", most, Usage(50, 50))
        assert await waits == "the attempt that asks is over"
        assert await ledger.set_aside("alive", "teacher", most) == "", "nothing is held by the dead"

    asyncio.run(story())


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_sentence(drives, tmp_path):
    config = LabelConfig(drives, tmp_path / "out", teacher="motion", engine="ray", ray_address="127.0.0.1:9")
    with pytest.raises(UserError, match=r"--ray-address 127\.0\.0\.1:9: no Ray cluster can be used there"):
        run(config)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two processes on this machine, of usual priority: a busy machine would starve them."""
    assert importlib.util.find_spec("ray"), "run `make cluster`, or pip install 'causaldrive[ray]'"
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(num_cpus=2, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False)
        yield ray
        ray.shutdown()


def workers() -> list[psutil.Process]:
    """Processes of Ray that label at this moment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "ray::label_share" in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["motion", "expert"])
def test_a_cluster_makes_the_same_labels(ray, town, drives, tmp_path, monkeypatch, teacher):
    for name, recording in town.items():
        write_recording(tmp_path / "town" / name, recording, {})
    monkeypatch.chdir(tmp_path)  # its processes work elsewhere: relative paths must be told in full
    where = drives if teacher == "motion" else Path("town")
    config = LabelConfig(where, Path("here"), teacher=teacher, every_s=1.0, workers=2)
    run(config)
    run(replace(config, out=Path("there"), engine="ray"))
    assert labels_path(tmp_path / "here").read_bytes() == labels_path(tmp_path / "there").read_bytes()


@pytest.mark.slow
def test_a_process_that_dies_costs_no_label_and_asks_little_twice(ray, drives, tmp_path):
    seen, killed = threading.Lock(), []

    def behave(payload: dict, count: int) -> Answer:
        with seen:
            if len(server.payloads) > 60 and not killed:
                killed.extend(workers()[:1])
                killed[0].send_signal(signal.SIGKILL)
        time.sleep(0.02)
        return sound(payload)

    with OddServer(lambda payload, count: sound(payload)) as server:
        run(LabelConfig(drives, tmp_path / "here", teacher="openai", every_s=1.0, openai=asking(server)))
        once = len(server.payloads)
    with OddServer(behave) as server:
        run(LabelConfig(drives, tmp_path / "there", teacher="openai", every_s=1.0, openai=asking(server), engine="ray"))
        assert killed and once <= len(server.payloads) <= once + 4, "what four may have had under way"
    here, there = (read_labels(tmp_path / out) for out in ("here", "there"))
    assert [replace(label, endpoint="") for label in there] == [replace(label, endpoint="") for label in here]
    took = cost(tmp_path / "there")
    assert once <= took["requests"] <= once + 4 and not took["failures"]


@pytest.mark.slow
def test_a_recording_under_which_processes_die_is_set_aside_alone(ray, drives, tmp_path, capsys):
    deadly = []  # the first question about drive_5

    def behave(payload: dict, count: int) -> Answer:
        with lock:
            text = payload["messages"][1]["content"]
            if not deadly and "0.0   13.96" in text:
                deadly.append(text)
            if text in deadly:
                for process in workers():
                    process.send_signal(signal.SIGKILL)
        return sound(payload)

    lock = threading.Lock()
    with OddServer(behave) as server:
        run(LabelConfig(drives, tmp_path / "out", teacher="openai", openai=asking(server), engine="ray", workers=1))
    assert {x.recording_id for x in read_labels(tmp_path / "out")} == {f"drive_{i}" for i in range(DRIVES)} - {
        "drive_5"
    }
    told = capsys.readouterr().out
    assert deadly and "3 worker processes died while they labelled" in told and "1 recordings set aside" in told


@pytest.mark.slow
def test_a_killed_run_on_a_cluster_goes_on_and_asks_little_twice(drives, tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom causaldrive.label.openai_teacher import TeacherConfig\n"
        "from causaldrive.label.stage import LabelConfig, run\n"
        "drives, out, url = sys.argv[1:]\n"
        "openai = TeacherConfig(url=url, model='m', see='motion', concurrency=4, backoff_s=0.01)\n"
        "run(LabelConfig(Path(drives), Path(out), teacher='openai', every_s=1.0, openai=openai, engine='ray'))"
    )
    out = tmp_path / "out"

    def behave(payload: dict, count: int) -> Answer:
        time.sleep(0.02)
        return sound(payload)

    with OddServer(behave) as server:
        command = [sys.executable, "-c", code, str(drives), str(out), server.url]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while child.poll() is None and not list(out.glob("shards/drive_*.parquet")):
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        while workers():  # they end with the run that they work for
            time.sleep(0.1)
        kept = {path: path.stat().st_mtime_ns for path in out.glob("shards/drive_*.parquet")}
        assert 0 < len(kept) < DRIVES and not labels_path(out).exists()
        run(LabelConfig(drives, out, teacher="openai", every_s=1.0, openai=asking(server), workers=1))
        labels = read_labels(out)
        assert 2 * len(labels) <= len(server.payloads) <= 2 * len(labels) + 4
    assert len({(x.recording_id, x.t0_us) for x in labels}) == len(labels)


@pytest.mark.slow
def test_budget_and_requests_at_once_hold_for_the_whole_cluster(ray, drives, tmp_path):
    lock, under_way, most = threading.Lock(), [], []

    def behave(payload: dict, count: int) -> Answer:
        with lock:
            under_way.append(1)
            most.append(len(under_way))
        time.sleep(0.05)
        with lock:
            under_way.pop()
        return sound(payload)

    with OddServer(behave) as server:
        openai = asking(server, concurrency=3, budget_tokens=20_000, max_tokens=200)
        config = LabelConfig(drives, tmp_path / "out", teacher="openai", every_s=1.0, openai=openai, engine="ray")
        with pytest.raises(UserError, match=r"the budget of 20000 \(tokens\) does not last"):
            run(config)
        spent = cost(tmp_path / "out")
        assert 17_000 < spent["tokens_in"] + spent["tokens_out"] <= 20_000 and max(most) == 3
        run(replace(config, openai=replace(openai, budget_tokens=0)))
        assert server.most_of_one() == 1, "what was paid for is in the cache"
    assert cost(tmp_path / "out")["from_cache"] > 0
