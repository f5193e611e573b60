"""What is saved by computing a prompt once for all answers to it, in a round of RL with several paths a decision.

Drives one round, then learns from it from the same weights as it is, and with each answer's prompt by itself. Processor
time of the two in turns, as a ratio; that both give the same numbers is shown in tests/student/test_parity.py. Reads a
student that speaks and drives by tokens (the demo's); two minutes for six scenes on two cores.

Prints a table and writes JSON. Run: python benchmarks/rl_learning.py [--student runs/demo/sft-coc/checkpoint]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rl_noise import ALL, driven

from causaldrive.ground.files import write_json
from causaldrive.rl.advantages import Lesson, path_lessons
from causaldrive.rl.config import RlConfig
from causaldrive.rl.learner import Learner
from causaldrive.student import checkpoint


def by_itself(lessons: Sequence[Lesson]) -> list[Lesson]:
    """The same lessons; answers to one prompt are answers to copies of it. Lessons of one answer stay together."""
    copies: dict[tuple, object] = {}
    found = []
    for lesson in lessons:
        spoken = lesson.spoken
        sample = copies.setdefault((id(spoken.sample), spoken.token_ids), dataclasses.replace(spoken.sample))
        found.append(dataclasses.replace(lesson, spoken=dataclasses.replace(spoken, sample=sample)))
    return found


def learning_s(config: RlConfig, lessons: Sequence[Lesson]) -> float:
    """Seconds of processor time of a round of learning from the weights of the start."""
    learner = Learner(*checkpoint.load(config.student), config)
    started = time.process_time()
    learner.learn(lessons)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, default=Path("runs/demo/sft-coc/checkpoint"))
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--paths", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results/rl_learning.json"))
    options = parser.parse_args()
    config = RlConfig(options.student, Path("runs/rl_learning"), mode="tokens", paths=options.paths, group_size=1,
                      path_coherence=0.9, iterations=1, scenes_per_iteration=options.scenes, probe_scenes=0,
                      epochs=1, minibatch=64, first_seed=520_000)  # fmt: skip
    config.validate()
    shared = path_lessons(driven(config)[1], ALL).rows
    alone = by_itself(shared)
    turns = [(learning_s(config, shared), learning_s(config, alone)) for _ in range(options.repeats)]
    ratios = [one / other for one, other in turns]
    seconds = {name: float(np.median([turn[k] for turn in turns])) for k, name in enumerate(("shared", "alone"))}
    answers = len({(id(lesson.spoken.sample), lesson.spoken.token_ids) for lesson in shared})
    print(f"{answers} answers, processor time {seconds['shared']:.1f} s for {seconds['alone']:.1f} s: "
          f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip
    asked = {"scenes": options.scenes, "paths": options.paths, "answers": answers}
    write_json(options.out, {**asked, "processor_s": seconds, "ratios": ratios})


if __name__ == "__main__":
    main()
