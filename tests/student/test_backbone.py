"""Students built on Qwen3-VL and Qwen2.5-VL checkpoints: the surgery, cameras in any number and order, refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_backbones import UNUSED_ROWS, small_tokenizer, write_backbone
from student_drives import STATISTICS, TRACES, make_sample

from causaldrive.clips.types import Sample
from causaldrive.ground.errors import UserError
from causaldrive.student import checkpoint
from causaldrive.student.backbone import SMALL_NOISE, backbone_config, find_backbone, load_backbone, student_on
from causaldrive.student.generate import generate

KINDS = [("qwen3_vl", False), ("qwen3_vl", True), ("qwen2_5_vl", False)]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}{'-tied' * kind[1]}")
def built(request, tmp_path_factory):
    directory = write_backbone(tmp_path_factory.mktemp("backbone") / "vlm", *request.param)
    return directory, *student_on(directory, "2b", STATISTICS, seed=3)


def sample_with(cameras: tuple[str, ...], index: int = 0) -> Sample:
    """Four moments of each camera; a camera's images depend on its name alone."""
    frames = [
        np.random.default_rng(sum(map(ord, name))).integers(0, 255, (4, 90, 160, 3), np.uint8) for name in cameras
    ]
    offsets = (-300_000, -200_000, -100_000, 0)
    return dataclasses.replace(
        make_sample(index), frames=np.stack(frames), camera_names=cameras, frame_offsets_us=offsets
    )


def test_the_backbone_is_kept_and_new_embeddings_start_near_the_mean_of_the_old(built):
    directory, model, processor = built
    source, ours = load_backbone(directory, backbone_config(directory)).state_dict(), model.vlm.state_dict()
    assert len(source) == len(ours)
    config, kept = model.config, {}
    for name, value in source.items():
        if "embed_tokens" in name or "lm_head" in name:
            kept[name] = value
        else:
            assert torch.equal(ours[name], value), name
    base = config.traj_token_start_idx
    assert kept and all(len(value) == base + UNUSED_ROWS for value in kept.values())
    for name, value in kept.items():
        table, old = ours[name], value[:base]
        assert torch.equal(table[:base], old) and len(table) == config.vocab_size == len(processor.tokenizer)
        away = (table[base:] - old.mean(0)) / old.std(0)
        assert 0 < away.abs().max() < 8 * SMALL_NOISE and away.std() == pytest.approx(SMALL_NOISE, rel=0.2)
        future = table[base : base + config.future_bins] - old.mean(0)
        similar = torch.nn.functional.cosine_similarity(future[1:], future[:-1]).mean()
        assert similar > 0.99, "neighbouring bins start out alike"
        assert torch.nn.functional.cosine_similarity(future[:1], future[1500:1501]).abs() < 0.7


def test_the_expert_shares_the_cache(built):
    model = built[1]
    expert, text = model.config.expert(), model.config.vlm().text_config
    assert expert.num_hidden_layers == text.num_hidden_layers
    assert expert.num_key_value_heads == text.num_key_value_heads
    assert expert.head_dim == 16 and expert.hidden_size == 32
    assert expert.rope_parameters["rope_theta"] == text.rope_parameters["rope_theta"]


def test_positions_are_those_of_transformers(built):
    _, model, processor = built
    batch = processor.prompts([sample_with(("front", "left")), sample_with(("left",), 1)])
    expected, _ = model.vlm.model.get_rope_index(
        batch.input_ids, batch.mm_token_type_ids, batch.image_grid_thw, None, attention_mask=batch.attention_mask
    )
    real = batch.attention_mask.bool()
    assert torch.equal(expected[:, real], batch.position_ids[:, real])


def test_it_trains_generates_and_survives_the_disk(built, tmp_path):
    _, model, processor = built
    samples = [sample_with(("front", "left")), sample_with(("rear",), 1)]
    losses = model.forward_training(processor.training(samples, TRACES[:2]), torch.Generator().manual_seed(0))
    (losses["text_loss"] + losses["traj_loss"] + losses["flow_loss"]).backward()
    assert all(torch.isfinite(losses[name]) for name in ("text_loss", "traj_loss", "flow_loss"))
    assert model.action_out_proj.weight.grad.abs().sum() > 0
    model.zero_grad()
    checkpoint.save(tmp_path / "student", model, processor)
    again, its_processor = checkpoint.load(tmp_path / "student")
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    options = {"seed": [1, 2], "max_trace_tokens": 4, "flow_steps": 2}
    first, second = generate(model, processor, samples, **options), generate(again, its_processor, samples, **options)
    for a, b in zip(first, second, strict=True):
        assert a[0].token_ids == b[0].token_ids and np.allclose(a[0].xyz_in_rig_m, b[0].xyz_in_rig_m, atol=1e-5)


def test_any_cameras_in_any_order_are_named_and_never_swapped(built):
    _, _, processor = built
    text = [processor.tokenizer.decode(row.tolist()) for row in processor.prompts(
        [sample_with(("front", "left")), sample_with(("left", "front")), sample_with(("rear",))]
    ).input_ids]  # fmt: skip
    assert text[0].index("front:") < text[0].index("left:") and text[1].index("left:") < text[1].index("front:")
    assert "rear:" in text[2] and "front:" not in text[2]
    assert all("-0.3 s" in row and "+0.0 s" in row for row in text)
    fixed = dataclasses.replace(processor.config.frames(), camera_names=("front", "left", "rear"))
    try:
        processor._frames = fixed
        both = processor.prompts([sample_with(("rear", "front")), sample_with(("front", "rear"))])
        assert both.counters["missing_cameras"] == 2
        rows = processor.tokenizer.decode(both.input_ids[0].tolist())
        assert "left: no image" in rows and rows.index("front:") < rows.index("left:") < rows.index("rear:")
        half = len(both.pixel_values) // 2
        assert torch.equal(both.pixel_values[:half], both.pixel_values[half:]), "images follow their camera's name"
    finally:
        processor._frames = processor.config.frames()


def test_images_that_do_not_fit_their_cameras_are_refused(built):
    _, _, processor = built
    short = sample_with(("front", "left"))
    with pytest.raises(UserError, match="1 cameras x 4 moments, expected 2 x 4"):
        processor.prompts([dataclasses.replace(short, frames=short.frames[:1])])
    with pytest.raises(UserError, match="2 cameras x 3 moments"):
        processor.prompts([dataclasses.replace(short, frames=short.frames[:, :3])])


def edited(directory: Path, name: str, **changes) -> None:
    path = directory / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_cannot_be_built_on_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"backbone 'Qwen/Qwen3-VL-2B-Instruct' is no directory .* cannot be fetched"):
        find_backbone("Qwen/Qwen3-VL-2B-Instruct")
    vlm = write_backbone(tmp_path / "vlm", "qwen3_vl")
    weights = (vlm / "model.safetensors").read_bytes()
    (vlm / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="the weights cannot be loaded"):
        student_on(vlm, "2b", STATISTICS, 0)
    (vlm / "model.safetensors").write_bytes(weights)
    edited(vlm, "config.json", model_type="llama")
    with pytest.raises(UserError, match="model_type is 'llama', expected one of qwen3_vl, qwen2_5_vl"):
        student_on(vlm, "2b", STATISTICS, 0)
    edited(vlm, "config.json", model_type="alpamayo_r1")
    with pytest.raises(UserError, match="causaldrive student convert"):
        student_on(vlm, "2b", STATISTICS, 0)


def test_a_tokenizer_without_the_chat_marks_is_named(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vlm = write_backbone(tmp_path / "vlm", "qwen3_vl")
    (vlm / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="holds no tokenizer"):
        student_on(vlm, "2b", STATISTICS, 0)
    bare = Tokenizer(models.BPE(vocab={"a": 0, "<|im_end|>": 1, "<|endoftext|>": 2}, merges=[]))
    PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>", pad_token="<|endoftext|>").save_pretrained(
        vlm
    )
    with pytest.raises(UserError, match=r"lacks <\|im_start\|>, <\|vision_start\|>"):
        student_on(vlm, "2b", STATISTICS, 0)


def test_the_alpamayo_preset_gives_a_backbone_the_released_tokens_and_prompt(tmp_path):
    vlm = write_backbone(tmp_path / "vlm", "qwen3_vl")
    model, processor = student_on(vlm, "alpamayo", STATISTICS, 0)
    config, base = model.config, len(small_tokenizer())
    assert config.prompt_layout == "1.5" and config.vocab_size == base + 4028
    assert config.tokens_per_history_traj == 48 and config.action_space().accel_std_mps2 == 0.6810426736454882
    assert processor.tokenizer.convert_tokens_to_ids("<|_padding_0|>") == config.id_of("_padding_0")
