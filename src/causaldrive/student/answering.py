"""Free text from a backbone: questions about any number of pictures, answered by a student or an untouched checkpoint.

A student is asked in its own question layout and stops at `<|answer_end|>`; an untouched Qwen-VL in its own chat
format, `<1.5 seconds>` before each picture as Qwen3-VL writes times. Reads pictures and questions, gives strings.
Knows nothing of what is asked or how answers are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from causaldrive.clips.types import Sample
from causaldrive.ground.words import HISTORY_STEPS
from causaldrive.student import checkpoint
from causaldrive.student.backbone import backbone_config, backbone_tokenizer, image_settings, load_backbone
from causaldrive.student.batches import PromptBatch
from causaldrive.student.config import FrameSettings, StudentConfig
from causaldrive.student.images import patches, resize, target_size
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.positions import mrope_positions
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.text import plain
from causaldrive.student.tokens import special

CAMERA = "front"  # what a picture of unknown origin is called in a student's prompt


class Answerer(Protocol):
    """Something that answers questions about pictures."""

    def answer(
        self,
        pictures: np.ndarray,
        t_s: Sequence[float],
        system: str,
        question: str,
        max_tokens: int,
        temperature: float,
        seed: int,
    ) -> str:
        """The text said to `question` about pictures (F, H, W, 3) taken at `t_s` (F,), oldest first."""
        ...  # fmt: skip


def open_answerer(directory: Path) -> Answerer:
    """The model in `directory`, a student or a backbone. Raises UserError where it is neither."""
    config = checkpoint.read_config(directory)
    if config.get("model_type") == StudentConfig.model_type:
        return StudentAnswerer(*checkpoint.load(directory))
    return BackboneAnswerer(directory)


class StudentAnswerer:
    """A student, asked as `StudentProcessor.questions` asks. Its system message is that of its checkpoint."""

    def __init__(self, model: CausalDriveModel, processor: StudentProcessor):
        self.model, self.processor = model.eval(), processor

    def answer(
        self, pictures: np.ndarray, t_s: Sequence[float], system: str, question: str, max_tokens: int,
        temperature: float, seed: int,
    ) -> str:  # fmt: skip
        sample = picture_sample(pictures, t_s)
        return self.answers([sample], [question], max_tokens, temperature, seed)[0]

    def answers(
        self, samples: Sequence[Sample], questions: Sequence[str], max_tokens: int, temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:  # fmt: skip
        """One answer a sample; all samples have the same cameras and moments."""
        processor = seeing(self.processor, samples[0])
        batch = processor.questions(samples, questions).to(self.model.device)
        config = self.model.config
        allowed = torch.zeros(config.vocab_size, dtype=torch.bool)
        allowed[: config.text_vocab_size] = True
        stop = config.id_of("answer_end")
        allowed[stop] = True
        ids = write(cast(PreTrainedModel, self.model.vlm), batch, [stop], max_tokens, temperature, seed, allowed)
        return [str(self.processor.tokenizer.decode(row, skip_special_tokens=True)).strip() for row in ids]


def seeing(processor: StudentProcessor, sample: Sample) -> StudentProcessor:
    """The same processor for the cameras and moments of `sample` instead of those that the student drives with.

    Two frames share a grid where the student pairs them and their number is even.
    """
    offsets = tuple(offset / 1e6 for offset in sample.frame_offsets_us)
    config = StudentConfig.from_dict(processor.config.to_dict())
    config.frames_cfg = config.frames_cfg | {
        "camera_names": sample.camera_names,
        "frame_offsets_s": offsets,
        "pair_frames": processor.config.frames().pair_frames and len(offsets) % 2 == 0,
    }
    return StudentProcessor(processor.tokenizer, config)


def picture_sample(pictures: np.ndarray, t_s: Sequence[float], name: str = "picture") -> Sample:
    """Pictures (F, H, W, 3) at `t_s` as a sample that has no motion: for questions, never for driving."""
    offsets = tuple(round(1e6 * (t - t_s[-1])) for t in t_s)
    still = np.zeros((HISTORY_STEPS, 3))
    return Sample(name, 0, pictures[None], (CAMERA,), offsets, still, still[:, 0], None, None)


class BackboneAnswerer:
    """An untouched Qwen3-VL or Qwen2.5-VL checkpoint (Cosmos-Reason included)."""

    def __init__(self, directory: Path):
        config = backbone_config(directory)
        self.tokenizer = backbone_tokenizer(directory)
        self.vlm = load_backbone(directory, config).eval()
        smallest = (config["vision_config"]["patch_size"] * config["vision_config"]["spatial_merge_size"]) ** 2
        own = FrameSettings(image_height_px=None, image_width_px=None, resampling="bicubic", min_pixels=smallest)
        self.frames = replace(own, max_pixels=2**24, **image_settings(directory, config))

    def answer(
        self, pictures: np.ndarray, t_s: Sequence[float], system: str, question: str, max_tokens: int,
        temperature: float, seed: int,
    ) -> str:  # fmt: skip
        batch = self.prompt(pictures, t_s, system, question).to(self.vlm.device)
        stops = [self._id("im_end"), self._id("endoftext")]
        ids = write(self.vlm, batch, stops, max_tokens, temperature, seed)[0]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def prompt(self, pictures: np.ndarray, t_s: Sequence[float], system: str, question: str) -> PromptBatch:
        """One row: system, pictures with their times, question, open assistant message."""
        height, width = target_size(pictures.shape[1], pictures.shape[2], self.frames)
        sized = np.stack([resize(picture, height, width, self.frames.resampling) for picture in pictures])
        pixels, grid = patches(sized, self.frames)
        pads = special("image_pad") * (grid[1] * grid[2] // self.frames.merge_size**2)
        shown = "".join(f"<{t:.1f} seconds><|vision_start|>{pads}<|vision_end|>" for t in t_s)
        text = (
            f"<|im_start|>system\n{plain(system)}<|im_end|>\n<|im_start|>user\n{shown}{plain(question)}<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        ids = torch.tensor([self.tokenizer.encode(text, add_special_tokens=False)])
        mask, is_image = torch.ones_like(ids), (ids == self._id("image_pad")).long()
        grids = [grid] * len(sized)
        positions = mrope_positions(is_image, mask, grids, self.frames.merge_size)
        return PromptBatch(ids, mask, is_image, torch.from_numpy(pixels), torch.tensor(grids), positions, "left")

    def _id(self, name: str) -> int:
        return cast(int, self.tokenizer.convert_tokens_to_ids(special(name)))


class _Permitted(LogitsProcessor):
    """Only tokens of `allowed` (V,) can be drawn."""

    def __init__(self, allowed: Tensor):
        self.allowed = allowed

    def __call__(self, input_ids: Any, scores: Any) -> Any:  # the types are the library's own
        return scores.masked_fill(~self.allowed.to(scores.device), -torch.inf)


@torch.inference_mode()
def write(
    vlm: PreTrainedModel, batch: PromptBatch, stops: Sequence[int], max_tokens: int, temperature: float = 0.0,
    seed: int = 0, allowed: Tensor | None = None,
) -> list[list[int]]:  # fmt: skip
    """Token ids after each left-padded prompt, up to the first stop (left out); greedy at temperature 0."""
    drawn: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    permitted = LogitsProcessorList([_Permitted(allowed)] if allowed is not None else [])
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        out = cast(Any, vlm).generate(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, mm_token_type_ids=batch.mm_token_type_ids,
            pixel_values=batch.pixel_values, image_grid_thw=batch.image_grid_thw, max_new_tokens=max_tokens,
            eos_token_id=list(stops), pad_token_id=stops[-1], logits_processor=permitted, **drawn,
        )  # fmt: skip
    rows = out[:, batch.input_ids.shape[1] :].tolist()
    return [row[: next((i for i, token in enumerate(row) if token in stops), len(row))] for row in rows]
