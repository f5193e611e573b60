"""Run directories: the same command again, however its paths are written, and another one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from causaldrive.ground.errors import UserError
from causaldrive.ground.runs import open_run


@dataclass(frozen=True)
class Config:
    out: Path
    cache: Path
    mode: str = "coc"


def is_done(config: Config) -> bool:
    with open_run(config.out, "test", config) as run:
        return run.done


def test_a_path_written_from_the_root_is_the_same_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    config = Config(tmp_path / "out", Path("data/frames"))
    assert not is_done(config)
    for cache in ("data/frames", "./data/frames", tmp_path / "data" / "frames"):
        assert is_done(replace(config, cache=Path(cache)))
    with pytest.raises(UserError, match=r"was made with cache = 'data/frames', now cache = 'data/others'"):
        is_done(replace(config, cache=Path("data/others")))


def test_another_setting_into_the_same_directory_is_refused(tmp_path: Path):
    config = Config(tmp_path / "out", tmp_path / "frames")
    is_done(config)
    with pytest.raises(UserError, match=r"was made with mode = 'coc', now mode = 'trajectory'; choose another --out"):
        is_done(replace(config, mode="trajectory"))
