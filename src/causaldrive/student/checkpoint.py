"""Checkpoints as Hugging Face directories: save whole or not at all, load or say in one sentence why not.

`config.json`, `model.safetensors`, tokenizer files, `processor_config.json`, `README.md` (the model card). safetensors
only. Knows nothing of training.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils import logging as hf_logging

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json, write_text
from causaldrive.student.config import ARCHITECTURE_VERSION, StudentConfig
from causaldrive.student.model import CausalDriveModel, parameter_counts
from causaldrive.student.processor import StudentProcessor


def save(directory: Path, model: CausalDriveModel, processor: StudentProcessor, card: str = "") -> None:
    """Write a checkpoint into `directory` (which may hold other files); `config.json` comes last, as its seal.

    `card` is put into README.md under the size table.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".checkpoint.", suffix=".part") as name:
        temporary = Path(name)
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        write_text(temporary / "README.md", model_card(model, card))
        for file in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):
            file.replace(directory / file.name)


def load(directory: Path | str, dtype: torch.dtype = torch.float32) -> tuple[CausalDriveModel, StudentProcessor]:
    """Model in evaluation mode, and processor.

    Raises UserError for a directory that is no student, is of another architecture or a newer version, or whose weights
    are truncated or do not fit.
    """
    path = Path(directory)
    _check_config(path)
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # missing weights become our one sentence instead of a table
    try:
        processor = StudentProcessor.from_pretrained(path)
        loaded: Any = CausalDriveModel.from_pretrained(path, dtype=dtype, output_loading_info=True)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} cannot be loaded as a checkpoint ({_first_line(error)}); a file is missing, truncated or "
            "damaged, so write or copy it again."
        ) from error
    finally:
        hf_logging.set_verbosity(verbosity)
    model, info = loaded
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if info[kind]:
            raise UserError(
                f"{path}: {len(info[kind])} {kind.replace('_', ' ')} in the weights, the first is "
                f"{sorted(map(str, info[kind]))[0]}; expected exactly the tensors that config.json describes, "
                "so take both from one and the same checkpoint."
            )
    _align(model)
    return model.eval(), processor


@torch.no_grad()
def _align(model: CausalDriveModel) -> None:
    """Copy weights out of the file's mapping, where tensors start at any byte: matrix products round differently there,
    and a loaded model must compute bit for bit what the saved one did."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def read_config(path: Path) -> dict[str, Any]:
    """`config.json` of a model directory. Raises UserError where there is none."""
    if not path.is_dir():
        raise UserError(f"{path} is not a directory; expected a checkpoint directory made by student build, sft or rl.")
    config = read_json(path / "config.json")
    return config if isinstance(config, dict) else {}


def _check_config(path: Path) -> None:
    config = read_config(path)
    found = config.get("model_type")
    if found != StudentConfig.model_type:
        raise UserError(
            f"{path / 'config.json'}: model_type is {found!r}, expected {StudentConfig.model_type!r}; this is another "
            "architecture's checkpoint, so pass a directory made by student build, sft or rl."
        )
    version = config.get("architecture_version", 0)
    if version > ARCHITECTURE_VERSION:
        raise UserError(
            f"{path / 'config.json'}: architecture_version is {version}, this program knows up to "
            f"{ARCHITECTURE_VERSION}; install a newer causaldrive."
        )
    if not any(path.glob("*.safetensors")):
        raise UserError(f"{path} holds no *.safetensors file; expected the weights there, so write or copy it again.")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def size_rows(model: CausalDriveModel) -> list[tuple[str, int]]:
    """(part, parameters), the sum last."""
    counts = parameter_counts(model)
    return [*counts.items(), ("all", sum(counts.values()))]


def model_card(model: CausalDriveModel, text: str) -> str:
    """README.md of a checkpoint."""
    config, frames = model.config, model.config.frames()
    rows = "\n".join(f"| {name} | {count:,} |" for name, count in size_rows(model))
    cameras = ", ".join(frames.camera_names) or "every camera of the sample"
    return (
        "---\nlibrary_name: causaldrive\ntags: [driving, vision-language-action]\n---\n\n"
        f"# causaldrive student, preset {config.preset}\n\n"
        "Sees camera frames and 1.6 s of ego history; writes a reason and a 6.4 s trajectory. A Qwen3-VL backbone with "
        "trajectory tokens, and a flow-matching trajectory decoder that reads its cache.\n\n"
        f"| part | parameters |\n| --- | ---: |\n{rows}\n\n"
        f"- cameras: {cameras}; frames at {', '.join(f'{s:g}' for s in frames.frame_offsets_s)} s\n"
        f"- vocabulary: {config.vocab_size} ({config.text_vocab_size} text, {config.future_bins} future bins, "
        f"{config.history_bins} history bins)\n"
        "- load with `causaldrive.student.checkpoint.load(directory)`\n\n"
        f"{text}".rstrip()
        + "\n"
    )
