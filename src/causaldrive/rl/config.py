"""What an rl run is told, checked before anything is read. Knows nothing of how it is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.words import VALIDATION_SEED, split_of_seed
from causaldrive.rl.engines import ENGINES
from causaldrive.rl.objectives import OBJECTIVES
from causaldrive.rl.parts import PARTS

MODES = ("flow", "tokens")  # a trajectory in text has no part that is rewarded apart
PRECISIONS = ("bf16", "fp32")


@dataclass(frozen=True)
class RlConfig:
    """Closed-loop reinforcement learning of a student that reasons."""

    student: Path  # checkpoint directory to start from (supervised with traces)
    out: Path  # run directory; the result is its `checkpoint`
    iterations: int = 8  # rounds of driving and learning
    scenes_per_iteration: int = 6  # new scenes every round
    group_size: int = 4  # drives of each scene, compared with each other; 1, with --paths: those alone are compared
    first_seed: int = 500_000  # of the scenes; must be of the training split
    families: tuple[str, ...] = ()  # families of scenes; empty: all
    duration_s: float = 8.0  # of one drive, 1.6 s warm-up included
    decision_every_s: float = 0.5  # between two queries of the student
    decision_limit_s: float = 60.0  # a student that takes longer per decision has stalled: its drives fail
    latency_s: float = 0.0  # a plan is driven this long after what it was made from was seen
    temperature: float = 0.8  # of the words while learning; no top-p cut, so that ratios are exact
    max_trace_tokens: int = 40  # longer text is cut and its cut is not learnt from
    flow_steps: int = 10  # denoising steps of the decoder
    noise_temperature: float = 0.6  # of the decoder's starting noise, in rounds and probes
    mode: str = "flow"  # how the student draws its trajectory: flow, tokens
    part: str = "speech"  # speech, words (for --mode tokens): only which words are chosen; language: the language model
    paths: int = 0  # paths drawn at each decision for the same words and compared with each other (for --mode tokens)
    own_words: bool = False  # each of these paths follows words of its own, and the words are compared too
    path_coherence: float = 0.0  # from 0, each token of a drawn path by itself, to 1, all of an axis to the same side
    mirror_paths: bool = False  # drawn paths are twins, as far to opposite sides, and each is compared with its twin
    try_paths_s: float = 0.0  # each of these paths is driven this long in a branch of the world, to see where it leads
    train_decoder: bool = False  # also train the decoder, by flow-SDE
    sde_noise: float = 0.3  # noise level of the flow-SDE
    objective: str = "grpo"  # grpo: clipped ratios; softmax: the paper's weighted likelihood
    beta: float = 1.0  # sharpness of the softmax weights
    learning_rate: float = 3e-4  # of AdamW at the start; it falls to nothing over the rounds
    epochs: int = 2  # passes over one round's decisions
    minibatch: int = 32  # answers an optimizer step
    clip_low: float = 0.2  # ratios below 1 - this are cut
    clip_high: float = 0.28  # ratios above 1 + this are cut
    decoder_clip: float = 0.05  # the same for the decoder's (mean-density) ratio, both sides
    clip_norm: float = 1.0  # gradient norm is clipped to this
    kl_weight: float = 0.05  # pull towards the student of the start
    drive_weight: float = 0.3  # of the drive advantage
    reasoning_weight: float = 0.5  # of the reasoning advantage
    consistency_weight: float = 1.0  # of the consistency advantage
    balance: float = 1.0  # lift of rare true decisions: 0 as driven, 1 all classes count alike
    dagger_weight: float = 0.0  # of what the expert would say and do at the places the drives came to; 0: not asked
    anchor_recordings: Path | None = None  # recordings of an optional supervised anchor
    anchor_labels: Path | None = None  # its labels
    anchor_frames: Path | None = None  # its decoded frames, as `sft --frames-cache` keeps them
    anchor_bin_spread: float = 0.0  # bins over which the target of a trajectory token is spread, as in `sft`, here too
    anchor_fade_s: float = 0.0  # trajectory tokens of anchor and expert count less the further ahead, as in `sft`
    anchor_weight: float = 0.5  # of the anchor's losses
    anchor_batch: int = 8  # samples of the anchor, and of the expert, an optimizer step
    probe_scenes: int = 12  # scenes driven before and after with evaluation settings, for the report; 0: none
    seed: int = 0  # of everything random
    engine: str = "local"  # where rollouts are made
    workers: int = 2  # world processes
    batch: int = 48  # drives side by side
    precision: str = "fp32"  # of rollouts and training; bf16: autocast over float32 weights

    def validate(self) -> None:
        """Raises UserError for a name that is not known or a number out of range."""
        known = {"objective": OBJECTIVES, "part": PARTS, "mode": MODES, "engine": ENGINES, "precision": PRECISIONS}
        for name, options in known.items():
            if getattr(self, name) not in options:
                raise unknown_name(f"rl: {name}", getattr(self, name), options)
        for name in ("iterations", "scenes_per_iteration", "epochs", "minibatch", "workers", "batch", "anchor_batch",
                     "max_trace_tokens", "flow_steps", "temperature", "learning_rate", "clip_norm",
                     "beta", "decision_limit_s"):  # fmt: skip
            self._expect(name, getattr(self, name) > 0, "a number above 0")
        for name in ("noise_temperature", "clip_low", "clip_high", "decoder_clip", "kl_weight", "drive_weight",
                     "reasoning_weight", "consistency_weight", "balance", "anchor_weight", "anchor_bin_spread",
                     "anchor_fade_s", "dagger_weight", "probe_scenes", "sde_noise", "seed", "paths",
                     "try_paths_s"):  # fmt: skip
            self._expect(name, getattr(self, name) >= 0, "0 or more")
        compared = self.paths >= 2 and self.mode == "tokens" and not self.train_decoder
        self._expect("paths", compared or not self.paths, "0, or with --mode tokens alone at least 2 to compare,")
        for name in ("own_words", "path_coherence", "mirror_paths", "try_paths_s"):
            self._expect(name, bool(self.paths) or not getattr(self, name), "nothing without --paths")
        twins = not self.mirror_paths or (self.paths % 2 == 0 and not self.own_words)
        self._expect("mirror_paths", twins, "an even number of --paths for the same words")
        self._expect("path_coherence", 0 <= self.path_coherence <= 1, "a number from 0 to 1")
        self._expect("group_size", self.group_size >= (1 if self.paths else 2), "at least 2 drives to compare")
        self._expect("duration_s", self.duration_s >= 2.5, "at least 2.5 s, of which 1.6 s are warm-up")
        ticks = self.decision_every_s * 10
        self._expect("decision_every_s", ticks >= 1 and abs(ticks - round(ticks)) < 1e-6, "a multiple of 0.1 s")
        fits = 0.0 <= self.latency_s <= self.decision_every_s
        self._expect("latency_s", fits, f"from 0 to --decision-every-s ({self.decision_every_s})")
        self._expect("sde_noise", self.sde_noise > 0 or not self.train_decoder, "above 0 to train the decoder")
        both = (self.anchor_recordings is None) == (self.anchor_labels is None)
        self._expect("anchor_labels", both, "both --anchor-recordings and --anchor-labels, or neither,")
        self._check_seeds()

    def _check_seeds(self) -> None:
        last = self.first_seed + self.scene_count - 1
        for seed in (self.first_seed, last):
            if seed < 0 or split_of_seed(seed) != "train":
                raise UserError(
                    f"rl: seeds {self.first_seed} to {last} asked for, of which {seed} is of the "
                    f"{split_of_seed(seed)} split; seeds from 0 to {VALIDATION_SEED - 1} expected for training, so "
                    "choose another --first-seed."
                )

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            option = "--" + name.replace("_", "-")
            raise UserError(f"rl: {option} is {getattr(self, name)}, {expected} expected; change it and run again.")

    @property
    def scene_count(self) -> int:
        """Scenes of all rounds and of the probe, consecutive seeds."""
        return self.iterations * self.scenes_per_iteration + self.probe_scenes
