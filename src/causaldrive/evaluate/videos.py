"""Videos of finished drives: what the camera saw with the planned paths in it, a bird's-eye view, and the words.

Draws again from the recorded states, so the video is of the very drive that was scored. Writes H.264 files that
browsers play. Knows nothing of policies.
"""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from causaldrive.clips.geometry import from_frame, to_frame
from causaldrive.clips.store import read_recording
from causaldrive.clips.types import Camera
from causaldrive.clips.video import encode_video
from causaldrive.evaluate.logs import slug
from causaldrive.ground.files import atomic_path
from causaldrive.ground.progress import track
from causaldrive.worlds.draw_bev import draw_bev
from causaldrive.worlds.episode import DecisionRecord, EpisodeResult, ReplaySpec, Spec
from causaldrive.worlds.overlay import caption, draw_path
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.replay import context_of
from causaldrive.worlds.scenes import build_scene
from causaldrive.worlds.state import EgoState, SceneContext, WorldState

ENLARGE = 2  # videos are drawn at twice the student's camera size
BEV_METRES = 60.0
DRIVEN_RGB, SAMPLE_RGB = (40, 220, 120), (150, 190, 255)
DRIVEN_M, SAMPLE_M = 1.0, 0.25  # ribbon widths on the road


@dataclass(frozen=True)
class Shot:
    """One drive to show."""

    path: Path
    driver: str
    spec: Spec
    states: list[WorldState]
    decisions: list[DecisionRecord]


def shot_of(directory: Path, driver: str, spec: Spec, result: EpisodeResult) -> Shot:
    return Shot(directory / f"{slug(driver)}-{slug(spec.scene_id)}.mp4", driver, spec, result.states, result.decisions)


def write_videos(shots: Sequence[Shot], workers: int) -> None:
    """Write every shot, side by side in worker processes. A shot that cannot be drawn raises its error."""
    if not shots:
        return
    with ProcessPoolExecutor(min(workers, len(shots)), mp_context=mp.get_context("spawn")) as pool:
        for _ in track(pool.map(write_video, shots), "videos", len(shots), "videos"):
            pass


_RENDERERS: dict[Camera, Renderer] = {}  # one renderer a process: Panda3D's engine is global


def write_video(shot: Shot) -> None:
    """Draw one drive and write its file."""
    with atomic_path(shot.path) as temporary:
        encode_video(temporary, frames_of(shot), Fraction(10), str(shot.path))


def frames_of(shot: Shot) -> Iterator[np.ndarray]:
    """One picture per tick, all of one even size."""
    context = _context(shot.spec)
    camera = enlarged(context.camera)
    if not _RENDERERS:
        _RENDERERS[camera] = Renderer(camera)
    scene = next(iter(_RENDERERS.values())).open(context)
    panels = _Panels(camera.width_px + camera.height_px, shot)
    try:
        for tick, state in enumerate(shot.states):
            decision = decision_at(shot.decisions, tick)
            image = scene.render(state, camera)
            yield _picture(image, camera, context, shot, tick, decision, panels)
    finally:
        scene.close()


def _context(spec: Spec) -> SceneContext:
    return context_of(read_recording(spec.recording)) if isinstance(spec, ReplaySpec) else build_scene(spec).context


def enlarged(camera: Camera, least_width_px: int = 480) -> Camera:
    """The same view with more pixels: small cameras twice as large, big ones scaled to an even 640 wide."""
    factor = ENLARGE if least_width_px > camera.width_px else 640 / camera.width_px
    width, height = (2 * round(factor * side / 2) for side in (camera.width_px, camera.height_px))
    return replace(
        camera, width_px=width, height_px=height, fx_px=camera.fx_px * factor, fy_px=camera.fy_px * factor,
        cx_px=camera.cx_px * factor, cy_px=camera.cy_px * factor,
    )  # fmt: skip


def decision_at(decisions: Sequence[DecisionRecord], tick: int) -> DecisionRecord | None:
    """The decision that is being followed at a tick; None during the warm-up."""
    past = [decision for decision in decisions if decision.tick <= tick]
    return past[-1] if past else None


def _picture(
    image: np.ndarray, camera: Camera, context: SceneContext, shot: Shot, tick: int, decision: DecisionRecord | None,
    panels: _Panels,
) -> np.ndarray:  # fmt: skip
    state = shot.states[tick]
    plans = None
    if decision is not None:
        made_at = shot.states[decision.tick].ego
        plans = plans_in_local(decision, made_at)
        for number, path in list(enumerate(plans))[::-1]:  # the driven one last, on top
            rgb, width_m = (DRIVEN_RGB, DRIVEN_M) if number == 0 else (SAMPLE_RGB, SAMPLE_M)
            in_rig = to_frame(path, state.ego.xy_in_local_m, state.ego.yaw_rad)
            image = draw_path(image, camera, in_rig, rgb, width_m)
    trail = np.array([s.ego.xy_in_local_m for s in shot.states[: tick + 1]])
    side = camera.height_px
    bird = draw_bev(context, state, (side, side), BEV_METRES, trail_xy=trail, plans_xy=plans)
    both = np.concatenate([image, bird], axis=1)
    return np.concatenate([both, panels.at(tick, decision, state.ego)], axis=0)


def plans_in_local(decision: DecisionRecord, made_at: EgoState) -> list[np.ndarray]:
    """The driven plan first, then further samples, each (64, 2) in the local frame."""
    paths = [decision.xy_in_rig_m]
    if decision.samples_xy_in_rig_m is not None:
        paths += list(decision.samples_xy_in_rig_m[1:])
    return [from_frame(path, made_at.xy_in_local_m, made_at.yaw_rad) for path in paths]


class _Panels:
    """Text panels below the picture, all of the height of the tallest."""

    def __init__(self, width_px: int, shot: Shot):
        self._width, self._driver = width_px, shot.driver
        moments: list[DecisionRecord | None] = [None, *shot.decisions]
        tallest = max(self._panel(self._lines(decision, 0.0, 88.8)).shape[0] for decision in moments)
        self._height = tallest + tallest % 2

    def at(self, tick: int, decision: DecisionRecord | None, ego: EgoState) -> np.ndarray:
        panel = self._panel(self._lines(decision, tick / 10, ego.speed_mps))
        missing = self._height - panel.shape[0]
        return cv2.copyMakeBorder(panel, 0, max(missing, 0), 0, 0, cv2.BORDER_REPLICATE)[: self._height]

    def _panel(self, lines: list[str]) -> np.ndarray:
        blank = np.zeros((2, self._width, 3), np.uint8)
        return caption(blank, lines)[2:]

    def _lines(self, decision: DecisionRecord | None, t_s: float, speed_mps: float) -> list[str]:
        clock = f"{self._driver}  |  {t_s:.1f} s  |  {speed_mps:.1f} m/s"
        if decision is None:
            return [clock, "warm-up: the world's own driver"]
        says = f"says: {decision.text}" if decision.text else "drives without words"
        return [clock, says, f"truth: {truth_in_words(decision.truth)}"]


def truth_in_words(truth: Any) -> str:
    """The town's own explanation as a short phrase."""
    side = f" {truth.direction}" if truth.direction else ""
    causes = " and ".join(factor.text for factor in truth.causes) or "the road is clear"
    return f"{truth.longitudinal}, {truth.lateral}{side}: {causes}".replace("_", " ")


def outcome_in_words(record: Mapping[str, Any]) -> str:
    """How a recorded drive went, in a few words."""
    if record["failure"] is not None:
        return f"failed: {record['failure']}"
    score = record["score"]
    faults = [name.replace("_", " ") for name in ("at_fault_collision", "off_road", "rule_breaking") if score[name]]
    return (
        f"{' and '.join(faults) or 'clean'}, progress {score['progress']:.2f}, scene score {score['scene_score']:.2f}"
    )


def pick_shown(specs: Sequence[Spec], count: int) -> frozenset[int]:
    """Indices of `count` scenes that differ as much as they can: every family (or log) once before any twice."""
    seen: dict[str, int] = {}
    ranked = []
    for index, spec in enumerate(specs):
        name = spec.recording.name if isinstance(spec, ReplaySpec) else spec.family
        harmless = not isinstance(spec, ReplaySpec) and spec.harmless
        ranked.append((seen.get(name, 0) + 10 * harmless, index))
        seen[name] = seen.get(name, 0) + (not harmless)
    return frozenset(index for _, index in sorted(ranked)[: max(count, 0)])
