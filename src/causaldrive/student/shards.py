"""Weights spread over safetensors files: where each tensor lies, and the same files under other names.

Reads `model.safetensors` or the shards of `model.safetensors.index.json`; writes the same, a file at a time. A file of
which nothing changes is copied byte for byte. Knows nothing of what the tensors mean.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import atomic_path, read_json, write_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Stored:
    """One tensor on disk."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str  # as safetensors writes it: 'BF16', 'F32', ...


@dataclass
class Shard:
    """One file to write: tensors from other files under new names, and tensors of our own."""

    name: str
    stored: dict[str, Stored] = field(default_factory=dict)
    made: dict[str, Tensor] = field(default_factory=dict)


def read_shards(directory: Path) -> list[Shard]:
    """The weights in `directory`, a Shard a file, tensors under their own names.

    Raises UserError for a missing or truncated shard, or one that lacks a tensor of the index.
    """
    index = directory / INDEX
    if not index.exists():
        if not (directory / SINGLE).exists():
            raise UserError(f"{directory} holds neither {INDEX} nor {SINGLE}; expected the weights there.")
        return [read_file(directory / SINGLE)]
    listed: dict[str, set[str]] = {}
    for name, file in read_json(index)["weight_map"].items():
        listed.setdefault(file, set()).add(name)
    return [read_file(directory / file, names) for file, names in sorted(listed.items())]


def read_file(path: Path, listed: set[str] | None = None) -> Shard:
    """One file as it is. Raises UserError when it is missing, damaged, or lacks a tensor of `listed`."""
    if not path.exists():
        raise UserError(f"{path} is missing, though the index names it; fetch or copy that shard again.")
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            found = {n: Stored(path, n, tuple(s.get_shape()), s.get_dtype()) for n, s in slices.items()}
    except SafetensorError as error:
        raise UserError(
            f"{path} is truncated or damaged ({str(error)[:120]}); fetch or copy that shard again."
        ) from error
    absent = sorted((listed or set()) - set(found))
    if absent:
        raise UserError(f"{path} lacks {absent[0]}, which the index puts there; fetch index and shard again.")
    return Shard(path.name, found)


def write_shards(directory: Path, shards: list[Shard]) -> None:
    """Write the files, and an index where there are several."""
    for shard in shards:
        write_file(directory, shard)
    if [shard.name for shard in shards] != [SINGLE]:
        write_json(directory / INDEX, _index(directory, shards))


def write_file(directory: Path, shard: Shard) -> None:
    """One file, outside any index."""
    with atomic_path(directory / shard.name) as temporary:
        if source := _untouched(shard):
            shutil.copyfile(source, temporary)
        else:
            save_file(_gather(shard), temporary, metadata={"format": "pt"})


def _untouched(shard: Shard) -> Path | None:
    """The one file that `shard` holds whole and under the same names."""
    files = {stored.file for stored in shard.stored.values()}
    if shard.made or len(files) != 1 or any(name != stored.name for name, stored in shard.stored.items()):
        return None
    (file,) = files
    return file if set(read_file(file).stored) == set(shard.stored) else None


def _gather(shard: Shard) -> dict[str, Tensor]:
    tensors = dict(shard.made)
    for file in {stored.file for stored in shard.stored.values()}:
        with safe_open(file, framework="pt") as opened:
            for name, stored in shard.stored.items():
                if stored.file == file:
                    tensors[name] = opened.get_tensor(stored.name)
    return tensors


def load_tensor(stored: Stored) -> Tensor:
    """One tensor from disk."""
    with safe_open(stored.file, framework="pt") as file:
        return file.get_tensor(stored.name)


def _index(directory: Path, shards: list[Shard]) -> Mapping[str, object]:
    names = {name: shard.name for shard in shards for name in sorted({*shard.stored, *shard.made})}
    size = sum(_data_bytes(directory / shard.name) for shard in shards)
    return {"metadata": {"total_size": size}, "weight_map": dict(sorted(names.items()))}


def _data_bytes(path: Path) -> int:
    """Bytes of tensors: the file without its header and the eight bytes of the header's length."""
    with path.open("rb") as stream:
        return path.stat().st_size - 8 - int.from_bytes(stream.read(8), "little")
