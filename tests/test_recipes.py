"""The recipes' chain runner: what runs side by side, what a failure ends, what is written down."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from causaldrive import cli

RECIPES = Path(__file__).parent.parent / "recipes"


def recipe(name: str) -> ModuleType:
    """`recipes/NAME.py`, which is a script and in no package."""
    sys.path.insert(0, str(RECIPES))
    try:
        spec = importlib.util.spec_from_file_location(f"{name}_recipe", RECIPES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(RECIPES))
    return module


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    return recipe("demo")


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


def commands_of(name: str) -> list[list[str]]:
    """Of a recipe at full size."""
    module, run = recipe(name), Path("run")
    if name == "three_ways":
        steps = [step for chain in module.seed_chains(run, run, 0, 1.0, 400) for step in chain]
    elif name == "quality":
        steps = [
            step for arms in module.ARMS.values() for arm in arms for step in module.steps_of(run, run, arm, 0, 1.0)
        ]
    elif name == "real":
        steps = module.chain(run, Path("samples"), Path("demo"))
    else:
        steps = module.chain(run, 0)
    return [words for _, words in steps]


@pytest.mark.parametrize("name", ["demo", "brain", "decoder", "three_ways", "quality", "real"])
def test_every_command_of_a_recipe_is_understood(name, monkeypatch):
    """By the command line and by the stage's own checks of its settings; nothing is carried out."""
    for words in commands_of(name):
        command = cli.COMMANDS.get(" ".join(words[:2])) or cli.COMMANDS[words[0]]
        understood = []
        module = importlib.import_module(f"causaldrive.{command.module}")
        monkeypatch.setattr(module, command.function, understood.append)
        assert cli.main(words) == 0, words
        assert len(understood) == 1
        if hasattr(understood[0], "validate"):
            understood[0].validate()
        monkeypatch.undo()


def test_every_way_to_speak_starts_and_is_measured_alike():
    """Else a difference could be one of start, budget or test."""
    chains = recipe("three_ways").seed_chains(Path("run"), Path("data"), 3, 0.5, 60)
    steps = [step for chain in chains for step in chain]
    for kind in ("sft", "evaluate"):
        told = {words[words.index("--speak" if kind == "sft" else "--mode") + 1]: words
                for name, words in steps if name.startswith(kind)}  # fmt: skip
        assert set(told) == {"flow", "tokens", "text"}
        neutral = {
            " ".join(word if word.startswith("--") else word.replace(way, "WAY") for word in words)
            for way, words in told.items()
        }
        assert len(neutral) == 1


@pytest.mark.parametrize("chosen", ["words", "data", "size"])
def test_arms_of_the_quality_recipe_read_what_was_made_before_them(chosen):
    quality = recipe("quality")
    made = {
        "data/see",
        "data/record",
        "data/label",
        "data/record-test",
        "data/label-test",
        "run/record-1",
        "run/record-3",
    }
    trained = []
    for arm in quality.ARMS[chosen]:
        for _, words in quality.steps_of(Path("run"), Path("data"), arm, 0, 1.0):
            read = [words[i + 1] for i, word in enumerate(words) if word in ("--student", "--recordings", "--labels")]
            read += [one.split("=")[1].split("@")[0] for one in words if "=" in one]
            assert {path.removesuffix("/checkpoint") for path in read} <= made, words
            made.add(words[words.index("--out") + 1])
            trained += [" ".join(words)] if words[0] == "sft" else []
    assert len(trained) == len(set(trained)) == len(quality.ARMS[chosen])


def test_some_drives_are_the_first_ones_and_nested(tmp_path):
    quality = recipe("quality")
    for index in range(20):
        (tmp_path / "record" / "recordings" / f"drive-{index:02d}").mkdir(parents=True)
    few, more = (quality.some_drives(tmp_path / "record", tmp_path / str(n), n) / "recordings" for n in (1, 3))
    names = [{path.name for path in one.iterdir()} for one in (few, more)]
    assert names[0] == {"drive-00", "drive-01"} and names[0] < names[1] and len(names[1]) == 6
    assert quality.some_drives(tmp_path / "record", tmp_path / "all", 10) == tmp_path / "record"


def test_intervals_and_differences_over_seeds():
    seeds = recipe("seeds")
    each = {"a": [{"m": 1.0}, {"m": 2.0}, {"m": 3.0}], "b": [{"m": 2.0}, {"m": 3.5}, {"m": None}]}
    table = seeds.summaries(each)
    assert table["a"]["m"]["mean"] == 2.0 and abs(table["a"]["m"]["half_width"] - 4.302653 / 3**0.5) < 1e-5
    assert table["b"]["m"]["seeds"] == 2
    paired = seeds.differences(each, "a")["b"]["m"]
    assert paired["mean"] == 1.25 and paired["seeds"] == 2
    assert seeds.summary([1.0])["half_width"] is None and seeds.summary([None])["mean"] is None
    assert "2.000 ± 2.484" in seeds.table_text(table) and "b" in seeds.table_text(table)
