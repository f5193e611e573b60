"""Our generation against plain transformers: same model, same random numbers, same words, same trajectories.

Plain: `vlm.generate` over K rows with a cache that grows (as `num_return_sequences` makes them: prompt and images of
each row computed anew), its logits turned into the same draws, stopped one token after <|traj_future_start|>; then a
loop of ten Euler steps of the decoder, whose cache is cropped after each. `plain_one_by_one` does so for one sample
after the other. The sides take turns; figures are CPU time of one thread (wall time on
CUDA), the ratio is that of the medians.
Run: python benchmarks/generate.py [--device cuda --preset alpamayo] [--out docs/results/generate.json]
On the CPU with --preset alpamayo the layout is the released one and the network small. Costs about 5 CPU minutes.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, StoppingCriteria

from causaldrive.clips.types import Sample
from causaldrive.ground.files import write_json
from causaldrive.student import flow
from causaldrive.student.config import FrameSettings
from causaldrive.student.expert import Offsets, expert_mask, expert_positions
from causaldrive.student.generate import generate
from causaldrive.student.model import CausalDriveModel, build, permitted_logprobs
from causaldrive.student.presets import ActionStatistics, tiny
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.released import CAMERAS, expert_beside, qwen3_vl, released_config_json, student_config
from causaldrive.student.sampling import RowRandomness, draw_randomness, pick
from causaldrive.student.statistics import initial_speeds
from causaldrive.student.text import extend_tokenizer, train_tokenizer

SAMPLES, SEED, TEMPERATURE, TOP_P = 6, 11, 0.6, 0.98
STATISTICS = ActionStatistics(0.03, 0.7, 0.0, 0.03, (-4.0, -4.0), (4.0, 4.0))
CORPUS = ["Slow down because a lead vehicle ahead is braking.", "Keep lane and speed because the road is clear."] * 3


class SameDraws(LogitsProcessor):
    """Leaves only the token that our sampler draws with the same random numbers."""

    def __init__(self, allowed: Tensor, uniform: Tensor, prompt: int, start: int):
        self.allowed, self.uniform, self.prompt, self.start = allowed, uniform, prompt, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.prompt
        most = self.uniform.shape[1]
        if step >= most:  # the start token is forced where a row has not written it; one token follows
            return torch.full_like(scores, -torch.inf).index_fill(1, scores.new_tensor([self.start]).long(), 0.0)
        greedy = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
        logprobs = permitted_logprobs(scores, self.allowed, TEMPERATURE)
        token = pick(logprobs, self.uniform[:, step], TOP_P, greedy)
        return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)


class OneAfterStart(StoppingCriteria):
    """Ends one token after every row has written <|traj_future_start|>, whose keys are then in the cache."""

    def __init__(self, start: int, prompt: int):
        self.start, self.prompt = start, prompt

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        written = (input_ids[:, self.prompt : -1] == self.start).any(1)
        return written.all().expand(len(input_ids))


class Plain:
    """The same answers with nothing but transformers' doors and a loop."""

    def __init__(self, model: CausalDriveModel, processor: StudentProcessor, sample: Sample, most: int):
        self.model, self.processor, self.sample, self.most = model, processor, sample, most

    @torch.inference_mode()
    def rows(self, randomness: RowRandomness) -> tuple[list[list[int]], np.ndarray]:
        """Words and normalised actions of as many rows as there is randomness for."""
        model, config, count = self.model, self.model.config, len(randomness.noise)
        batch = self.processor.prompts([self.sample] * count).to(model.device)
        prompt, start = batch.input_ids.shape[1], config.id_of("traj_future_start")
        draws = SameDraws(model.get_buffer("text_allowed"), randomness.text_uniform.to(model.device), prompt, start)
        out: Any = model.vlm.generate(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, pixel_values=_typed(batch, model),
            image_grid_thw=batch.image_grid_thw, mm_token_type_ids=batch.mm_token_type_ids, do_sample=False,
            max_new_tokens=self.most + 2, logits_processor=[draws], stopping_criteria=[OneAfterStart(start, prompt)],
            return_dict_in_generate=True, generation_config=GenerationConfig(pad_token_id=config.id_of("endoftext")),
        )  # fmt: skip
        ids = out.sequences[:, prompt:]
        first = (ids == start).int().argmax(1)
        action = self._drive(out.past_key_values, batch, prompt + first, randomness.noise.to(model.device))
        return [row[: end + 1].tolist() for row, end in zip(ids, first, strict=True)], action.cpu().numpy()

    def _drive(self, cache: DynamicCache, batch: Any, start_column: Tensor, noise: Tensor) -> Tensor:
        model, columns = self.model, cache.get_seq_length()
        visible = torch.arange(columns, device=noise.device) <= start_column[:, None]
        prompt = batch.position_ids.shape[2]
        first = batch.position_ids[0, :, -1] + 1 + start_column - prompt + 1
        offsets = Offsets(visible, first)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            inputs = model.action_in_proj(x, t)
            hidden = model.expert(
                inputs_embeds=inputs, attention_mask=expert_mask(offsets.visible, 64, inputs.dtype),
                position_ids=expert_positions(offsets.first_position, 64), past_key_values=cache, use_cache=True,
            ).last_hidden_state  # fmt: skip
            cache.crop(-64)
            return model.action_out_proj(hidden).float()

        return flow.integrate(velocity, noise, model.config.flow_steps)


def _typed(batch: Any, model: CausalDriveModel) -> Tensor:
    return batch.pixel_values.to(model.vlm.dtype)


def make_model(preset: str, device: str) -> tuple[CausalDriveModel, StudentProcessor]:
    """`tiny`: as the demo has it; `wide`: tiny with four cameras x four frames; `alpamayo`: released layout and
    vocabulary with random weights, the 8 B geometry in bfloat16 on CUDA and a small one in float32 on the CPU."""
    tokenizer = train_tokenizer(CORPUS, 640)
    if preset == "alpamayo":
        return _released(tokenizer, device)
    frames: dict[str, Any] = {}
    if preset == "wide":
        frames = {"camera_names": CAMERAS, "frame_offsets_s": (-0.3, -0.2, -0.1, 0.0), "pair_frames": False}
    config = tiny(tokenizer, STATISTICS, frames=frames)
    return build(config, 0).eval().to(device), StudentProcessor(tokenizer, config)  # pyright: ignore[reportArgumentType]


def _released(tokenizer: Any, device: str) -> tuple[CausalDriveModel, StudentProcessor]:
    vlm = qwen3_vl("8b")
    if device == "cpu":
        vlm["text_config"] |= {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6,
                               "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32}  # fmt: skip
        vlm["text_config"]["rope_parameters"]["mrope_section"] = [8, 4, 4]
        vlm["vision_config"] |= {"depth": 6, "hidden_size": 192, "num_heads": 6, "intermediate_size": 768,
                                 "out_hidden_size": 256, "deepstack_visual_indexes": [1, 3, 5]}  # fmt: skip
    base, text = len(tokenizer), len(tokenizer) - len(tokenizer.get_added_vocab())
    ids = extend_tokenizer(tokenizer, 3000, 1000, "1.5")
    expert = expert_beside(vlm["text_config"]) | {"head_dim": vlm["text_config"]["head_dim"]}
    found = released_config_json("1.5") | {"traj_token_start_idx": base, "expert_cfg": expert}
    config = student_config(found, vlm, ids, text)
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    try:
        with torch.device(device):
            model = CausalDriveModel(config)
    finally:
        torch.set_default_dtype(kept)
    return model.eval(), StudentProcessor(tokenizer, config)


def make_sample(frames: FrameSettings) -> Sample:
    """A curve at 8 m/s, seen as noise."""
    rng, t = np.random.default_rng(0), np.arange(-15, 1) * 0.1
    yaw = 0.16 * t
    xyz = np.stack([8 * np.sin(yaw) / 0.16, 8 * (1 - np.cos(yaw)) / 0.16, 0 * t], axis=1)
    names = frames.camera_names
    height, width = frames.image_height_px or 1080, frames.image_width_px or 1920
    shape = (len(names), len(frames.frame_offsets_us), height, width, 3)
    images = rng.integers(0, 255, shape, dtype=np.uint8)
    return Sample("noise", 0, images, names, frames.frame_offsets_us, xyz, yaw, None, None)


class Bench:
    """One case: the three sides and what they gave."""

    def __init__(self, preset: str, tokens: int, device: str):
        self.model, self.processor = make_model(preset, device)
        self.sample, self.tokens, self.device = make_sample(self.processor.config.frames()), tokens, device
        self.plain = Plain(self.model, self.processor, self.sample, tokens)
        self.randomness = draw_randomness([SEED], SAMPLES, tokens)
        self.sides = {"ours": self.ours, "plain": self.together, "plain_one_by_one": self.one_by_one}

    def ours(self) -> tuple[list[list[int]], np.ndarray]:
        made = generate(self.model, self.processor, [self.sample], num_samples=SAMPLES, seed=[SEED],
                        temperature=TEMPERATURE, top_p=TOP_P, max_trace_tokens=self.tokens)[0]  # fmt: skip
        return [one.token_ids for one in made], np.stack([one.xyz_in_rig_m[:, :2] for one in made])

    def together(self) -> tuple[list[list[int]], np.ndarray]:
        return self._paths(*self.plain.rows(self.randomness))

    def one_by_one(self) -> tuple[list[list[int]], np.ndarray]:
        r = self.randomness
        found = [self.plain.rows(RowRandomness(*(x[k : k + 1] for x in vars(r).values()))) for k in range(SAMPLES)]
        return self._paths([ids[0] for ids, _ in found], np.concatenate([actions for _, actions in found]))

    def _paths(self, ids: list[list[int]], actions: np.ndarray) -> tuple[list[list[int]], np.ndarray]:
        space = self.processor.action_space
        speed = initial_speeds([self.sample], space).repeat(SAMPLES)
        return ids, space.decode(space.denormalise(torch.from_numpy(actions)), speed)[0].numpy()

    def timed(self, side: str) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        started = clock()
        self.sides[side]()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return clock() - started

    def measure(self, repeats: int) -> dict[str, Any]:
        """Agreement first (it warms up as well), then the sides in turn."""
        answers = {side: run() for side, run in self.sides.items()}
        ids, paths = answers["ours"]
        same = {side: other == ids for side, (other, _) in answers.items()}
        apart = {side: float(np.abs(other - paths).max()) for side, (_, other) in answers.items()}
        times: dict[str, list[float]] = {side: [] for side in self.sides}
        for _ in range(repeats):
            for side in self.sides:
                times[side].append(self.timed(side))
        median = {side: float(np.median(values)) for side, values in times.items()}
        return {
            "prompt_tokens": int(self.processor.prompts([self.sample]).input_ids.shape[1]),
            "written_tokens": [len(row) for row in ids], "samples": SAMPLES, "repeats": repeats,
            "same_words": same, "largest_difference_m": apart, "median_s": median,
            "range_s": {side: [min(values), max(values)] for side, values in times.items()},
            "times_faster_than_plain": median["plain"] / median["ours"],
            "times_faster_than_one_by_one": median["plain_one_by_one"] / median["ours"],
            **({"peak_gib": torch.cuda.max_memory_allocated() / 2**30} if self.device == "cuda" else {}),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=["tiny", "wide", "alpamayo"])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--tokens", type=int, default=40, help="words that each sample writes at most")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/results/generate.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for preset in arguments.preset:
        found[preset] = row = Bench(preset, arguments.tokens, arguments.device).measure(arguments.repeats)
        print(f"{preset:9s} {row['prompt_tokens']:5d} prompt tokens: " + ", ".join(
            f"{side} {1e3 * value:.0f} ms" for side, value in row["median_s"].items()), flush=True)  # fmt: skip
        print(f"{'':9s} {row['times_faster_than_plain']:.2f} times as fast as plain, "
              f"{row['times_faster_than_one_by_one']:.2f} times one by one; same words {row['same_words']}, "
              f"paths within {max(row['largest_difference_m'].values()):.1e} m", flush=True)  # fmt: skip
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or platform.machine()
    write_json(arguments.out, {"device": arguments.device, "machine": machine, "threads": 1, "torch": torch.__version__,
                               "gpu": "not measured" if arguments.device == "cpu" else machine,
                               "cases": found})  # fmt: skip


if __name__ == "__main__":
    main()
