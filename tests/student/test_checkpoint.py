"""Checkpoints: nothing is lost, and broken or foreign ones are named in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from student_drives import TRACES, make_sample, make_student

from causaldrive.ground.errors import UserError
from causaldrive.student import checkpoint
from causaldrive.student.generate import generate
from causaldrive.student.model import build


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint") / "student"
    checkpoint.save(directory, *make_student())
    return directory


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def edit_config(directory: Path, **changes) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_loaded_student_is_the_saved_one(saved, student):
    model, processor = checkpoint.load(saved)
    for name, value in student[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    for name, value in student[0].named_buffers():
        assert torch.equal(model.get_buffer(name), value), name
    ours, theirs = (json.loads(c.to_json_string(use_diff=False)) for c in (student[1].config, processor.config))
    apart = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    assert apart <= {"architectures", "dtype", "_name_or_path", "transformers_version"}
    options = {"seed": [3], "max_trace_tokens": 6, "flow_steps": 2}
    ours, theirs = (generate(*pair, [make_sample(0)], **options)[0][0] for pair in (student, (model, processor)))
    assert ours.trace == theirs.trace and np.array_equal(ours.xyz_in_rig_m, theirs.xyz_in_rig_m)
    assert processor.tokenizer.encode(TRACES[0]) == student[1].tokenizer.encode(TRACES[0])


def test_files_and_card(saved):
    names = {path.name for path in saved.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "README.md"} <= names
    assert not any(name.startswith(".checkpoint") or name.endswith((".bin", ".pkl", ".pt")) for name in names)
    assert "trajectory decoder" in (saved / "README.md").read_text()


def test_saving_again_into_the_same_directory(copy, student):
    other, processor = make_student(seed=5)
    (copy / "run.json").write_text("{}")
    checkpoint.save(copy, other, processor)
    loaded, _ = checkpoint.load(copy)
    assert torch.equal(loaded.action_out_proj.weight, other.action_out_proj.weight)
    assert not torch.equal(loaded.action_out_proj.weight, student[0].action_out_proj.weight)
    assert (copy / "run.json").exists()


def test_the_same_seed_builds_the_same_weights(student):
    config = student[1].config
    state = torch.get_rng_state()
    a, b, c = build(config, 1), build(config, 1), build(config, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a.expert.layers[0].mlp.up_proj.weight, b.expert.layers[0].mlp.up_proj.weight)
    assert not torch.equal(a.expert.layers[0].mlp.up_proj.weight, c.expert.layers[0].mlp.up_proj.weight)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="not a directory"):
        checkpoint.load(tmp_path / "none")
    with pytest.raises(UserError, match=r"config\.json is missing"):
        checkpoint.load(tmp_path)


def test_another_architecture(copy):
    edit_config(copy, model_type="qwen3_vl")
    with pytest.raises(UserError, match=r"model_type is 'qwen3_vl'.*another architecture"):
        checkpoint.load(copy)


def test_a_newer_version(copy):
    edit_config(copy, architecture_version=99)
    with pytest.raises(UserError, match="architecture_version is 99"):
        checkpoint.load(copy)


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_truncated_weights(copy, keep):
    path = copy / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match="cannot be loaded as a checkpoint") as error:
        checkpoint.load(copy)
    assert "\n" not in str(error.value)


def test_missing_weights_file_and_missing_tensor(copy):
    path = copy / "model.safetensors"
    tensors = load_file(path)
    del tensors["action_out_proj.bias"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 missing keys.*action_out_proj\.bias"):
        checkpoint.load(copy)
    path.unlink()
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        checkpoint.load(copy)


def test_a_tokenizer_of_another_student(copy):
    edit_config(copy, special_token_ids={"cot_start": 3})
    with pytest.raises(UserError, match=r"the tokenizer has <\|"):
        checkpoint.load(copy)


def test_a_tensor_of_another_size(copy):
    path = copy / "model.safetensors"
    tensors = load_file(path)
    tensors["action_out_proj.bias"] = torch.zeros(3)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError):
        checkpoint.load(copy)
