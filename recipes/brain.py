"""The brain alone: a tiny student's backbone learns to answer questions about what it sees, the decoder untouched.

Shows:   questions whose answers follow from the town's own world state (what is ahead, which colour the light has, is
         someone on foot, what do we do and why, a caption, a multiple choice), in LingoQA's file format; the backbone
         trained on them; BLEU, exact and multiple choice on held-out seeds beside the most frequent answer.
Costs:   about five minutes on two cores.
Expect:  runs/brain/answers/report.html. A backbone of four million parameters from random weights: look at the kinds of
         questions, not at the sum; BLEU alone says little, as the rival's shows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from demo import Step, run_chain

TRAIN_SCENES, TEST_SCENES, STEPS, MOMENTS = 60, 18, 240, 500
TRAIN_SEED, TEST_SEED = 0, 2_000_000


def chain(run: Path, seed: int, size: float = 1.0) -> list[Step]:
    """(name of the step, its command) in order. `size` scales scenes, moments and steps alike."""
    train_scenes, test_scenes, steps, moments = (
        str(max(round(size * full), least))
        for full, least in ((TRAIN_SCENES, 6), (TEST_SCENES, 6), (STEPS, 4), (MOMENTS, 20))
    )
    steps_of: list[Step] = []
    for name, scenes, first in (("", train_scenes, TRAIN_SEED), ("-test", test_scenes, TEST_SEED)):
        record, label = f"{run}/record{name}", f"{run}/label{name}"
        steps_of += [
            (f"record{name}", ["worlds", "record", "--out", record, "--scenes", scenes, "--first-seed", str(first)]),
            (f"label{name}", ["label", "--recordings", record, "--out", label, "--teacher", "expert",
                              "--every-s", "0.5"]),
            (f"questions{name}", ["label", "questions", "--recordings", record, "--labels", label, "--out",
                                  f"{run}/questions{name}", "--most", moments]),
        ]  # fmt: skip
    return [
        *steps_of,
        ("student", ["student", "build", "--preset", "tiny", "--recordings", f"{run}/record", "--labels",
                     f"{run}/label", "--out", f"{run}/student", "--seed", str(seed)]),
        ("sft-brain", ["sft", "brain", "--student", f"{run}/student", "--questions", f"{run}/questions", "--out",
                       f"{run}/sft-brain", "--steps", steps, "--seed", str(seed)]),
        ("answers", ["evaluate", "answers", "--questions", f"{run}/questions-test", "--train-questions",
                     f"{run}/questions", "--out", f"{run}/answers", "--students", f"brain={run}/sft-brain/checkpoint"]),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/brain"), help="directory for everything this makes")
    parser.add_argument("--seed", type=int, default=0, help="seed of student and training")
    parser.add_argument("--size", type=float, default=1.0, help="of the whole chain: 0.2 shows that it runs")
    arguments = parser.parse_args()
    return run_chain(chain(arguments.run, arguments.seed, arguments.size), arguments.run, report="answers")


if __name__ == "__main__":
    sys.exit(main())
