"""Resumable training states: `state/step-000100/` with weights, optimizer moments and generator, whole or absent.

Files are safetensors and JSON. Data order and schedule are functions of the step, so the step is all they need.
Knows nothing of losses or data.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import atomic_directory, atomic_path, read_json, write_json
from causaldrive.sft.optim import MovingAverage, MuonAndAdamW
from causaldrive.sft.shards import cut_like, whole

FORMAT = 1
_KEPT = 2  # newest states on disk: one more than needed, should the newest turn out to be damaged


@dataclass
class TrainState:
    """Everything that one optimizer step changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer | MuonAndAdamW
    generator: torch.Generator
    average: MovingAverage | None = None
    step: int = 0  # optimizer steps done


def save_state(parent: Path, state: TrainState, write: bool = True) -> None:
    """Write `parent/step-NNNNNN` and drop all but the newest states.

    Of several processes all must call, to put cut tensors together, and one says `write`.
    """
    tensors = _tensors(state)
    if not write:
        return
    with atomic_directory(parent / f"step-{state.step:06d}") as directory:
        save_file(tensors, directory / "state.safetensors")
        write_json(directory / "state.json", {"format": FORMAT, "step": state.step})
    for old in _states(parent)[:-_KEPT]:
        shutil.rmtree(old)


def restore_state(parent: Path, state: TrainState) -> bool:
    """Bring `state` to the newest one under `parent`; False when there is none. Raises UserError when it is damaged."""
    found = _states(parent)
    if not found:
        return False
    path = found[-1] / "state.safetensors"
    head = read_json(found[-1] / "state.json")
    try:
        tensors = load_file(path)
        _apply(state, tensors)
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise UserError(
            f"{path} does not fit this run ({error}); delete {found[-1]} to continue from the state before it."
        ) from error
    state.step = int(head["step"])
    return True


def keep_best(parent: Path, step: int, weights: dict[str, Tensor], write: bool = True) -> None:
    """Write `parent/best.safetensors`, in place of an earlier one."""
    if write:
        parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(parent / "best.safetensors") as path:
            save_file(weights, path, {"step": str(step)})


def read_best(parent: Path) -> tuple[int, dict[str, Tensor]] | None:
    """Step and weights of the best so far; None when there are none."""
    path = parent / "best.safetensors"
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        return int(file.metadata()["step"]), dict(zip(names, map(file.get_tensor, names), strict=True))


def _states(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("step-*") if path.is_dir())


def _learnt(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _tensors(state: TrainState) -> dict[str, Tensor]:
    tensors = {"generator": state.generator.get_state()}
    for name, parameter in _learnt(state.model).items():
        tensors[f"weight.{name}"] = parameter.detach()
        for slot, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"{slot}.{name}"] = value
    if state.average is not None:
        tensors |= {f"average.{name}": value for name, value in state.average.weights.items()}
    return {name: whole(value).cpu().contiguous() for name, value in tensors.items()}


def final_weights(state: TrainState) -> dict[str, Tensor]:
    """Learnt weights by name as they are to be saved, averaged where an average is kept; whole, on the CPU."""
    learnt = {name: parameter.detach() for name, parameter in _learnt(state.model).items()}
    found = state.average.weights if state.average is not None else learnt
    return {name: whole(value).cpu().contiguous() for name, value in found.items()}


@torch.no_grad()
def _apply(state: TrainState, tensors: dict[str, Tensor]) -> None:
    state.generator.set_state(tensors["generator"])
    for name, parameter in _learnt(state.model).items():
        parameter.copy_(cut_like(tensors[f"weight.{name}"], parameter))
        slots = {slot: tensors[key] for slot in ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
                 if (key := f"{slot}.{name}") in tensors}  # fmt: skip
        if slots:
            state.optimizer.state[parameter] = {
                slot: cut_like(value, parameter) if value.shape == parameter.shape else value.to(parameter.device)
                for slot, value in slots.items()
            }
    if state.average is not None:
        for name, value in state.average.weights.items():
            value.copy_(cut_like(tensors[f"average.{name}"], value))
