"""How many scenes does a round of RL need? The noise of its gradient from scene to scene, by kind of lesson.

    scenes for a signal as large as the noise = tr(S) / |G|^2

S: covariance of the gradient of one scene over scenes, G: its mean; both without bias from N scenes. Source: McCandlish
et al., arXiv 1812.06162, with a scene in place of a sample, because the decisions of one scene are alike. |G|^2 below
zero says that N scenes show no common direction at all. Reads a student that speaks and drives by tokens (the demo's);
a minute for eight scenes on two cores.

Prints a table and writes JSON. Run: python benchmarks/rl_noise.py [--student runs/demo/sft-coc/checkpoint]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from causaldrive.ground.files import write_json
from causaldrive.ground.runs import Run
from causaldrive.rl.advantages import Judged, Lesson, Weights, lessons_of, path_lessons, word_lessons
from causaldrive.rl.config import RlConfig
from causaldrive.rl.engines import open_engine
from causaldrive.rl.learner import Learner
from causaldrive.rl.loop import ClosedLoop
from causaldrive.rl.parts import learnt
from causaldrive.rl.policy import drive_settings_of
from causaldrive.student import checkpoint
from causaldrive.worlds.scenes import draw_specs

ALL = Weights(1.0, 1.0, 1.0, balance=1.0)


def driven(config: RlConfig) -> tuple[Learner, list[Judged]]:
    """One round's drives, judged, and who would learn from them."""
    model, processor = checkpoint.load(config.student)
    learner = Learner(model, processor, config)
    settings = drive_settings_of(model.config, config.duration_s, config.decision_every_s)
    engine = open_engine("local", settings, config.workers, config.batch)
    try:
        specs = draw_specs(config.scene_count, config.first_seed, config.families)
        loop = ClosedLoop(config, learner, engine, specs, Run(config.out, {}, False))
        return learner, loop._judge(loop._drive(0))
    finally:
        engine.close()


def kinds_of(judged: Sequence[Judged], mirrored: bool) -> dict[str, list[Lesson]]:
    """Lessons by what they are about."""
    paths = path_lessons(judged, ALL, mirrored=mirrored).rows
    return {
        "driven words, reasoning": lessons_of(judged, replace(ALL, drive=0, consistency=0)).rows,
        "driven words, consistency": lessons_of(judged, replace(ALL, drive=0, reasoning=0)).rows,
        "driven words, drive": lessons_of(judged, replace(ALL, reasoning=0, consistency=0)).rows,
        "thoughts of one moment": word_lessons(judged, ALL).rows,
        "paths, acceleration": [row for row in paths if row.group[3] == 0],
        "paths, curvature": [row for row in paths if row.group[3] == 1],
    }


def gradient(learner: Learner, lessons: Sequence[Lesson]) -> Tensor:
    """Sum over the lessons' tokens; zero without any."""
    parameters = list(learnt(learner.model).values())
    total = torch.zeros(sum(p.numel() for p in parameters))
    for part in learner.prepare(lessons):
        learner.model.zero_grad()
        (learner._loss(part)[0] * part.mask.sum()).backward()
        total += torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters])
    return total


def noise(learner: Learner, lessons: Sequence[Lesson], scenes: int) -> dict[str, float | int | None]:
    """See the module's head; a scene without lessons counts with a gradient of zero."""
    by_scene: defaultdict[int, list[Lesson]] = defaultdict(list)
    for lesson in lessons:
        by_scene[lesson.group[0]].append(lesson)
    each = torch.stack([gradient(learner, by_scene[scene]) for scene in range(scenes)])
    square, of_mean = each.square().sum(1).mean().item(), each.mean(0).square().sum().item()
    signal = (scenes * of_mean - square) / (scenes - 1)
    spread = (square - of_mean) * scenes / (scenes - 1)
    return {"lessons": len(lessons), "scenes": scenes, "signal": signal, "noise": spread,
            "scenes_needed": spread / signal if signal > 0 else None}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, default=Path("runs/demo/sft-coc/checkpoint"))
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--paths", type=int, default=3)
    parser.add_argument("--coherence", type=float, default=0.0, help="of the paths' tokens")
    parser.add_argument("--mirror", action="store_true", help="paths are twins, for the same words")
    parser.add_argument("--first-seed", type=int, default=520_000)
    parser.add_argument("--out", type=Path, default=Path("docs/results/rl_noise.json"))
    options = parser.parse_args()
    config = RlConfig(options.student, Path("runs/rl_noise"), mode="tokens", paths=options.paths,
                      own_words=not options.mirror, path_coherence=options.coherence, mirror_paths=options.mirror,
                      group_size=2, iterations=1,
                      scenes_per_iteration=options.scenes, probe_scenes=0, first_seed=options.first_seed,
                      kl_weight=0.0)  # fmt: skip
    config.validate()
    learner, judged = driven(config)
    learner.model.eval()
    found = {
        name: noise(learner, lessons, options.scenes) for name, lessons in kinds_of(judged, options.mirror).items()
    }
    print(f"{'lessons of':28s}{'number':>8s}{'signal':>12s}{'noise':>12s}{'scenes for 1:1':>16s}")
    for name, row in found.items():
        needed = "none seen" if row["scenes_needed"] is None else f"{row['scenes_needed']:.0f}"
        print(f"{name:28s}{row['lessons']:8d}{row['signal']:12.3g}{row['noise']:12.3g}{needed:>16s}")
    asked = {
        "paths": options.paths,
        "coherence": options.coherence,
        "mirrored": options.mirror,
        "first_seed": options.first_seed,
    }
    write_json(options.out, {**asked, "kinds": found})


if __name__ == "__main__":
    main()
