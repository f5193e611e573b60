"""The recipes' chain runner: what runs side by side, what a failure ends, what is written down."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    """`recipes/demo.py`, which is a script and in no package."""
    sys.path.insert(0, str(RECIPES))
    try:
        spec = importlib.util.spec_from_file_location("demo_recipe", RECIPES / "demo.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(RECIPES))
    return module


def test_what_runs_side_by_side_is_neighbours_in_the_chain(demo):
    """Else the runner would not take it together."""
    names = [name for name, _ in demo.chain(Path("run"), 0)]
    for group in demo.BESIDE:
        places = sorted(names.index(name) for chain in group for name in chain)
        assert places == list(range(places[0], places[0] + len(places)))
        for chain in group:
            assert [names.index(name) for name in chain] == sorted(names.index(name) for name in chain)


def test_nothing_side_by_side_reads_what_its_neighbour_writes(demo):
    words = dict(demo.chain(Path("run"), 0))
    for group in demo.BESIDE:
        for chain in group:
            others = [name for other in group if other is not chain for name in other]
            written = {words[name][words[name].index("--out") + 1] for name in others}
            read = [word for name in chain for word in words[name]]
            assert not [word for word in read for out in written if f"{word}/".startswith(f"{out}/")]


def test_a_failure_ends_its_chain_and_the_run_while_its_neighbours_end_well(demo, tmp_path):
    run = tmp_path / "run"

    def record(name: str, **options: object) -> tuple[str, list[str]]:
        extra = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        return name, ["worlds", "record", "--out", str(run / name), "--scenes", "1", "--camera-hz", "1",
                      "--workers", "1", *extra]  # fmt: skip

    steps = [record("broken", late=2), record("never"), record("sound", **{"duration-s": 2}), record("later")]
    beside = ((("broken", "never"), ("sound",)),)
    assert demo.run_chain(steps, run, beside) == 2
    assert json.loads((run / "sound" / "run.json").read_text())["state"] == "finished"
    assert not (run / "never").exists() and not (run / "later").exists()
    assert not (run / "cost.json").exists()

    steps = [record("first", **{"duration-s": 2}), record("second", **{"duration-s": 2}), steps[2]]
    assert demo.run_chain(steps, run, ((("first", "second"), ("sound",)),)) == 0
    cost = json.loads((run / "cost.json").read_text())
    assert list(cost) == ["first and second and sound"]
    own_s = cost["first and second and sound"]["own_seconds"]
    assert set(own_s) == {"first", "second", "sound"} and all(seconds > 0 for seconds in own_s.values())
    assert (run / "second" / "run.json").exists()
