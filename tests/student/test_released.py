"""Every published constant of Alpamayo R1 and 1.5, pinned."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from causaldrive.ground.errors import UserError
from causaldrive.student import inspection
from causaldrive.student.flow import BETA_ALPHA, TIME_SCALE
from causaldrive.student.layouts import RELEASED_CAMERAS, in_prompt_order
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.released import (
    BUFFERS,
    CHAT_IDS,
    TEXT_VOCAB,
    expert_beside,
    qwen3_vl,
    released_config_json,
    released_ids,
    student_config,
)
from causaldrive.student.text import extend_tokenizer
from causaldrive.student.tokens import special_names

R1_IDS = {  # the table of the specification
    "prompt_start": 155669, "prompt_end": 155670, "image_start": 155671, "image_pre_tkn": 155672, "image_end": 155673,
    "traj_history_start": 155674, "traj_history_pre_tkn": 155675, "traj_history_end": 155676, "cot_start": 155677,
    "cot_end": 155678, "meta_action_start": 155679, "meta_action_end": 155680, "traj_future_start": 155681,
    "traj_future_pre_tkn": 155682, "traj_future_end": 155683, "traj_history": 155684, "traj_future": 155685,
    "vectorized_wm": 155686, "vectorized_wm_start": 155687, "vectorized_wm_end": 155688,
    "vectorized_wm_pre_tkn": 155689, "route_start": 155690, "route_pad": 155691, "route_end": 155692,
    "question_start": 155693, "question_end": 155694, "answer_start": 155695, "answer_end": 155696, "image_pad": 151655,
}  # fmt: skip
PADDING_IDS = (155672, 155675, 155679, 155680, 155682, 155686, 155687, 155688, 155689)


def released(layout: str):
    return student_config(released_config_json(layout), qwen3_vl("8b"), released_ids(layout), TEXT_VOCAB)


@pytest.fixture(scope="module")
def qwen_sized() -> PreTrainedTokenizerFast:
    """A tokenizer with as many entries as Qwen3-VL's, its marks at their ids."""
    taken = {index: f"<|{name}|>" for name, index in CHAT_IDS.items()}
    words = {taken.get(index, f"w{index}"): index for index in range(151_669)}
    bare = Tokenizer(models.WordLevel(words, unk_token="w0"))
    made = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    assert len(made) == 151_669
    return made


@pytest.mark.parametrize("layout", ["r1", "1.5"])
def test_every_id_of_the_vocabulary(qwen_sized, layout):
    import copy

    tokenizer = copy.deepcopy(qwen_sized)
    ids = extend_tokenizer(tokenizer, 3000, 1000, layout)
    assert len(tokenizer) == 155_697 and ids == released_ids(layout)
    to_id = tokenizer.convert_tokens_to_ids
    bins = {"<i0>": 151_669, "<i2999>": 154_668, "<i3000>": 154_669, "<i3999>": 155_668}
    assert {name: to_id(name) for name in bins} == bins
    if layout == "r1":
        assert {name: ids[name] for name in R1_IDS} == R1_IDS
    else:
        assert [to_id(f"<|_padding_{i}|>") for i in range(9)] == list(PADDING_IDS)
        for name, index in R1_IDS.items():
            assert index in PADDING_IDS or to_id(f"<|{name}|>") == index
    assert len(special_names(layout)) == 29 and len(set(special_names(layout))) == 29


@pytest.mark.parametrize("layout", ["r1", "1.5"])
def test_every_published_setting(layout):
    config = released(layout)
    space, tokens, frames, expert = config.action_space(), config.traj_tokens(), config.frames(), config.expert()
    assert (space.accel_mean_mps2, space.accel_std_mps2) == (0.02902694707164455, 0.6810426736454882)
    assert (space.curvature_mean_1pm, space.curvature_std_1pm) == (0.0002692167976330542, 0.026148280660833106)
    assert space.accel_bounds_mps2 == (-9.8, 9.8) and space.curvature_bounds_1pm == (-0.33, 0.33)
    assert (space.dt_s, space.n_waypoints, space.stats_dtype) == (0.1, 64, "bfloat16")
    solver = (space.heading_lambda, space.heading_ridge, space.speed_lambda, space.speed_ridge, space.accel_lambda,
              space.accel_ridge, space.curvature_lambda, space.curvature_ridge)  # fmt: skip
    assert solver == (1e-6, 1e-8, 1e-6, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4)
    assert (config.future_bins, config.history_bins, config.vocab_size) == (3000, 1000, 155_697)
    assert (config.traj_token_start_idx, config.tokens_per_future_traj) == (151_669, 128)
    assert config.tokens_per_history_traj == tokens.tokens_per_history_traj == 48
    assert tokens.future_dims_min == (-10, -10) and tokens.future_dims_max == (10, 10)
    assert tokens.history_min_m == (-4, -4, -10) and tokens.history_max_m == (4, 4, 10)
    assert (frames.min_pixels, frames.max_pixels, frames.patch_size, frames.merge_size) == (163_840, 196_608, 16, 2)
    assert frames.frame_offsets_s == (-0.3, -0.2, -0.1, 0.0) and len(frames.camera_names) == 4
    assert config.action_in_proj_cfg == {
        "num_enc_layers": 2, "hidden_size": 512, "max_freq": 100.0, "num_fourier_feats": 20, "freqs_dtype": "bfloat16",
    }  # fmt: skip
    assert config.flow_steps == 10 and (BETA_ALPHA, TIME_SCALE) == (1.5, 0.999)
    assert (expert.hidden_size, expert.intermediate_size, expert.num_attention_heads) == (2048, 8256, 16)
    assert (expert.num_hidden_layers, expert.num_key_value_heads, expert.head_dim) == (36, 8, 128)
    assert expert.rms_norm_eps == 1e-6 and expert.rope_parameters["rope_theta"] == 5_000_000
    assert expert.rope_parameters["mrope_section"] == [24, 20, 20] and expert.rope_parameters["mrope_interleaved"]
    vision, text = config.vlm().vision_config, config.vlm().text_config
    assert (text.hidden_size, text.num_attention_heads, text.intermediate_size) == (4096, 32, 12_288)
    assert (vision.depth, vision.hidden_size, vision.num_heads, vision.intermediate_size) == (27, 1152, 16, 4304)
    assert vision.deepstack_visual_indexes == [8, 16, 24] and vision.out_hidden_size == 4096
    assert not config.vlm().tie_word_embeddings
    assert (config.mask_padding, config.persistent_buffers) == ((False, True) if layout == "r1" else (True, False))


def test_the_whole_model_counts_as_published(capsys):
    inspection.run(inspection.InspectConfig("alpamayo"))
    shown = capsys.readouterr().out
    parts = {part.name: part.parameters for part in inspection.parts_of(*inspection.described("alpamayo"))}
    assert parts["action input"] == 1_349_632 and parts["action output"] == 4_098
    assert round(parts["trajectory decoder"] / 1e9, 3) == 2.279
    language = sum(parts[name] for name in ("embeddings", "language model", "language head"))
    assert round(language / 1e9, 3) == 8.222 and round(sum(parts.values()) / 1e9, 2) == 11.08
    assert "11.08 B" in shown and "2,279,238,656" in shown
    for layout, count in (("r1", 416), ("1.5", 409)):
        with torch.device("meta"):
            names = CausalDriveModel(released(layout)).state_dict()
        outside = [name for name in names if not name.startswith("vlm.")]
        assert len(outside) == count and len([n for n in outside if n.startswith("expert.")]) == 397
        assert set(BUFFERS) <= set(outside) or layout == "1.5"


def test_the_decoder_beside_an_8b_backbone_is_the_released_one():
    assert expert_beside(qwen3_vl("8b")["text_config"]) == {
        "hidden_size": 2048, "intermediate_size": 8256, "num_attention_heads": 16,
    }  # fmt: skip


@pytest.mark.parametrize("what", ["tiny", "small", "2b", "4b", "8b"])
def test_every_preset_can_be_inspected(what, capsys):
    inspection.run(inspection.InspectConfig(what))
    assert "trajectory decoder" in capsys.readouterr().out


def test_a_checkpoint_can_be_inspected_and_an_unknown_name_is_answered(student, tmp_path, capsys):
    from causaldrive.student import checkpoint

    checkpoint.save(tmp_path, *student)
    inspection.run(inspection.InspectConfig(str(tmp_path)))
    assert f"{sum(p.numel() for p in student[0].parameters()):,}" in capsys.readouterr().out
    with pytest.raises(UserError, match="Did you mean alpamayo"):
        inspection.run(inspection.InspectConfig("alpamajo"))


def test_cameras_are_sorted_by_their_released_index():
    names = ("camera_front_tele_30fov", "mine", "camera_front_wide_120fov", "camera_cross_left_120fov")
    assert in_prompt_order("1.5", names) == (
        "camera_cross_left_120fov", "camera_front_wide_120fov", "camera_front_tele_30fov", "mine",
    )  # fmt: skip
    assert in_prompt_order("causaldrive", names) == names
    assert list(RELEASED_CAMERAS.values()) == [
        "Front left camera", "Front camera", "Front right camera", "Rear left camera", "Rear camera",
        "Rear right camera", "Front telephoto camera",
    ]  # fmt: skip
