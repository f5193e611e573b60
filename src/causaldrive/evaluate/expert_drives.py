"""The privileged expert through many scenes, side by side in worker processes.

A module of its own so that a worker process loads the worlds and nothing heavier. Knows nothing of tables.
"""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from causaldrive.ground.progress import track
from causaldrive.worlds.episode import DriveSettings, EpisodeResult
from causaldrive.worlds.pool import BrokenScene, drive_expert
from causaldrive.worlds.scenes import SceneSpec


def drive_experts(
    specs: Sequence[SceneSpec], settings: DriveSettings, workers: int
) -> Iterator[EpisodeResult | BrokenScene]:
    """One outcome per scene, in order, without its states."""
    with ProcessPoolExecutor(workers, mp_context=mp.get_context("spawn")) as pool:
        driven = pool.map(_drive, specs, [settings] * len(specs))
        yield from track(driven, "drive, expert", len(specs), "scenes")


def _drive(spec: SceneSpec, settings: DriveSettings) -> EpisodeResult | BrokenScene:
    try:
        return replace(drive_expert(spec, settings), states=[])
    except Exception as error:  # one broken scene must not stop the others
        return BrokenScene(f"{type(error).__name__}: {error}")
