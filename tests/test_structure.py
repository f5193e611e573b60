"""The shape of the package: imports point one way, modules introduce themselves, the command line is frozen."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from pathlib import Path

import pytest

from causaldrive import cli

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "causaldrive"
# DESIGN section 4: a room may import the rooms listed for it, and itself.
MAY_IMPORT = {
    "ground": set(),
    "clips": {"ground"},
    "worlds": {"ground", "clips"},
    "label": {"ground", "clips", "worlds"},
    "student": {"ground", "clips"},
    "sft": {"ground", "clips", "worlds", "label", "student"},
    "rl": {"ground", "clips", "worlds", "label", "student", "sft"},
    "evaluate": {"ground", "clips", "worlds", "label", "student", "sft", "rl"},
    "drive": {"ground", "clips", "worlds", "label", "student", "sft", "rl", "evaluate"},
    "view": {"ground", "clips", "worlds", "label", "student", "sft", "rl", "evaluate"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _rooms_imported(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "causaldrive" and len(parts) > 1 and parts[1] in MAY_IMPORT:
                rooms.add(parts[1])
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path):
    room = path.relative_to(PACKAGE).parts[0]
    if room in MAY_IMPORT:
        assert _rooms_imported(path) - {room} <= MAY_IMPORT[room]


def test_the_import_check_can_fail(tmp_path: Path):
    bad = tmp_path / "bad.py"
    bad.write_text("from causaldrive.worlds import town\nimport causaldrive.rl.stage\n")
    assert _rooms_imported(bad) == {"worlds", "rl"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_introduce_themselves(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no module docstring"


@pytest.mark.parametrize("command", cli.COMMANDS.values(), ids=lambda c: c.words)
def test_every_command_has_a_frozen_config_and_a_run(command: cli.Command):
    module = importlib.import_module(f"causaldrive.{command.module}")
    config = getattr(module, command.config)
    assert dataclasses.is_dataclass(config) and config.__dataclass_params__.frozen
    assert callable(getattr(module, command.function))


def test_public_options_are_frozen():
    """Options appear in docs/options.txt; a new one is added there on purpose, never by accident."""
    found = []
    for command in cli.COMMANDS.values():
        config = getattr(importlib.import_module(f"causaldrive.{command.module}"), command.config)
        found += [f"{command.words} {field.name}" for field in dataclasses.fields(config)]
    assert found == (ROOT / "docs" / "options.txt").read_text().splitlines()
