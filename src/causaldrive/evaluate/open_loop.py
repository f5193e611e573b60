"""Open loop: at each labelled moment of held-out recordings, what the driver plans against what was driven.

    error_k(i) = |xy_k(i) - xy_recorded(i)|         minADE over K = min_k mean_i error_k(i)

Reads recordings with their frames, and a label set as the truth of decisions and causes. Yields records. Knows nothing
of tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from causaldrive.clips.geometry import project_on_polyline, to_frame
from causaldrive.clips.resample import resample_ego
from causaldrive.clips.samples import cut_sample
from causaldrive.clips.store import read_recordings, seen_by
from causaldrive.clips.types import Recording, Sample
from causaldrive.evaluate.drivers import (
    CONSTANT_TURN,
    CONSTANT_VELOCITY,
    EXPERT,
    StudentEntry,
    constant_turn_plan,
)
from causaldrive.evaluate.reasoning import motion_as_json
from causaldrive.ground.errors import UserError
from causaldrive.ground.progress import Meter
from causaldrive.ground.words import STEP_S
from causaldrive.label.consistency import motion_of_plan
from causaldrive.label.store import read_labels
from causaldrive.label.truth import truth_of_label
from causaldrive.label.types import CocLabel
from causaldrive.rl.policy import StudentPolicy
from causaldrive.student.config import FrameSettings
from causaldrive.student.generate import Generated, generate
from causaldrive.student.images import resize, target_size
from causaldrive.worlds.expert_turns import joins_at
from causaldrive.worlds.frames import FrameSource
from causaldrive.worlds.pool import constant_velocity_plan
from causaldrive.worlds.replay import context_of, states_of

TRUTHS = ("accepted", "edited")  # label statuses that count as truth
SHORTEST_STEP_M = 0.05  # a shorter way-point step has no direction to speak of
STEERED_STEPS = 20  # 2 s, at which it is seen how far a path has gone aside


@dataclass(frozen=True)
class Moment:
    """One labelled t0 and the recording it lies in."""

    recording: Recording
    label: CocLabel

    @property
    def item(self) -> str:
        return f"{self.label.recording_id}@{self.label.t0_us}"


@dataclass(frozen=True)
class MomentSet:
    """The moments that are judged, and how many were set aside for which reason."""

    moments: tuple[Moment, ...]
    set_aside: dict[str, int]


@dataclass(frozen=True)
class Answer:
    """What a driver planned at one moment: K readable paths (K, 64, 2), the first one's yaw (64,), trace or None."""

    xy_in_rig_m: np.ndarray
    yaw_rad: np.ndarray
    text: str | None
    asked: int = 1  # paths that were asked for; those that cannot be read are left out and counted
    written_tokens: float | None = None  # tokens an answer was written with, mean over the K


def find_moments(recordings: Path, labels: Path, limit: int, frame_offsets_us: Sequence[int] = ()) -> MomentSet:
    """At most `limit` moments, evenly spread: the periodic labels, or every label where there is no periodic one.

    Where a recording has video, moments without a frame at t0 + each offset are left out for every driver alike.
    Raises UserError when none is left.
    """
    sound, aside = read_recordings(recordings)
    by_id = {recording.recording_id: recording for recording in sound}
    everything = read_labels(labels)
    truths = [label for label in everything if label.status in TRUTHS]
    periodic = [label for label in truths if label.origin == "periodic"] or truths
    known = [label for label in periodic if label.recording_id in by_id]
    labelled = [Moment(by_id[label.recording_id], label) for label in known]
    moments = [moment for moment in labelled if _has_frames(moment, frame_offsets_us)]
    counts = {
        "recordings that cannot be read": len(aside),
        "labels that were not accepted": len(everything) - len(truths),
        "labels without their recording": len(periodic) - len(known),
        "moments between camera frames": len(labelled) - len(moments),
    }
    if not moments:
        found = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no label at all"
        raise UserError(
            f"{labels}: no accepted label with its frames under {recordings} ({found}); label these recordings first."
        )
    if len(moments) > limit:
        moments = [moments[i] for i in np.linspace(0, len(moments) - 1, limit).round().astype(int)]
    return MomentSet(tuple(moments), {name: count for name, count in counts.items() if count})


def _has_frames(moment: Moment, frame_offsets_us: Sequence[int]) -> bool:
    wanted = moment.label.t0_us + np.array(frame_offsets_us, np.int64)
    return bool(seen_by(moment.recording.cameras.values(), wanted).all())


def simple_records(driver: str, moments: Sequence[Moment]) -> Iterator[dict[str, Any]]:
    """Records of a driver that needs no model: constant velocity, constant turn, or the recorded drive itself."""
    for moment in moments:
        yield _guarded(moment, lambda moment=moment: _record(moment, _simple(driver, moment)))


def _simple(driver: str, moment: Moment) -> Answer:
    t0_us = moment.label.t0_us
    if driver == EXPERT:
        sample = cut_sample(moment.recording, t0_us)
        assert sample.future_xyz_in_rig_m is not None and sample.future_yaw_rad is not None
        return Answer(sample.future_xyz_in_rig_m[None, :, :2], sample.future_yaw_rad, moment.label.trace)
    ego = resample_ego(moment.recording.ego, np.array([t0_us]))
    speed, curvature = float(ego.speed_mps[0]), float(ego.curvature_1pm[0])
    assert driver in (CONSTANT_VELOCITY, CONSTANT_TURN)
    plan = constant_velocity_plan(speed) if driver == CONSTANT_VELOCITY else constant_turn_plan(speed, curvature)
    return Answer(plan.xy_in_rig_m[None], plan.yaw_rad, None)


def student_records(
    student: StudentEntry, moments: Sequence[Moment], samples: int, batch: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Records of a checkpoint; its first sample's trace is what it says. Moments without frames become failures."""
    policy = student.open(samples, seed)
    source = FrameSource()
    frames = policy.processor.config.frames()
    with Meter(f"open loop, {student.name}", len(moments), "moments") as meter:
        waiting: list[tuple[Moment, Sample]] = []
        for _, group in groupby(moments, key=lambda moment: moment.recording.recording_id):
            for moment, sample in _load(source, list(group), frames):
                if isinstance(sample, Sample):
                    waiting.append((moment, sample))
                else:
                    yield _failure(moment, sample)
                    meter.advance()
            while len(waiting) >= batch:
                chosen, waiting = waiting[:batch], waiting[batch:]
                yield from _answered(policy, chosen)
                meter.advance(len(chosen))
        yield from _answered(policy, waiting)
        meter.advance(len(waiting))


def _load(source: FrameSource, moments: list[Moment], frames: FrameSettings) -> list[tuple[Moment, Sample | Exception]]:
    """Samples of one recording's moments, or why there is none. Frames come at the student's size."""
    camera = _camera(moments[0].recording, frames)
    images = _images(source, camera, moments, frames)
    loaded: list[tuple[Moment, Sample | Exception]] = []
    for moment, seen in zip(moments, images, strict=True):
        try:
            if isinstance(seen, Exception):
                raise seen
            names = frames.camera_names[:1] or (camera,)
            sample = cut_sample(moment.recording, moment.label.t0_us, seen[None], names, frames.frame_offsets_us)
            loaded.append((moment, sample))
        except UserError as error:
            loaded.append((moment, error))
    return loaded


def _images(
    source: FrameSource, camera: str, moments: list[Moment], frames: FrameSettings
) -> list[np.ndarray | UserError]:
    """(F, H, W, 3) per moment: all read in one pass, and one by one only where that fails."""
    recording, offsets = moments[0].recording, np.array(frames.frame_offsets_us)
    assert recording.directory is not None, "recordings that were read from the store know where they lie"
    t_us = np.concatenate([moment.label.t0_us + offsets for moment in moments])
    try:
        images = source.frames(recording.directory, recording, camera, t_us.tolist())
    except UserError as error:
        if len(moments) == 1:
            return [error]
        return [_images(source, camera, [moment], frames)[0] for moment in moments]
    height, width = target_size(int(images.shape[1]), int(images.shape[2]), frames)
    resized = np.stack([resize(image, height, width) for image in images])
    return list(resized.reshape(len(moments), len(offsets), *resized.shape[1:]))


def _camera(recording: Recording, frames: FrameSettings) -> str:
    """The student's camera where the recording has it, else the recording's first."""
    wanted = frames.camera_names[0] if frames.camera_names else "front"
    return wanted if wanted in recording.cameras or not recording.cameras else next(iter(recording.cameras))


def _answered(policy: StudentPolicy, chosen: list[tuple[Moment, Sample]]) -> Iterator[dict[str, Any]]:
    if not chosen:
        return
    settings = policy.settings
    blind = [replace(sample, future_xyz_in_rig_m=None, future_yaw_rad=None) for _, sample in chosen]
    answers = generate(
        policy.model, policy.processor, blind, num_samples=settings.num_samples,
        seed=[_row_seed(settings.seed, moment) for moment, _ in chosen], reason=settings.reason,
        temperature=settings.temperature, top_p=settings.top_p, max_trace_tokens=settings.max_trace_tokens,
        flow_steps=settings.flow_steps, mode=settings.mode, likeliest_first=settings.likeliest_first,
    )  # fmt: skip
    for (moment, _), made in zip(chosen, answers, strict=True):
        answer = _answer(made, settings.reason)
        yield _guarded(moment, lambda moment=moment, answer=answer: _record(moment, answer))


def _answer(made: Sequence[Generated], reason: bool) -> Answer:
    """The readable paths of an answer; the trace is that of the first of them."""
    readable = [one for one in made if one.readable] or made[:1]
    count = len(readable) if readable[0].readable else 0
    xy = np.stack([one.xyz_in_rig_m[:, :2] for one in readable])[:count]
    tokens = float(np.mean([len(one.token_ids) + len(one.traj_token_ids) for one in made]))
    return Answer(xy, readable[0].yaw_rad, readable[0].trace if reason else None, len(made), tokens)


def _row_seed(seed: int, moment: Moment) -> int:
    """From the seed and the moment alone, so that an answer does not depend on its batch."""
    words = np.frombuffer(moment.item.encode().ljust(-(-len(moment.item.encode()) // 4) * 4), np.uint32)
    return int(np.random.SeedSequence([seed, *words.tolist()]).generate_state(1)[0])


def _guarded(moment: Moment, make: Any) -> dict[str, Any]:
    try:
        return make()
    except UserError as error:
        return _failure(moment, error)


def _head(moment: Moment) -> dict[str, Any]:
    meta = moment.recording.meta
    return {"item": moment.item, "cluster": moment.label.recording_id, "t0_us": moment.label.t0_us,
            "family": meta.get("family"), "harmless": meta.get("harmless"), "origin": moment.label.origin}  # fmt: skip


def _failure(moment: Moment, error: Exception) -> dict[str, Any]:
    return {**_head(moment), "failure": f"{type(error).__name__}: {error}"}


def _record(moment: Moment, answer: Answer) -> dict[str, Any]:
    """Errors of every sample, and what is needed to judge the trace again."""
    if not (np.isfinite(answer.xy_in_rig_m).all() and np.isfinite(answer.yaw_rad).all()):
        raise UserError(f"{moment.item}: the plan holds values that are not numbers.")
    recording, t0_us = moment.recording, moment.label.t0_us
    sample = cut_sample(recording, t0_us)
    assert sample.future_xyz_in_rig_m is not None
    paths = answer.xy_in_rig_m
    text = answer.text if len(paths) else None  # without a path there is nothing that words could agree with
    error_m = np.linalg.norm(paths - sample.future_xyz_in_rig_m[None, :, :2], axis=-1)
    return {
        **_head(moment),
        "failure": None,
        "error_m": np.round(error_m, 3).tolist(),
        "paths": [len(paths), answer.asked],
        "written_tokens": answer.written_tokens,
        **(smoothness(paths[0], _speed(recording, t0_us)) if len(paths) else {}),
        **(steering(paths[0], sample.future_xyz_in_rig_m[:, :2]) if len(paths) else {}),
        "text": text,
        "truth": truth_of_label(moment.label).as_json(),
        "motion": None if text is None else motion_as_json(_motion(recording, t0_us, answer)),
    }


def _speed(recording: Recording, t0_us: int) -> float:
    return float(resample_ego(recording.ego, np.array([t0_us])).speed_mps[0])


def smoothness(xy_in_rig_m: np.ndarray, speed_mps: float) -> dict[str, float]:
    """Root mean squares over a planned path (64, 2) of jerk and lateral acceleration.

    v_i = |p_{i+1} - p_i| / dt, jerk = second difference of [speed now, v] / dt^2; lateral acceleration = v dheading/dt
    of the steps, 0 where a step is shorter than 5 cm and has no direction.
    """
    steps = np.diff(np.concatenate([np.zeros((1, 2)), xy_in_rig_m]), axis=0)
    length = np.linalg.norm(steps, axis=1)
    speed = np.concatenate([[speed_mps], length / STEP_S])
    jerk = np.diff(speed, n=2) / STEP_S**2
    cross = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
    turn = np.arctan2(cross, (steps[:-1] * steps[1:]).sum(axis=1))
    moves = np.minimum(length[:-1], length[1:]) >= SHORTEST_STEP_M
    lateral = np.where(moves, (length[:-1] + length[1:]) / 2 * turn / STEP_S**2, 0.0)
    return {"jerk_mps3": _rms(jerk), "lateral_acceleration_mps2": _rms(lateral)}


def steering(xy_in_rig_m: np.ndarray, true_xy_in_rig_m: np.ndarray) -> dict[str, Any]:
    """How far a planned path (64, 2) is beside the true one at 2 s, and (y y*, y*^2) of how far each has gone aside.

    The sums of the pairs over many moments give the steering gain sum(y y*) / sum(y*^2): 1 steers as far as is needed.
    A small mean distance can hide a driver who does half of it everywhere; in closed loop that one leaves the road.
    """
    y, true_y = (float(path[STEERED_STEPS - 1, 1]) for path in (xy_in_rig_m, true_xy_in_rig_m))
    ahead = true_xy_in_rig_m[-1:] + np.diff(true_xy_in_rig_m[[-6, -1]], axis=0) * 4 + [[1e-3, 0.0]]
    course = np.concatenate([[[-1.0, 0.0], [0.0, 0.0]], true_xy_in_rig_m, ahead])
    aside = project_on_polyline(xy_in_rig_m[STEERED_STEPS - 1][None], course)[1][0]
    return {"aside_2s_m": round(abs(float(aside)), 4), "steered_m2": [round(y * true_y, 5), round(true_y**2, 5)]}


def _rms(values: np.ndarray) -> float:
    return round(float(np.sqrt(np.mean(np.square(values)))), 4)


def _motion(recording: Recording, t0_us: int, answer: Answer):
    ego = resample_ego(recording.ego, np.array([t0_us]))
    route = recording.route_xy_in_local_m
    in_rig = None if route is None else to_frame(route, ego.position_in_local_m[0, :2], float(ego.yaw_rad[0]))
    motion = motion_of_plan(answer.xy_in_rig_m[0], answer.yaw_rad, float(ego.speed_mps[0]), in_rig)
    if route is None or recording.road is None or not recording.road.right_of_way:
        return motion
    (now,) = states_of(recording, np.array([t0_us]))
    return replace(motion, joins=joins_at(context_of(recording), now.ego)[0])
