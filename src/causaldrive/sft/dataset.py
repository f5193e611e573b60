"""Recordings and a label set as training samples: one per label that was accepted or edited by a person.

Reads recordings, `labels.parquet`, and decodes the frames once into a cache below the run directory. Samples that
cannot be had (broken recording, rejected label, no frame, no future) are counted and left out, the rest goes on.
Knows nothing of tokens, models or losses.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from causaldrive.clips.samples import cut_sample
from causaldrive.clips.store import MAX_FRAME_LAG_US, nearest_index, read_recordings
from causaldrive.clips.types import Recording, Sample
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import split_of_seed
from causaldrive.label.store import read_labels
from causaldrive.label.types import CocLabel
from causaldrive.sft.frames import FrameCache, FrameKey, open_cache
from causaldrive.student.config import FrameSettings

TRAINS = ("accepted", "edited")  # label statuses that are learnt
VALIDATION_EVERY = 12  # every 12th recording is kept for validation loss
_SENTENCES_KEPT = 20


@dataclass(frozen=True)
class TrainingItem:
    """One label with its sample; the pixels lie in the cache under `frame_keys`."""

    sample: Sample  # without frames
    label: CocLabel
    frame_keys: tuple[tuple[FrameKey, ...], ...]  # [camera][frame], oldest first

    @property
    def decision_class(self) -> tuple[str | None, ...]:
        """(longitudinal, lateral, kind of the first cause, what the car was doing): what sampling is balanced over.

        Of a reason to brake most moments show a car that brakes already; those in which it does not yet count most.
        """
        kind = self.label.causes[0].kind if self.label.causes else None
        doing = self.label.meta_history[-1].partition("/")[0] if self.label.meta_history else None
        return self.label.decision_longitudinal, self.label.decision_lateral, kind, doing

    @property
    def name(self) -> str:
        """Recording id and t0, as errors name a sample."""
        return f"{self.sample.recording_id}@{self.sample.t0_us}"


@dataclass
class LeftOut:
    """What was not used: counts by reason, and the first sentences that say why."""

    counts: Counter[str] = field(default_factory=Counter)
    sentences: list[str] = field(default_factory=list)

    def add(self, reason: str, sentence: str | None = None) -> None:
        self.counts[reason] += 1
        if sentence and len(self.sentences) < _SENTENCES_KEPT:
            self.sentences.append(sentence)


@dataclass(frozen=True)
class SampleSet:
    """Samples by index; frames are read from the cache when asked for."""

    items: tuple[TrainingItem, ...]
    cache: FrameCache

    def __len__(self) -> int:
        return len(self.items)

    def samples(self, indices: Iterable[int]) -> list[Sample]:
        """Whole samples, frames (C, F, H, W, 3) included."""
        return [self._with_frames(self.items[i]) for i in indices]

    def traces(self, indices: Iterable[int]) -> list[str]:
        return [self.items[i].label.trace for i in indices]

    @property
    def classes(self) -> list[tuple[str | None, ...]]:
        return [item.decision_class for item in self.items]

    def _with_frames(self, item: TrainingItem) -> Sample:
        frames = np.stack([np.stack([self.cache.frame(key) for key in row]) for row in item.frame_keys])
        return replace(item.sample, frames=frames)


@dataclass(frozen=True)
class SampleData:
    """Training and validation samples of different recordings, and what was left out."""

    train: SampleSet
    validation: SampleSet
    recordings: int
    left_out: LeftOut


def open_samples(recordings: Path, labels: Path, frames: FrameSettings, cache: Path) -> SampleData:
    """Samples of every usable label of `labels` on the recordings under `recordings`; pixels cached under `cache`.

    Raises UserError for recordings of a held-out split, or when no sample is left.
    """
    sound, aside = read_recordings(recordings)
    left_out = LeftOut()
    for entry in aside:
        left_out.add("recording that cannot be read", entry.reason)
    refuse_held_out(sound)
    by_id = {recording.recording_id: recording for recording in sound}
    found = _items(by_id, read_labels(labels), frames, left_out)
    _refuse_nothing(found, recordings, labels, left_out)
    pixels = open_cache(cache, by_id, _plan(found), frames)
    items = _drop_broken(found, pixels.broken, left_out)
    _refuse_nothing(items, recordings, labels, left_out)
    held = validation_recordings(item.sample.recording_id for item in items)
    return SampleData(
        train=SampleSet(tuple(i for i in items if i.sample.recording_id not in held), pixels),
        validation=SampleSet(tuple(i for i in items if i.sample.recording_id in held), pixels),
        recordings=len({item.sample.recording_id for item in items}),
        left_out=left_out,
    )


def _refuse_nothing(items: Sequence[TrainingItem], recordings: Path, labels: Path, left_out: LeftOut) -> None:
    if items:
        return
    why = "; ".join(f"{count} x {reason}" for reason, count in left_out.counts.most_common()) or "no label"
    first = f" (the first: {left_out.sentences[0].rstrip('.')})" if left_out.sentences else ""
    raise UserError(
        f"{labels}: no label gives a training sample on {recordings}, {why}{first}; at least one accepted label of a "
        "sound recording with video expected, so record and label more drives."
    )


def refuse_held_out(recordings: Sequence[Recording]) -> None:
    """Raises UserError when a town recording's seed is not of the training split (DESIGN section 7)."""
    for recording in recordings:
        seed = recording.meta.get("seed") if recording.source == "town" else None
        if seed is not None and split_of_seed(int(seed)) != "train":
            raise UserError(
                f"{recording.directory}: seed {seed} is of the {split_of_seed(int(seed))} split, a seed below 1000000 "
                "expected for training; take held-out recordings out of the directory."
            )


def validation_recordings(recording_ids: Iterable[str]) -> frozenset[str]:
    """Every 12th recording; none when there are fewer than twelve.

    Ordered by the digest of the id: in the order of names, families and variants would repeat in step with twelve.
    """
    order = sorted(set(recording_ids), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return frozenset(order[VALIDATION_EVERY - 1 :: VALIDATION_EVERY])


def _items(
    by_id: dict[str, Recording], labels: Sequence[CocLabel], frames: FrameSettings, left_out: LeftOut
) -> list[TrainingItem]:
    items = []
    for label in sorted(labels, key=lambda row: (row.recording_id, row.t0_us)):
        if label.status not in TRAINS:
            left_out.add(f"label {label.status}")
        elif label.recording_id not in by_id:
            left_out.add("label of a recording that is not there")
        else:
            try:
                items.append(_item(by_id[label.recording_id], label, frames))
            except UserError as error:
                left_out.add("label without a whole sample", str(error))
    return items


def _item(recording: Recording, label: CocLabel, frames: FrameSettings) -> TrainingItem:
    asked = frames.camera_names or tuple(recording.cameras)
    names = tuple(name for name in asked if name in recording.cameras)  # the prompt states the cameras that lack
    if not names:
        found, expected = (", ".join(cameras) or "none" for cameras in (recording.cameras, frames.camera_names))
        raise UserError(
            f"{recording.directory} has cameras {found}, one of {expected} expected by the student; import or render "
            "its video under that name."
        )
    keys = tuple(_frame_keys(recording, name, label.t0_us, frames.frame_offsets_us) for name in names)
    sample = cut_sample(recording, label.t0_us, camera_names=names, frame_offsets_us=frames.frame_offsets_us)
    return TrainingItem(sample, label, keys)


def _frame_keys(recording: Recording, camera: str, t0_us: int, offsets_us: Sequence[int]) -> tuple[FrameKey, ...]:
    known_us = recording.cameras[camera].t_us
    wanted_us = t0_us + np.asarray(offsets_us, np.int64)
    numbers = nearest_index(known_us, wanted_us)
    lag_us = np.abs(known_us[numbers] - wanted_us)
    if lag_us.max() > MAX_FRAME_LAG_US:
        raise UserError(
            f"{recording.directory}: camera {camera} has no frame within {MAX_FRAME_LAG_US // 1000} ms of "
            f"{wanted_us[int(np.argmax(lag_us))]} us; a video that covers t0 expected, so label another moment."
        )
    return tuple((recording.recording_id, camera, int(number)) for number in numbers)


def _plan(items: Sequence[TrainingItem]) -> dict[tuple[str, str], list[int]]:
    numbers: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for item in items:
        for recording_id, camera, number in (key for row in item.frame_keys for key in row):
            numbers[recording_id, camera].add(number)
    return {video: sorted(of_video) for video, of_video in sorted(numbers.items())}


def _drop_broken(items: Sequence[TrainingItem], broken: dict[str, str], left_out: LeftOut) -> list[TrainingItem]:
    for reason in broken.values():
        left_out.add("recording with a broken video", reason)
    kept = [item for item in items if item.sample.recording_id not in broken]
    left_out.counts["label of a recording with a broken video"] += len(items) - len(kept)
    left_out.counts += Counter()  # drops reasons that were counted zero times
    return kept
