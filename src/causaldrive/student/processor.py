"""Samples to batches: the prompt, the training row, the completion row; and text back from tokens.

One layout for training and sampling: system, user (per camera: name, then per frame a time marker and the image;
history tokens; instruction), assistant. Reads samples, makes tensors; saves and loads tokenizer and settings.
Knows nothing of the model's weights.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from causaldrive.clips.types import Sample
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_json
from causaldrive.ground.words import FUTURE_STEPS
from causaldrive.student.action_space import UnicycleActionSpace
from causaldrive.student.batches import IGNORED, AnswerBatch, CompletionBatch, PromptBatch, TrainingBatch
from causaldrive.student.config import StudentConfig
from causaldrive.student.images import patches, resize, target_size
from causaldrive.student.layouts import CameraView, after_history, asking, before_history, in_prompt_order
from causaldrive.student.packing import pack
from causaldrive.student.positions import mrope_positions
from causaldrive.student.statistics import raw_actions
from causaldrive.student.text import plain, plain_ids
from causaldrive.student.tokens import CHAT_NAMES, FutureTokens, HistoryTokens, special, special_names
from causaldrive.student.waypoints import Path as SpeltPath
from causaldrive.student.waypoints import read_waypoints, smooth_path, write_waypoints

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class _Images:
    """One sample's camera frames as patches; `grids` holds one tuple of grids per camera, empty where missing."""

    names: tuple[str, ...]
    grids: tuple[tuple[Grid, ...], ...]
    pixels: list[np.ndarray]


class StudentProcessor:
    """Tokenizer and configuration, and the batches made with them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, config: StudentConfig):
        self.tokenizer, self.config = tokenizer, config
        self.future_tokens = FutureTokens(config.traj_tokens(), config.future_bins)
        self.history_tokens = HistoryTokens(config.traj_tokens(), config.history_bins)
        self.action_space = UnicycleActionSpace(config.action_space())
        self._frames = config.frames()
        self._frames.moments()  # an odd number of frames to pair is refused here, not at the first sample
        self._before = functools.lru_cache(maxsize=256)(self._make_before)
        self._after = functools.lru_cache(maxsize=256)(self._make_after)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write tokenizer files and `processor_config.json`; the settings themselves are the model's `config.json`.

        `config.json` is written too where the model has not been saved there yet.
        """
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(path)
        write_json(path / "processor_config.json", {"processor_class": type(self).__name__})
        if not (path / "config.json").exists():
            self.config.save_pretrained(path)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> StudentProcessor:
        """Raises UserError when the tokenizer and the configuration do not belong together."""
        config = StudentConfig.from_pretrained(directory)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        for name in (*CHAT_NAMES, *special_names(config.prompt_layout)):
            expected, found = config.special_token_ids.get(name), tokenizer.convert_tokens_to_ids(special(name))
            if found != expected:
                raise UserError(
                    f"{directory}: the tokenizer has {special(name)} as {found}, config.json as {expected}; "
                    "copy tokenizer.json and config.json from one and the same checkpoint."
                )
        return cls(tokenizer, config)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The trace in a completion: the text before `<|cot_end|>`, or before `<|traj_future_start|>` without it."""
        stops = {self.config.id_of("cot_end"), self.config.id_of("traj_future_start")}
        end = next((i for i, token in enumerate(token_ids) if token in stops), len(token_ids))
        return str(self.tokenizer.decode(list(token_ids[:end]), skip_special_tokens=True)).strip()

    def prompts(
        self, samples: Sequence[Sample], reason: bool = True, routes: Sequence[str | None] | None = None
    ) -> PromptBatch:
        """Left-padded prompts that end with `<|cot_start|>`, or with `<|traj_future_start|>` for `reason=False`.

        `routes`: one navigation text a sample, or None where there is none.
        """
        images = [self._images(sample) for sample in samples]
        ways = routes or [None] * len(samples)
        rows = [
            self._prompt(sample, found, reason, way) for sample, found, way in zip(samples, images, ways, strict=True)
        ]
        return PromptBatch(**self._pad(rows, images, "left"))

    def questions(self, samples: Sequence[Sample], questions: Sequence[str]) -> PromptBatch:
        """Left-padded prompts that ask about the images and end with `<|answer_start|>`."""
        images = [self._images(sample) for sample in samples]
        return PromptBatch(**self._pad(self._asked(images, questions), images, "left"))

    def answered(self, samples: Sequence[Sample], questions: Sequence[str], answers: Sequence[str]) -> TrainingBatch:
        """Right-padded rows of `questions`, each with its answer and `<|answer_end|>` as labels; nothing is driven."""
        images = [self._images(sample) for sample in samples]
        prompts = self._asked(images, questions)
        said = [[*plain_ids(self.tokenizer, answer), self.config.id_of("answer_end")] for answer in answers]
        rows = [prompt + answer for prompt, answer in zip(prompts, said, strict=True)]
        labels = _pad_right([[IGNORED] * len(p) + a for p, a in zip(prompts, said, strict=True)], IGNORED)
        return TrainingBatch(
            **self._pad(rows, images, "right"), labels_text=labels, labels_traj=torch.full_like(labels, IGNORED),
            action=torch.zeros(len(rows), FUTURE_STEPS, 2), traj_start=torch.tensor([len(p) - 1 for p in prompts]),
        )  # fmt: skip

    def _asked(self, images: Sequence[_Images], questions: Sequence[str]) -> list[list[int]]:
        texts = [asking(self.config, self._views(found), plain(q)) for found, q in zip(images, questions, strict=True)]
        return [self._encode(text) for text in texts]

    def training(
        self,
        samples: Sequence[Sample],
        traces: Sequence[str | None],
        traj_tokens: bool = True,
        traj_text: bool = False,
    ) -> TrainingBatch:
        """Right-padded training rows; a trace of None means: no reasoning, the trajectory right away.

        With `traj_tokens` False rows end at `<|traj_future_start|>` (a third shorter): text and flow only. With
        `traj_text` the trajectory is spelt as JSON way-points instead of bins; its labels are `labels_traj` too.
        Actions beyond the bounds are clipped and counted in `counters['clipped_trajectories']`. Raises UserError for a
        sample without future.
        """
        images = [self._images(sample) for sample in samples]
        raw, _ = raw_actions(samples, self.action_space)
        clipped = self.action_space.clip(raw)
        action = self.action_space.normalise(clipped)
        bins = self.future_tokens.encode(action.numpy())
        rows, text, traj, starts = [], [], [], []
        for index, sample in enumerate(samples):
            trace = traces[index]
            prompt = self._prompt(sample, images[index], reason=trace is not None)
            spoken = self._spoken(trace)
            path = self._spelt(sample) if traj_text else self._drawn(bins[index])
            drawn = path if traj_tokens or traj_text else []
            rows.append(prompt + spoken + drawn)
            text.append([IGNORED] * len(prompt) + spoken + [IGNORED] * len(drawn))
            traj.append([IGNORED] * (len(prompt) + len(spoken)) + drawn)
            starts.append(len(prompt) + len(spoken) - 1)
        padded = self._pad(rows, images, "right")
        padded["counters"]["clipped_trajectories"] = int((~self.action_space.is_within_bounds(raw)).sum())
        return TrainingBatch(**padded, labels_text=_pad_right(text, IGNORED), labels_traj=_pad_right(traj, IGNORED),
                             action=action, traj_start=torch.tensor(starts))  # fmt: skip

    def within_bounds(self, samples: Sequence[Sample]) -> list[bool]:
        """Whether each sample's future is a drive of the action space, so that `training` does not clip it."""
        return self.action_space.is_within_bounds(raw_actions(samples, self.action_space)[0]).tolist()

    def completions(self, samples: Sequence[Sample], completion_ids: Sequence[Sequence[int]],
                    reason: bool = True) -> CompletionBatch:  # fmt: skip
        """Right-padded prompts with the given completion tokens after them, as `Generated.token_ids` holds them."""
        images = [self._images(sample) for sample in samples]
        prompts = [self._prompt(sample, found, reason) for sample, found in zip(samples, images, strict=True)]
        rows = [prompt + list(written) for prompt, written in zip(prompts, completion_ids, strict=True)]
        start_id = self.config.id_of("traj_future_start")
        starts = [row.index(start_id) if start_id in row else -1 for row in rows]
        return CompletionBatch(**self._pad(rows, images, "right"), traj_start=torch.tensor(starts, dtype=torch.int64))

    def answers(self, samples: Sequence[Sample], answer_ids: Sequence[Sequence[Sequence[int]]],
                reason: bool = True) -> AnswerBatch:  # fmt: skip
        """Each sample's prompt once, with all of its answers behind it; `answer_ids[b]` are those of sample b."""
        images = [self._images(sample) for sample in samples]
        rows = [self._prompt(sample, found, reason) for sample, found in zip(samples, images, strict=True)]
        prompts = PromptBatch(**self._pad(rows, images, "right"))
        return pack(prompts, answer_ids, self.config.id_of("traj_future_start"), self.config.id_of("endoftext"))

    def _spoken(self, trace: str | None) -> list[int]:
        """Trace, `<|cot_end|>`, `<|traj_future_start|>`; nothing where the prompt already holds the start token."""
        if trace is None:
            return []
        ends = [self.config.id_of("cot_end"), self.config.id_of("traj_future_start")]
        return plain_ids(self.tokenizer, trace) + ends

    def _drawn(self, bins: np.ndarray) -> list[int]:
        """128 trajectory tokens and `<|traj_future_end|>`; in released layouts the message's end too."""
        ids = [*(self.config.traj_token_start_idx + bins).tolist(), self.config.id_of("traj_future_end")]
        return ids if self.config.prompt_layout == "causaldrive" else [*ids, self.config.id_of("im_end")]

    def _spelt(self, sample: Sample) -> list[int]:
        """The future as JSON way-points and `<|traj_future_end|>`."""
        assert sample.future_xyz_in_rig_m is not None, "raw_actions refused a sample without future"
        text = write_waypoints(sample.future_xyz_in_rig_m[:, :2], self.config.text_waypoints, self.config.text_decimals)
        return [*plain_ids(self.tokenizer, text), self.config.id_of("traj_future_end")]

    def path_of(self, token_ids: Sequence[int], initial_speed_mps: float) -> SpeltPath | None:
        """The path in the tokens that spell it; None where it cannot be read."""
        end = self.config.id_of("traj_future_end")
        text = self.tokenizer.decode([token for token in token_ids if token != end])
        points = read_waypoints(str(text), self.config.text_waypoints)
        return None if points is None else smooth_path(points, initial_speed_mps)

    def _prompt(self, sample: Sample, images: _Images, reason: bool, route: str | None = None) -> list[int]:
        offset = self.config.traj_token_start_idx + self.config.future_bins
        history = self.history_tokens.encode(sample.history_xyz_in_rig_m) + offset
        before = self._before(images.names, images.grids)
        return [*before, *history.tolist(), *self._after(reason, route)]

    def _make_before(self, names: tuple[str, ...], grids: tuple[tuple[Grid, ...], ...]) -> list[int]:
        return self._encode(before_history(self.config, self._views(_Images(names, grids, []))))

    def _make_after(self, reason: bool, route: str | None) -> list[int]:
        return self._encode(after_history(self.config, reason, None if route is None else plain(route)))

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _views(self, images: _Images) -> list[CameraView]:
        """What the prompt says of each camera: one image token a merged block of patches."""
        merged = self._frames.merge_size**2
        return [
            CameraView(name, tuple(t * rows * columns // merged for t, rows, columns in camera))
            for name, camera in zip(images.names, images.grids, strict=True)
        ]

    def _images(self, sample: Sample) -> _Images:
        """Frames of the configured cameras and times. A camera that the sample lacks is stated in the prompt."""
        names = self._frames.camera_names or in_prompt_order(self.config.prompt_layout, sample.camera_names)
        self._check_count(sample)
        grids, pixels = [], []
        for name in names:
            if sample.frames is None or name not in sample.camera_names:
                grids.append(())
                continue
            chosen = sample.frames[sample.camera_names.index(name)][self._frame_indices(sample)]
            height, width = target_size(chosen.shape[1], chosen.shape[2], self._frames)
            values, grid = patches(
                np.stack([resize(image, height, width, self._frames.resampling) for image in chosen]), self._frames
            )
            grids.append((grid,) * len(self._frames.moments()))
            pixels.append(values)
        return _Images(tuple(names), tuple(grids), pixels)

    def _check_count(self, sample: Sample) -> None:
        """Raises UserError when the sample's images are not its cameras times its moments."""
        expected = (len(sample.camera_names), len(sample.frame_offsets_us))
        if sample.frames is not None and sample.frames.shape[:2] != expected:
            cameras, frames = sample.frames.shape[:2]
            raise UserError(
                f"{sample.recording_id} at t0 {sample.t0_us} us has images of {cameras} cameras x {frames} moments, "
                f"expected {expected[0]} x {expected[1]} ({', '.join(sample.camera_names)}); cut the sample again."
            )

    def _frame_indices(self, sample: Sample) -> list[int]:
        available = list(sample.frame_offsets_us)
        wanted = self._frames.frame_offsets_us
        missing = [offset for offset in wanted if offset not in available]
        if missing:
            raise UserError(
                f"{sample.recording_id} at t0 {sample.t0_us} us has frames at {available} us, expected {list(wanted)}; "
                "cut the sample with the student's frame offsets."
            )
        return [available.index(offset) for offset in wanted]

    def _pad(self, rows: list[list[int]], images: list[_Images], side: str) -> dict[str, Any]:
        """The fields of PromptBatch."""
        width = max(len(row) for row in rows)
        pad = self.config.id_of("endoftext")
        ids, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.int64)
        for index, row in enumerate(rows):
            span = slice(width - len(row), width) if side == "left" else slice(0, len(row))
            ids[index, span], mask[index, span] = torch.tensor(row), 1
        grids = [grid for found in images for camera in found.grids for grid in camera]
        pixels = [values for found in images for values in found.pixels]
        is_image = ((ids == self.config.id_of("image_pad")) & mask.bool()).long()
        grid_thw = torch.tensor(grids, dtype=torch.int64) if grids else None
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "mm_token_type_ids": is_image,
            "pixel_values": torch.from_numpy(np.concatenate(pixels)) if pixels else None,
            "image_grid_thw": grid_thw,
            "position_ids": mrope_positions(is_image, mask, grids, self._frames.merge_size),
            "padding_side": side,
            "counters": {"missing_cameras": sum(not camera for found in images for camera in found.grids)},
        }


def _pad_right(rows: list[list[int]], value: int) -> Tensor:
    out = torch.full((len(rows), max(len(row) for row in rows)), value)
    for index, row in enumerate(rows):
        out[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return out
