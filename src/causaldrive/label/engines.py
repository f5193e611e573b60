"""Engines: where the recordings of a label run are worked on; the missing shards, made side by side.

`local`: this machine (`local_engine.py`); `ray`: a Ray cluster (`ray_engine.py`). Finished shards are never made
again, but where nobody answered for a keyframe. Knows nothing of reports.
"""

from __future__ import annotations

from collections.abc import Sequence

from causaldrive.ground.errors import unknown_name
from causaldrive.ground.progress import Meter
from causaldrive.label.asking import Asked, AskSettings
from causaldrive.label.labelling import ShardResult, ShardTask, unanswered
from causaldrive.label.local_engine import label_here
from causaldrive.label.ray_engine import import_ray, label_on_ray
from causaldrive.label.store import read_labels

ENGINES = ("local", "ray")


def check_engine(name: str) -> None:
    """Raises UserError for a name that is not known, MissingExtra where its package is not installed."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if name == "ray":
        import_ray()


def label_all(
    tasks: Sequence[ShardTask], settings: AskSettings, asked: Asked, workers: int, engine: str = "local",
    ray_address: str = "",
) -> list[ShardResult]:  # fmt: skip
    """Make every missing shard; one result per recording that was worked on. `asked` counts what asking took."""
    missing = [task for task in tasks if not task.shard.exists() or any(map(unanswered, read_labels(task.shard)))]
    results: list[ShardResult] = []
    with Meter("label", len(tasks), "recordings", done=len(tasks) - len(missing)) as meter:

        def note(result: ShardResult) -> None:
            results.append(result)
            meter.advance()

        if engine == "ray":
            label_on_ray(missing, settings, asked, note, workers, ray_address)
        else:
            label_here(missing, settings, asked, note, workers)
    return results
