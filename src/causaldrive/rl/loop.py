"""The rounds: drive groups of scenes, judge every decision, learn, log, save.

Reads and writes the run directory's `state/`, `metrics.jsonl` and `probe_*.json`. A round is done when its state is on
disk; a run that was killed goes on at that border. Knows nothing of reports.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_json
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import Run
from causaldrive.rl.advantages import Judged, Weights, judge_rollouts, lessons_of, path_lessons, word_lessons
from causaldrive.rl.config import RlConfig
from causaldrive.rl.dagger import shown_answers
from causaldrive.rl.decoder import SdePolicy
from causaldrive.rl.engines import Engine
from causaldrive.rl.learner import Learner
from causaldrive.rl.policy import PolicySettings, StudentPolicy
from causaldrive.rl.rollouts import Rollout, jobs_of
from causaldrive.rl.tally import examples, tally
from causaldrive.sft.state import restore_state, save_state
from causaldrive.worlds.scenes import SceneSpec

SHOWN_LIVE = ("reward_drive", "reward_reasoning", "reward_consistency", "scene_score")


class ClosedLoop:
    """Everything one run holds together."""

    def __init__(self, config: RlConfig, learner: Learner, engine: Engine, specs: Sequence[SceneSpec], run: Run):
        self.config, self.learner, self.engine, self.run = config, learner, engine, run
        rounds = config.iterations * config.scenes_per_iteration
        self.scenes, self.probe_scenes = specs[:rounds], specs[rounds:]
        self.weights = Weights(config.drive_weight, config.reasoning_weight, config.consistency_weight, config.balance)

    @property
    def states(self) -> Path:
        return self.config.out / "state"

    def fit(self) -> None:
        """All rounds that are not done yet."""
        restore_state(self.states, self.learner.state)
        done = self.learner.state.step
        self.run.keep_metrics(lambda row: row["iteration"] < done)
        if done == 0:
            self.probe("before")
        with Meter("rl", self.config.iterations, "rounds", done) as meter:
            for iteration in range(done, self.config.iterations):
                row = self._round(iteration)
                self.run.log(**row)
                save_state(self.states, self.learner.state)
                meter.advance(**{name: row[name] for name in SHOWN_LIVE})
        self.probe("after")

    def _round(self, iteration: int) -> dict[str, Any]:
        started = time.perf_counter()
        rollouts = self._drive(iteration)
        judged = self._judge(rollouts)
        driven = time.perf_counter()
        row = {"iteration": iteration, **tally(rollouts, judged)}
        _refuse_dumb(row, iteration, self.config.student)
        lessons, words, shown = (
            lessons_of(judged, self.weights),
            word_lessons(judged, self.weights),
            shown_answers(judged),
        )
        paths = path_lessons(judged, self.weights, self.config.try_paths_s, self.config.mirror_paths)
        shown = shown_answers(judged)
        learnt = self.learner.learn([*lessons.rows, *words.rows, *paths.rows], shown)
        seconds = {"seconds_driving": driven - started, "seconds_learning": time.perf_counter() - driven}
        counts = {"lessons": len(lessons.rows), "without_variance": lessons.without_variance}
        counts |= {"word_lessons": len(words.rows), "path_lessons": len(paths.rows), "shown": len(shown)}
        return row | counts | learnt | seconds

    def _drive(self, iteration: int) -> list[Rollout]:
        c = self.config
        first = iteration * c.scenes_per_iteration
        specs = self.scenes[first : first + c.scenes_per_iteration]
        settings = replace(
            self._settings(1 + iteration), temperature=c.temperature, top_p=1.0, num_samples=1 + c.paths,
            one_thought=c.paths > 0 and not c.own_words, path_coherence=c.path_coherence,
            mirror_paths=c.mirror_paths,
            greedy_path=c.part == "words" or c.paths > 0,  # no luck beside the words
        )  # fmt: skip
        model, processor = self.learner.model, self.learner.processor
        policy = (SdePolicy(model, processor, settings, c.sde_noise, self.learner.autocast) if c.train_decoder
                  else StudentPolicy(model, processor, settings, self.learner.autocast))  # fmt: skip
        return self._roll(policy, specs, c.group_size, f"rl round {iteration + 1}")

    def probe(self, name: str) -> None:
        """Drive the probe scenes once with the settings of evaluation; writes `probe_<name>.json`."""
        path = self.config.out / f"probe_{name}.json"
        if path.exists() or not self.probe_scenes:
            return
        settings = replace(self._settings(0), likeliest_first=True)
        policy = StudentPolicy(self.learner.model, self.learner.processor, settings, self.learner.autocast)
        rollouts = self._roll(policy, self.probe_scenes, 1, f"rl probe {name}")
        judged = self._judge(rollouts)
        write_json(path, {"summary": tally(rollouts, judged), "decisions": examples(judged)})

    def _settings(self, stream: int) -> PolicySettings:
        """As evaluation drives, with random numbers of their own for each round, and for the probes (0)."""
        c = self.config
        seed = int(np.random.SeedSequence([c.seed, stream]).generate_state(1)[0])
        return PolicySettings(mode=c.mode, flow_steps=c.flow_steps, max_trace_tokens=c.max_trace_tokens,
                              noise_temperature=c.noise_temperature, seed=seed)  # fmt: skip

    def _roll(self, policy: StudentPolicy, specs: Sequence[SceneSpec], members: int, label: str) -> list[Rollout]:
        self.engine.load(policy)
        self.engine.submit(jobs_of(specs, members), label)
        return self.engine.results()

    def _judge(self, rollouts: Sequence[Rollout]) -> list[Judged]:
        return judge_rollouts(rollouts, self.config.decision_every_s, self.config.duration_s)


def _refuse_dumb(row: dict[str, Any], iteration: int, student: Path) -> None:
    """Raises UserError when no drive could be scored, or nothing that was said could be read in the first round."""
    if not row["drives"]:
        reason = row["failure_reasons"][0]
        raise UserError(
            f"rl: none of the {row['failures']} drives of round {iteration + 1} could be scored ({reason}); at least "
            "one expected, so repair that first."
        )
    if iteration == 0 and row["unreadable"] == 1.0:
        raise UserError(
            f"{student} says nothing that can be read in {row['decisions']} decisions; a student that reasons "
            "expected, so pass one trained by sft --mode coc."
        )
