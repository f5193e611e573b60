"""`student convert`: released directories in and out without a changed byte, and broken ones named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_releases import SHARDS, write_release, write_sharded

from causaldrive.ground.errors import UserError
from causaldrive.student import checkpoint
from causaldrive.student.convert import ConvertConfig, flat_name, full_name, run
from causaldrive.student.released import BUFFERS


@pytest.fixture(scope="module", params=["r1", "1.5"])
def release(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("release") / "source"
    return request.param, directory, write_release(directory, request.param)


def tensors_of(directory: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in directory.glob("model*.safetensors") for name, t in load_file(file).items()}


def same(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[n].dtype == t.dtype and torch.equal(ours[n].view(torch.uint8), t.view(torch.uint8))
        if t.ndim
        else ours[n].dtype == t.dtype and torch.equal(ours[n], t)
        for n, t in theirs.items()
    )


def copied(release, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release[1], tmp_path / "copy"))


def test_there_and_back_every_byte_is_equal(release, tmp_path, capsys):
    layout, source, tensors = release
    outside = [name for name in tensors if not name.startswith("vlm.")]
    assert len(outside) == 2 * 11 + 1 + 10 + 2 + (7 if layout == "r1" else 0)
    run(ConvertConfig(source, tmp_path / "ours"))
    model, processor = checkpoint.load(tmp_path / "ours", torch.bfloat16)
    assert same(model.state_dict(), tensors)
    for name in BUFFERS:
        assert model.get_buffer(name).float().abs().sum() > 0
    assert len(processor.tokenizer) == model.config.vocab_size and model.config.prompt_layout == layout
    run(ConvertConfig(tmp_path / "ours", tmp_path / "back", to=f"released-{layout}"))
    for file in sorted(source.glob("model-*.safetensors")):
        assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes()
        assert (tmp_path / "ours" / file.name).read_bytes() == file.read_bytes()
    for name in ("config.json", "model.safetensors.index.json"):
        assert json.loads((tmp_path / "back" / name).read_text()) == json.loads((source / name).read_text())
    assert "expert" in capsys.readouterr().out and (tmp_path / "back" / "report.html").exists()


def test_the_other_kind_and_back_loses_nothing(release, tmp_path, capsys):
    layout, source, tensors = release
    other = {"r1": "1.5", "1.5": "r1"}[layout]
    run(ConvertConfig(source, tmp_path / "ours"))
    run(ConvertConfig(tmp_path / "ours", tmp_path / "other", to=f"released-{other}"))
    made = tensors_of(tmp_path / "other")
    assert {n for n in made if n in BUFFERS} == (set(BUFFERS) if other == "r1" else set())
    said = capsys.readouterr().out
    assert all(name in said for name in BUFFERS)
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert config["model_type"] == {"r1": "alpamayo_r1", "1.5": "alpamayo1_5"}[other]
    assert config["action_space_cfg"]["_target_"].startswith(config["model_type"])
    run(ConvertConfig(tmp_path / "other", tmp_path / "again"))
    run(ConvertConfig(tmp_path / "again", tmp_path / "back", to=f"released-{layout}"))
    assert same(tensors_of(tmp_path / "back"), tensors)


def test_an_unknown_tensor_is_named_and_comes_back(release, tmp_path, capsys):
    layout, _, tensors = release
    source = copied(release, tmp_path)
    file = sorted(source.glob("model-*"))[0]
    part = load_file(file) | {"expert.extra.weight": torch.arange(3.0)}
    save_file(part, file, metadata={"format": "pt"})
    run(ConvertConfig(source, tmp_path / "ours"))
    assert "expert.extra.weight" in capsys.readouterr().out
    checkpoint.load(tmp_path / "ours")
    run(ConvertConfig(tmp_path / "ours", tmp_path / "back", to=f"released-{layout}"))
    kept = load_file(tmp_path / "back" / "unknown_tensors.safetensors")
    assert torch.equal(kept["expert.extra.weight"], torch.arange(3.0)) and same(tensors_of(tmp_path / "back"), tensors)


def test_an_export_of_the_backbone_gets_its_decoder_from_a_full_release(release, tmp_path):
    _, source, tensors = release
    backbone = {name: value for name, value in tensors.items() if name.startswith("vlm.")}
    config = json.loads((source / "config.json").read_text())
    names = {"sft": lambda n: n, "rl": lambda n: f"reasoning_vla.{n}", "alpagym": flat_name}
    for kind, rename in names.items():
        export = tmp_path / kind
        moved = {rename(name): value * 2 for name, value in backbone.items()}
        write_sharded(export, moved, config, shards=2)
        with pytest.raises(UserError, match="--decoder-from"):
            run(ConvertConfig(export, tmp_path / f"{kind}-alone"))
        run(ConvertConfig(export, tmp_path / f"{kind}-whole", decoder_from=source))
        expected = {name: value * 2 if name in backbone else value for name, value in tensors.items()}
        assert same(tensors_of(tmp_path / f"{kind}-whole"), expected)
    run(ConvertConfig(tmp_path / "sft-whole", tmp_path / "flat", to="alpagym"))
    assert same(tensors_of(tmp_path / "flat"), tensors_of(tmp_path / "alpagym"))
    assert all(full_name(flat_name(name)) == name for name in backbone)
    assert "model.norm.weight" in tensors_of(tmp_path / "flat")


def test_broken_directories_are_told_in_a_sentence(release, tmp_path):
    def refused(source: Path, message: str, **options):
        with pytest.raises(UserError, match=message) as error:
            run(ConvertConfig(source, tmp_path / f"out{len(list(tmp_path.iterdir()))}", **options))
        assert "\n" not in str(error.value)

    source = copied(release, tmp_path)
    first, second = sorted(source.glob("model-*"))[:2]
    whole = first.read_bytes()
    first.write_bytes(whole[:-10])
    refused(source, f"{first.name} is truncated or damaged")
    first.unlink()
    refused(source, f"{first.name} is missing, though the index names it")
    first.write_bytes(whole)
    kept = load_file(second)
    name = next(n for n in sorted(kept) if kept[n].ndim == 2)
    save_file(kept | {name: torch.zeros(3, 4)}, second, metadata={"format": "pt"})
    refused(source, r"has shape \[3, 4\], config.json and the backbone say")
    save_file({n: t for n, t in kept.items() if n != name}, second, metadata={"format": "pt"})
    refused(source, f"lacks {name}, which the index puts there")
    refused(tmp_path / "none", "config.json is missing")
    refused(release[1], "Did you mean released-r1", to="released-r2")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"traj_token_start_idx": 7}))
    refused(source, "the backbone's tokenizer puts the special strings at")
    (source / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    refused(source, "model_type is 'llama', expected one of alpamayo_r1, alpamayo1_5")


def test_our_own_students_have_no_released_form(student, tmp_path):
    checkpoint.save(tmp_path / "tiny", *student)
    with pytest.raises(UserError, match="only students converted from a release"):
        run(ConvertConfig(tmp_path / "tiny", tmp_path / "out", to="released-r1"))


def test_shards_of_the_small_release_are_really_several(release):
    files = sorted(release[1].glob("model-*"))
    assert len(files) == SHARDS
    with safe_open(files[0], framework="pt") as file:
        assert len(list(file.keys())) > 10
