"""Processes and devices, through Accelerate: who this process is, where its tensors live, how processes agree.

One process, or several started by `torchrun` (or `accelerate launch`), each with its share of every batch. Replicated
(DDP), or with weights, gradients and moments cut over the processes (FSDP2). In one process every door is what it
would be without this file. Knows nothing of samples or losses.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration, broadcast_object_list
from torch import Tensor, nn

from causaldrive.ground.errors import MissingExtra, UserError
from causaldrive.ground.runs import Run, open_run
from causaldrive.sft.config import SftConfig
from causaldrive.sft.shards import cut, whole


class Witness(Run):
    """The run as every process but the first sees it: what is logged is logged by the first."""

    def log(self, **metrics: Any) -> None:
        pass

    def keep_metrics(self, keep: Any) -> None:
        pass


def _named(directory: Path) -> dict[str, dict[str, str]]:
    """Trackers know a run by the end of its path, and wandb keeps its files there and not in the working directory."""
    name = "/".join(directory.absolute().parts[-2:])
    return {"wandb": {"dir": str(directory), "name": name}, "trackio": {"name": name}}


class Harness:
    """`index` of `processes`, `main` in the first; `device`."""

    def __init__(self, config: SftConfig):
        for name in config.log:
            if importlib.util.find_spec(name) is None:
                raise MissingExtra(name, name, f"sft: --log {name}")
        AcceleratorState._reset_state(reset_partial_state=False)  # an earlier run of this process had its own precision
        self.accelerator = Accelerator(
            cpu=config.resolved_device().type == "cpu",
            mixed_precision="bf16" if config.resolved_precision() == "bf16" else "no",
            log_with=list(config.log) or None,
            project_config=ProjectConfiguration(str(config.out), logging_dir=str(config.out / "tensorboard")),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.directory = config.out
        self.main = self.accelerator.is_main_process
        self.index, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device
        self._refuse(config)

    def _refuse(self, config: SftConfig) -> None:
        if config.shard and self.processes == 1:
            raise UserError(
                "sft: --shard cuts the model over several processes, but there is one; start it with "
                "torchrun --standalone --nproc-per-node N -m causaldrive.cli sft ..., or leave --shard out."
            )
        if config.batch_size % self.processes:
            raise UserError(
                f"sft: --batch-size is {config.batch_size}, a multiple of the {self.processes} processes expected; "
                "change one of the two."
            )

    @contextlib.contextmanager
    def opened(self, directory: Path, stage: str, config: SftConfig, inputs: Mapping[str, Path]) -> Iterator[Run]:
        """`open_run` in the first process; the others witness what it found."""
        if self.main:
            with open_run(directory, stage, config, inputs) as run:
                self.agree(run.done)
                yield run
        else:
            yield Witness(directory, {}, self.agree(False))

    def agree(self, value: bool) -> bool:
        """The first process's `value`, in every process."""
        return bool(broadcast_object_list([value])[0]) if self.processes > 1 else value

    def wait(self) -> None:
        """Until every process is here."""
        self.accelerator.wait_for_everyone()

    def own(self, indices: Sequence[int]) -> Sequence[int]:
        """This process's part of a batch."""
        size = len(indices) // self.processes
        return indices[self.index * size : (self.index + 1) * size]

    def total(self, values: Iterable[float]) -> list[float]:
        """Each value summed over the processes."""
        numbers = list(values)
        if self.processes == 1:
            return numbers
        summed = self.accelerator.reduce(torch.tensor(numbers, dtype=torch.float64, device=self.device), "sum")
        return [float(x) for x in cast(Tensor, summed)]

    def prepared(self, model: nn.Module, shard: bool) -> nn.Module:
        """What to call for a forward pass; `model` itself is changed in place where it is cut."""
        if shard:
            return cut(model, self.device, self.processes)
        return self.accelerator.prepare_model(model) if self.processes > 1 else model

    @contextlib.contextmanager
    def accumulating(self, model: nn.Module, last: bool) -> Iterator[None]:
        """Gradients of replicas are only averaged after the last backward pass of a step."""
        with contextlib.nullcontext() if last or self.processes == 1 else self.accelerator.no_sync(model):
            yield

    def clip(self, parameters: Iterable[Tensor], most: float) -> float:
        """Clips the gradients' common norm to `most`; returns what it was."""
        return float(whole(cast(Tensor, self.accelerator.clip_grad_norm_(parameters, most))))

    def track(self, config: Mapping[str, Any]) -> None:
        """Opens what `--log` names."""
        if self.accelerator.log_with:
            plain = {name: value if isinstance(value, (int, float)) else str(value) for name, value in config.items()}
            self.accelerator.init_trackers("causaldrive", config=plain, init_kwargs=_named(self.directory))

    def log(self, split: str, step: int, row: Mapping[str, float]) -> None:
        """One row to every open tracker, as `split/name`."""
        self.accelerator.log({f"{split}/{name}": value for name, value in row.items()}, step=step)

    def close(self) -> None:
        """Ends the trackers' files."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
