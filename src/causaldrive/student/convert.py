"""The `student convert` stage: a released Alpamayo directory to ours and back, file by file, never whole in memory.

Reads `config.json` and safetensors shards of R1 (416 tensors beside the backbone) and 1.5 (409), of exports that hold
the backbone alone (`vlm.*`, or flattened to `model.*`, `visual.*`, `lm_head`), and of students converted before; writes
the other kind, shard by shard. Values are never touched. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tyro.conf import Positional

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.files import read_json, write_json, write_text
from causaldrive.ground.page import Section, Table, write_page
from causaldrive.ground.runs import open_run
from causaldrive.student.action_space import UnicycleActionSpace
from causaldrive.student.backbone import backbone_config, backbone_tokenizer, find_backbone
from causaldrive.student.checkpoint import model_card
from causaldrive.student.config import StudentConfig
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.projections import FourierFeatures
from causaldrive.student.released import BUFFERS, layout_of, released_json_of, student_config
from causaldrive.student.shards import Shard, Stored, load_tensor, read_file, read_shards, write_file, write_shards
from causaldrive.student.text import extend_tokenizer

TARGETS = ("causaldrive", "released-r1", "released-1.5", "alpagym")
UNKNOWN = "unknown_tensors.safetensors"  # what no student has: carried along and named, never loaded


@dataclass(frozen=True)
class ConvertConfig:
    """A released Alpamayo directory to a student, or such a student back; no tensor is lost or changed."""

    source: Positional[Path]  # released directory, export of its backbone, or a student converted before
    out: Path  # directory to write
    to: str = "causaldrive"  # causaldrive, released-r1, released-1.5, or alpagym (backbone alone, flattened names)
    backbone: str = ""  # its configuration and tokenizer: directory or hub id; empty: what config.json names
    decoder_from: Path | None = None  # full release whose decoder completes an export of the backbone alone


@dataclass(frozen=True)
class _Plan:
    """Files to write, and what is to be said about them."""

    shards: list[Shard]
    unknown: dict[str, Stored]
    added: list[str]
    dropped: list[str]


def run(config: ConvertConfig) -> None:
    """Raises UserError for a directory of another kind, a broken shard, or a tensor that is missing or misshapen."""
    if config.to not in TARGETS:
        raise unknown_name("student convert: --to", config.to, TARGETS)
    for path in (config.source, config.decoder_from):
        if path is not None and not (path / "config.json").exists():
            raise UserError(f"{path / 'config.json'} is missing; pass a directory that holds a released model.")
    with open_run(config.out, "student convert", config, {"config": config.source / "config.json"}) as opened:
        if opened.done:
            return
        student, processor = _student_of(config)
        model = _on_meta(_for_target(student, config.to))
        plan = _plan(config, model)
        write_shards(config.out, plan.shards)
        if plan.unknown:
            write_file(config.out, Shard(UNKNOWN, plan.unknown))
        _write_rest(config, model, processor)
        _report(config, plan, model)
        opened.log(tensors=sum(len(s.stored) + len(s.made) for s in plan.shards), unknown=sorted(plan.unknown))


def _student_of(config: ConvertConfig) -> tuple[StudentConfig, StudentProcessor | None]:
    """The source as a student's configuration, and its processor where one will be written."""
    found = read_json(config.source / "config.json")
    if found.get("model_type") == StudentConfig.model_type:
        return StudentConfig.from_pretrained(config.source), None
    if config.decoder_from is not None:
        found = read_json(config.decoder_from / "config.json")
    layout = layout_of(found, str((config.decoder_from or config.source) / "config.json"))
    directory = find_backbone(config.backbone or str(found.get("vlm_name_or_path", "")))
    tokenizer = backbone_tokenizer(directory)
    text = len(tokenizer) - len(tokenizer.get_added_vocab())
    bins = (found["traj_tokenizer_cfg"]["num_bins"], found["hist_traj_tokenizer_cfg"]["num_bins"])
    ids = extend_tokenizer(tokenizer, *bins, layout)
    student = student_config(found, backbone_config(directory), ids, text)
    return student, StudentProcessor(tokenizer, student)


def _for_target(student: StudentConfig, target: str) -> StudentConfig:
    """The configuration whose tensors the target holds: R1 keeps its seven buffers in the file, 1.5 does not."""
    if target.startswith("released-"):
        released_json_of(student, target.removeprefix("released-"))  # refuses students of our own layout
        student.persistent_buffers = target == "released-r1"
    return student


def _on_meta(student: StudentConfig) -> CausalDriveModel:
    with torch.device("meta"):
        return CausalDriveModel(student)


def _plan(config: ConvertConfig, model: CausalDriveModel) -> _Plan:
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if model.config.vlm().tie_word_embeddings:
        expected.pop("vlm.lm_head.weight")
    shards = _renamed(read_shards(config.source))
    extra = config.source / UNKNOWN
    carried = list(read_file(extra).stored.values()) if extra.exists() else []
    if config.decoder_from is not None:
        shards.append(_decoder_of(config.decoder_from, shards))
    dropped = _drop_buffers(shards, model.config, expected)
    unknown = [stored for shard in shards for name, stored in list(shard.stored.items()) if name not in expected]
    for shard in shards:
        shard.stored = {name: stored for name, stored in shard.stored.items() if name in expected}
    _check_shapes(shards, expected)
    wanted = {name for name in expected if config.to != "alpagym" or name.startswith("vlm.")}
    added = _add_buffers(shards, model.config, wanted)
    _check_complete(config, shards, wanted)
    if config.to == "alpagym":
        dropped += _flatten(shards)
    shards = [shard for shard in shards if shard.stored or shard.made]
    lost = {stored.name: stored for stored in [*unknown, *carried]}
    return _Plan(shards, lost, added, dropped)


def full_name(name: str) -> str:
    """A tensor's name in any export as the full model has it: `model.norm.weight` -> `vlm.model.language_model...`."""
    name = name.removeprefix("reasoning_vla.")
    if name.startswith("visual."):
        return f"vlm.model.{name}"
    if name.startswith(("model.visual.", "model.language_model.", "lm_head.")):
        return f"vlm.{name}"
    if name.startswith("model."):
        return f"vlm.model.language_model.{name.removeprefix('model.')}"
    return name


def flat_name(name: str) -> str:
    """Inverse of `full_name` for tensors of the backbone, as AlpaGym exports them."""
    name = name.removeprefix("vlm.")
    return name.replace("model.language_model.", "model.", 1).replace("model.visual.", "visual.", 1)


def _renamed(shards: list[Shard]) -> list[Shard]:
    return [Shard(shard.name, {full_name(name): stored for name, stored in shard.stored.items()}) for shard in shards]


def _decoder_of(directory: Path, shards: list[Shard]) -> Shard:
    """Everything beside the backbone of a full release, as one more file; the export's own tensors win."""
    own = {name for shard in shards for name in shard.stored}
    found = {name: stored for shard in read_shards(directory) for name, stored in shard.stored.items()}
    kept = {name: stored for name, stored in found.items() if not name.startswith("vlm.") and name not in own}
    return Shard("model-decoder.safetensors", kept)


def _drop_buffers(shards: list[Shard], student: StudentConfig, expected: Mapping[str, Any]) -> list[str]:
    """Take out the buffers that the target makes from its configuration. Raises UserError where that would lose one."""
    dropped, made = [], buffers_of(student)
    for shard in shards:
        for name in [n for n in shard.stored if n in BUFFERS and n not in expected]:
            stored = shard.stored.pop(name)
            if not torch.equal(load_tensor(stored).float(), made[name].float()):
                raise UserError(
                    f"{stored.file}: {name} is not what config.json says, and the target does not keep it in the "
                    "weights; convert to causaldrive or released-r1, which do."
                )
            dropped.append(name)
    return sorted(dropped)


def _add_buffers(shards: list[Shard], student: StudentConfig, wanted: set[str]) -> list[str]:
    """Put in the buffers that the target keeps in its weights and the source made from its configuration."""
    found = {name for shard in shards for name in shard.stored}
    made = {name: value for name, value in buffers_of(student).items() if name in wanted - found}
    shards[-1].made |= made
    return sorted(made)


def buffers_of(student: StudentConfig) -> dict[str, Tensor]:
    """The seven buffers as a release stores them: in the precision that its statistics were rounded to."""
    projection = {name: v for name, v in student.action_in_proj_cfg.items() if name in _FOURIER}
    freqs = FourierFeatures(
        projection["num_fourier_feats"], projection.get("min_freq", 1.0), projection["max_freq"],
        projection.get("freqs_dtype", "float32"),
    ).freqs  # fmt: skip
    space = UnicycleActionSpace(student.action_space())
    dtype = getattr(torch, student.action_space().stats_dtype)
    made = {name: freqs if name.endswith("freqs") else space.get_buffer(name.split(".")[-1]) for name in BUFFERS}
    return {name: value.to(dtype).clone() for name, value in made.items()}


_FOURIER = ("num_fourier_feats", "min_freq", "max_freq", "freqs_dtype")


def _check_shapes(shards: list[Shard], expected: Mapping[str, tuple[int, ...]]) -> None:
    for shard in shards:
        for name, stored in shard.stored.items():
            if stored.shape != expected[name]:
                raise UserError(
                    f"{stored.file}: {stored.name} has shape {list(stored.shape)}, config.json and the backbone say "
                    f"{list(expected[name])}; pass the backbone of this release, or fetch the shard again."
                )


def _check_complete(config: ConvertConfig, shards: list[Shard], wanted: set[str]) -> None:
    found = {name for shard in shards for name in (*shard.stored, *shard.made)}
    missing = sorted(wanted - found)
    if not missing:
        return
    only_backbone = not any(name.startswith("expert.") for name in found)
    help_ = "pass the full release it came from as --decoder-from" if only_backbone else "fetch its weights again"
    raise UserError(f"{config.source} lacks {len(missing)} tensors, the first is {missing[0]}; {help_}.")


def _flatten(shards: list[Shard]) -> list[str]:
    """Keep the backbone alone, under AlpaGym's names; returns what was left out."""
    left_out = []
    for shard in shards:
        left_out += [name for name in (*shard.stored, *shard.made) if not name.startswith("vlm.")]
        shard.stored = {flat_name(name): s for name, s in shard.stored.items() if name.startswith("vlm.")}
        shard.made = {}
    return sorted(left_out)


def _write_rest(config: ConvertConfig, model: CausalDriveModel, processor: StudentProcessor | None) -> None:
    """Configuration, tokenizer and card; config.json last, as the directory's seal."""
    if config.to.startswith("released-"):
        write_json(config.out / "config.json", released_json_of(model.config, config.to.removeprefix("released-")))
    elif config.to == "alpagym":
        write_json(config.out / "config.json", model.config.vlm().to_dict())
    else:
        (processor or StudentProcessor.from_pretrained(config.source)).save_pretrained(config.out)
        text = f"Converted from a released {model.config.released_config['model_type']} model; weights unchanged."
        write_text(config.out / "README.md", model_card(model, text))
        model.config.save_pretrained(config.out)


def _report(config: ConvertConfig, plan: _Plan, model: CausalDriveModel) -> None:
    """Prints and writes what went where; every tensor that is not an ordinary one is named."""
    rows = []
    for part in ("vlm.model.language_model", "vlm.model.visual", "vlm.lm_head", "expert", "action_"):
        names = [full_name(n) for s in plan.shards for n in (*s.stored, *s.made)]
        rows.append([part, sum(name.startswith(part) for name in names)])
    for what, names in ((f"unknown, kept in {UNKNOWN}", sorted(plan.unknown)), ("made from config.json", plan.added),
                        ("left out", plan.dropped)):  # fmt: skip
        rows += [[f"{what}: {name}", 1] for name in names]
    for name, count in rows:
        print(f"{name:60s} {count:>6}")
    note = f"{config.source.name} to {config.to}; values unchanged."
    write_page(config.out / "report.html", "Converted", [Section("Tensors", [Table(["tensors", "count"], rows)])], note)
