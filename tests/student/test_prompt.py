"""Batches: patches, positions, prompts, labels, and what happens to samples that lack something."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from student_drives import TRACES, make_sample
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from causaldrive.ground.errors import UserError
from causaldrive.student.batches import IGNORED
from causaldrive.student.config import FrameSettings, StudentConfig
from causaldrive.student.images import patches, resize, target_size
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.text import plain_ids


def test_patches_are_those_of_the_qwen_image_processor():
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    theirs = Qwen2VLImageProcessorPil(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_resize=False)
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 96, 3), dtype=np.uint8)
    expected = theirs(images=list(images), return_tensors="np")
    values, grid = patches(images, FrameSettings())
    assert np.array_equal(expected["image_grid_thw"], [grid, grid])
    assert np.abs(values - expected["pixel_values"]).max() < 1e-6


def test_target_sizes():
    free = FrameSettings(image_height_px=None, image_width_px=None)
    assert target_size(1080, 1920, free) == (320, 576)  # the released size: 180 tokens
    for height, width in ((90, 160), (480, 640), (2000, 300)):
        h, w = target_size(height, width, free)
        assert h % 32 == 0 and w % 32 == 0 and free.min_pixels <= h * w <= free.max_pixels
    assert target_size(1080, 1920, FrameSettings()) == (192, 320)
    assert resize(np.zeros((108, 192, 3), np.uint8), 192, 320).shape == (192, 320, 3)


@pytest.mark.parametrize("reason", [True, False])
def test_positions_are_those_of_transformers(student, reason):
    model, processor = student
    samples = [make_sample(0), make_sample(1, frames=False), make_sample(2)]
    left = processor.prompts(samples, reason=reason)
    right = processor.training(samples, TRACES[:3])
    for batch in (left, right):
        expected, _ = model.vlm.model.get_rope_index(
            batch.input_ids, batch.mm_token_type_ids, batch.image_grid_thw, None, batch.attention_mask
        )
        assert torch.equal(expected, batch.position_ids)


def test_quick_vision_modules_compute_what_transformers_computes(student):
    model, processor = student
    batch = processor.prompts([make_sample(i) for i in range(2)])
    visual = model.vlm.model.visual
    plain = Qwen3VLVisionModel(visual.config).eval()
    plain.load_state_dict(visual.state_dict())
    with torch.no_grad():
        ours = visual(batch.pixel_values, grid_thw=batch.image_grid_thw)
        theirs = plain(batch.pixel_values, grid_thw=batch.image_grid_thw)
    assert torch.allclose(ours.pooler_output, theirs.pooler_output, atol=1e-4)
    for a, b in zip(ours.deepstack_features, theirs.deepstack_features, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_what_every_prompt_says_is_few_tokens_and_no_answer_may_hold_them(student):
    """Around the images of one camera: opening, camera, end of images, history of three, instruction, start."""
    _, processor = student
    config, tokenizer = processor.config, processor.tokenizer
    for reason in (True, False):
        ids = processor.prompts([make_sample(0)], reason=reason).input_ids[0].tolist()
        images = ids.count(config.id_of("image_pad"))
        assert len(ids) - images == 6 + config.tokens_per_history_traj + 1
        text = tokenizer.decode(ids)
        assert text.startswith("<|im_start|>system\nYou drive.<|im_end|>\n<|im_start|>user\nfront: -0.4 +0.0 s <|vis")
        assert f"<|im_end|>\n<|im_start|>assistant\n<|{'cot' if reason else 'traj_future'}_start|>" in text
    spoken = plain_ids(tokenizer, "front: -0.4 +0.0 s <|vision_start|> Reason, then drive.<|im_end|>\n<|im_start|>")
    assert max(spoken) < config.text_vocab_size


def test_prompt_ends_and_history(student):
    _, processor = student
    config = processor.config
    batch = processor.prompts([make_sample(0), make_sample(1)])
    assert batch.input_ids[:, -1].tolist() == [config.id_of("cot_start")] * 2
    start = config.traj_token_start_idx + config.future_bins
    is_history = (batch.input_ids >= start) & (batch.input_ids < start + config.history_bins)
    assert is_history.sum(1).tolist() == [config.tokens_per_history_traj] * 2
    short = processor.prompts([make_sample(0)], reason=False)
    assert short.input_ids[0, -1] == config.id_of("traj_future_start")


def test_rows_without_trace_or_without_trajectory_tokens(student):
    _, processor = student
    sample = make_sample(3)
    silent = processor.training([sample], [None])
    assert (silent.labels_text == IGNORED).all() and (silent.labels_traj != IGNORED).sum() == 33
    prompt = processor.prompts([sample], reason=False).input_ids[0]
    assert torch.equal(silent.input_ids[0, : len(prompt)], prompt) and int(silent.traj_start[0]) == len(prompt) - 1
    flow_only = processor.training([sample], [TRACES[0]], traj_tokens=False)
    assert (flow_only.labels_traj == IGNORED).all() and int(flow_only.traj_start[0]) == flow_only.input_ids.shape[1] - 1


def test_missing_cameras_are_stated_and_counted(student):
    _, processor = student
    batch = processor.prompts([make_sample(0), make_sample(1, frames=False)])
    assert batch.counters["missing_cameras"] == 1
    assert "front: no image" in processor.tokenizer.decode(batch.input_ids[1].tolist())
    assert "no image" not in processor.tokenizer.decode(batch.input_ids[0].tolist())
    alone = processor.prompts([make_sample(1, frames=False)])
    assert alone.pixel_values is None and alone.image_grid_thw is None


def test_wrong_frames_and_missing_future_are_told(student):
    _, processor = student
    late = dataclasses.replace(make_sample(0), frame_offsets_us=(-100_000, 0))
    with pytest.raises(UserError, match="frames at"):
        processor.prompts([late])
    one_moment = dataclasses.replace(make_sample(0), frames=make_sample(0).frames[:, :1])
    with pytest.raises(UserError, match="images of 1 cameras x 1 moments, expected 1 x 2"):
        processor.training([one_moment], [None])
    with pytest.raises(UserError, match="no ego future"):
        processor.training([make_sample(0, future=False)], [None])


def test_trajectories_beyond_the_bounds_are_clipped_and_counted(student):
    _, processor = student
    wild = make_sample(0)
    future = wild.future_xyz_in_rig_m.copy()
    future[32:, 0] += 40.0
    batch = processor.training([dataclasses.replace(wild, future_xyz_in_rig_m=future), make_sample(1)], [None, None])
    assert batch.counters["clipped_trajectories"] == 1
    raw = processor.action_space.denormalise(batch.action)
    assert processor.action_space.is_within_bounds(raw * 0.9999).all()


PAIRED = FrameSettings(pair_frames=True)


def with_frames(config: StudentConfig, **changes) -> StudentConfig:
    """The same student with other frame settings."""
    other = copy.deepcopy(config)
    other.frames_cfg = {**config.frames_cfg, **changes}
    return other


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_paired_patches_hold_two_moments_each(rows, columns, pairs, seed):
    """Written out: block by block of 2 x 2 patches; in a patch channel, then moment, then its pixels row by row."""
    images = np.random.default_rng(seed).integers(0, 256, (2 * pairs, 32 * rows, 32 * columns, 3), dtype=np.uint8)
    values, grid = patches(images, PAIRED)
    expected = []
    for pair in range(pairs):
        both = images[2 * pair : 2 * pair + 2] / 127.5 - 1
        for top, left in ((32 * r, 32 * c) for r in range(rows) for c in range(columns)):
            for y, x in ((top + dy, left + dx) for dy in (0, 16) for dx in (0, 16)):
                expected.append(np.moveaxis(both[:, y : y + 16, x : x + 16], -1, 0).ravel())
    assert grid == (1, 2 * rows, 2 * columns) and values.dtype == np.float32
    assert np.abs(values - np.array(expected)).max() < 1e-6


def test_a_still_fills_both_moments():
    still = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    paired, grid = patches(np.repeat(still, 2, axis=0), PAIRED)
    alone, same_grid = patches(still, FrameSettings())
    assert np.array_equal(paired, alone) and grid == same_grid


def test_pairs_halve_the_image_tokens_and_name_both_moments(student):
    _, processor = student
    assert processor.config.frames().pair_frames, "the tiny preset pairs its frames"
    single = StudentProcessor(processor.tokenizer, with_frames(processor.config, pair_frames=False))
    paired, alone = (p.prompts([make_sample(0)]) for p in (processor, single))
    pad = processor.config.id_of("image_pad")
    assert (paired.input_ids == pad).sum() * 2 == (alone.input_ids == pad).sum() == 2 * 6
    for one, two in ((paired.image_grid_thw, alone.image_grid_thw), (paired.pixel_values, alone.pixel_values)):
        assert one is not None and two is not None and 2 * len(one) == len(two)
    assert "-0.4 +0.0" in processor.tokenizer.decode(paired.input_ids[0].tolist())
    assert "-0.4 +0.0" not in processor.tokenizer.decode(alone.input_ids[0].tolist())


def test_an_odd_number_of_frames_cannot_be_paired():
    assert dataclasses.replace(PAIRED, frame_offsets_s=(-0.6, -0.4, -0.2, 0.0)).moments() == ("-0.6 -0.4", "-0.2 +0.0")
    with pytest.raises(UserError, match="even number of frames"):
        dataclasses.replace(PAIRED, frame_offsets_s=(-0.8, -0.4, 0.0)).moments()
