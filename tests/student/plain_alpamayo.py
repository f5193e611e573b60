"""Alpamayo written a second time, plainly: what the package computes must agree with this.

From the published equations alone: tokens, prompt, attention of the expert over the backbone's keys and values, masks,
positions, projections, Euler steps, unicycle. Only the backbone itself and the image processor are transformers'.
Imports nothing of causaldrive. One row at a time is never assumed: rows are padded on the left, as released.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SYSTEM = "You are a driving assistant that generates safe and accurate actions."
INSTRUCTION = "output the chain-of-thought reasoning of the driving process, then output the future trajectory."
TITLES = ["Front left camera", "Front camera", "Front right camera", "Front telephoto camera"]


def history_bins(xyz: np.ndarray) -> list[int]:
    """(16, 3) positions ending at the origin to 48 bins; the origin is put in front."""
    low, high = np.array([-4.0, -4, -10]), np.array([4.0, 4, 10])
    bins, previous = [], np.zeros(3)
    for point in xyz:
        for axis in range(3):
            share = (point[axis] - previous[axis] - low[axis]) / (high[axis] - low[axis])
            bins.append(min(max(round(share * 999), 0), 999))
        previous = point
    return bins


def prompt(kind: str, xyz: np.ndarray, image_tokens: list[list[int]]) -> str:
    """The prompt as one string; `image_tokens` holds one list a camera, one number a frame."""
    out = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
    for camera, counts in enumerate(image_tokens):
        if kind == "1.5":
            out += TITLES[camera] + ": "
        for frame, count in enumerate(counts):
            out += f"frame {frame} " if kind == "1.5" else ""
            out += "<|vision_start|>" + "<|image_pad|>" * count + "<|vision_end|>"
    out += "<|traj_history_start|>" + "".join(f"<i{3000 + bin_}>" for bin_ in history_bins(xyz))
    return out + f"<|traj_history_end|>{INSTRUCTION}<|im_end|>\n<|im_start|>assistant\n<|cot_start|>"


def pictures(images: np.ndarray, min_pixels: int, max_pixels: int) -> tuple[Tensor, Tensor]:
    """(N, H, W, 3) uint8 to Qwen's patches and grids."""
    made = Qwen2VLImageProcessorPil(
        patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        size={"shortest_edge": min_pixels, "longest_edge": max_pixels},
    )(images=list(images), return_tensors="pt")  # fmt: skip
    return made["pixel_values"], made["image_grid_thw"]


def rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def fourier(x: Tensor, frequencies: Tensor) -> Tensor:
    angle = 2 * math.pi * x[..., None] * frequencies
    return math.sqrt(2) * torch.cat([angle.sin(), angle.cos()], -1)


@dataclass
class Plain:
    """`weights`: every tensor of the release under its name; `vlm`: the backbone; `text`: its text sizes."""

    kind: str
    weights: dict[str, Tensor]
    vlm: Any
    text: dict[str, Any]
    frequencies: Tensor
    statistics: tuple[float, float, float, float]
    bins: range  # ids of <i0>... of both kinds
    start: int  # <|traj_future_start|>
    pad: int

    def project_in(self, x: Tensor, t: Tensor) -> Tensor:
        w = self.weights
        time = fourier(t, self.frequencies)[:, None].expand(-1, 64, -1)
        h = torch.cat([fourier(x[..., 0], self.frequencies), fourier(x[..., 1], self.frequencies), time], -1)
        for layer in (0, 3, 6):
            name = f"action_in_proj.encoder.trunk.{layer}"
            h = h @ w[f"{name}.weight"].T + w[f"{name}.bias"]
            if layer < 6:
                h = rms(functional.silu(h), w[f"action_in_proj.encoder.trunk.{layer + 2}.weight"], 1e-5)
        return functional.layer_norm(h, h.shape[-1:], w["action_in_proj.norm.weight"], w["action_in_proj.norm.bias"])

    def velocity(self, cache: list[tuple[Tensor, Tensor]], visible: Tensor, first: Tensor, x: Tensor, t: Tensor):
        """(B, 64, 2); `visible` (B, L) columns of the cache, `first` (B,) position of way-point 0."""
        h, w = self.project_in(x, t), self.weights
        size, heads = (
            self.text["head_dim"],
            w["expert.layers.0.self_attn.q_proj.weight"].shape[0] // self.text["head_dim"],
        )
        positions = (first[:, None] + torch.arange(64)).float()
        inverse = self.text["rope_theta"] ** (-torch.arange(0, size, 2).float() / size)
        angle = torch.cat([positions[..., None] * inverse] * 2, -1)[:, None]
        hidden = torch.where(visible, 0.0, torch.finfo(torch.float32).min)[:, None, None, :].expand(-1, 1, 64, -1)
        mask = torch.cat([hidden, torch.zeros(len(x), 1, 64, 64)], -1)  # way-points see each other both ways

        def turned(v: Tensor) -> Tensor:
            half = size // 2
            return v * angle.cos() + torch.cat([-v[..., half:], v[..., :half]], -1) * angle.sin()

        for layer, (cached_keys, cached_values) in enumerate(cache):
            p = f"expert.layers.{layer}."
            normed = rms(h, w[p + "input_layernorm.weight"], 1e-6)
            q, k, v = (
                (normed @ w[f"{p}self_attn.{n}_proj.weight"].T).view(len(x), 64, -1, size).transpose(1, 2)
                for n in "qkv"
            )
            q = turned(rms(q, w[p + "self_attn.q_norm.weight"], 1e-6))
            k = turned(rms(k, w[p + "self_attn.k_norm.weight"], 1e-6))
            groups = heads // k.shape[1]
            keys = torch.cat([cached_keys, k], 2).repeat_interleave(groups, 1)
            values = torch.cat([cached_values, v], 2).repeat_interleave(groups, 1)
            share = (q @ keys.transpose(2, 3) / math.sqrt(size) + mask).softmax(-1)
            mixed = (share @ values).transpose(1, 2).reshape(len(x), 64, -1)
            h = h + mixed @ w[p + "self_attn.o_proj.weight"].T
            normed = rms(h, w[p + "post_attention_layernorm.weight"], 1e-6)
            gate, up = (normed @ w[f"{p}mlp.{n}_proj.weight"].T for n in ("gate", "up"))
            h = h + (functional.silu(gate) * up) @ w[p + "mlp.down_proj.weight"].T
        h = rms(h, w["expert.norm.weight"], 1e-6)
        return h @ w["action_out_proj.weight"].T + w["action_out_proj.bias"]

    @torch.no_grad()
    def think(self, inputs: dict[str, Tensor], tokens: int) -> tuple[Tensor, Tensor]:
        """Greedy text after left-padded prompts, trajectory ids barred, then the start token: ids and mask (B, T)."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        for step in range(tokens + 1):
            logits = self._vlm(inputs, ids, mask).logits[:, -1].float()
            logits[:, self.bins.start : self.bins.stop] = -torch.inf
            chosen = logits.argmax(-1) if step < tokens else torch.full((len(ids),), self.start)
            ids, mask = torch.cat([ids, chosen[:, None]], 1), torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        return ids, mask

    def _vlm(self, inputs: dict[str, Tensor], ids: Tensor, mask: Tensor):
        images = {"pixel_values": inputs["pixel_values"], "image_grid_thw": inputs["image_grid_thw"]}
        kinds = (ids == inputs["image_id"]).long()
        return self.vlm(input_ids=ids, attention_mask=mask, mm_token_type_ids=kinds, use_cache=True, **images)

    @torch.no_grad()
    def drive(self, inputs: dict[str, Tensor], ids: Tensor, mask: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Normalised actions (B, 64, 2) by Euler steps from `noise`, given rows that hold the start token."""
        prompt = inputs["input_ids"].shape[1]  # the prompt in one pass: what stands in padding depends on its length
        cached = self._vlm(inputs, ids[:, :prompt], mask[:, :prompt]).past_key_values
        kinds = (ids == inputs["image_id"]).long()[:, :prompt]
        positions, _ = self.vlm.model.get_rope_index(
            ids[:, :prompt], kinds, inputs["image_grid_thw"], None, attention_mask=mask[:, :prompt]
        )
        later = positions.amax((0, 2))[:, None] + 1 + torch.arange(ids.shape[1] - prompt)  # text counts on from there
        out = self.vlm(
            input_ids=ids[:, prompt:], attention_mask=mask, position_ids=later.expand(3, -1, -1), past_key_values=cached
        )
        offset = (ids == self.start).int().argmax(1) + 1
        columns = torch.arange(ids.shape[1])
        visible = columns[None] < offset[:, None]
        if self.kind == "1.5":
            visible = visible & mask.bool()
        first = later.gather(1, offset[:, None] - 1 - prompt)[:, 0] + 1
        cache = [(layer.keys, layer.values) for layer in out.past_key_values.layers]
        x = noise
        for step in range(steps):
            x = x + self.velocity(cache, visible, first, x, torch.full((len(x),), step / steps)) / steps
        return x

    def integrate(self, actions: np.ndarray, v0: float) -> np.ndarray:
        """Normalised actions (64, 2) to (64, 3) x, y, yaw, one step after the other."""
        accel_mean, accel_std, curvature_mean, curvature_std = self.statistics
        x = y = yaw = 0.0
        speed, out = v0, []
        for a, kappa in actions.astype(np.float64):
            a, kappa = a * accel_std + accel_mean, kappa * curvature_std + curvature_mean
            later, turned = speed + 0.1 * a, yaw + kappa * (0.1 * speed + 0.005 * a)
            x += 0.05 * (speed * math.cos(yaw) + later * math.cos(turned))
            y += 0.05 * (speed * math.sin(yaw) + later * math.sin(turned))
            speed, yaw = later, turned
            out.append((x, y, yaw))
        return np.array(out)


def initial_speed(xyz: np.ndarray, yaw: np.ndarray) -> float:
    """v_0 from 16 history poses: v_t u_t + v_{t+1} u_{t+1} = 20 dp_t, third differences weighed 1, ridge 1e-4."""
    rows, target = [], []
    for t in range(15):
        for axis, unit in ((0, np.cos), (1, np.sin)):
            row = np.zeros(16)
            row[t], row[t + 1] = unit(yaw[t]), unit(yaw[t + 1])
            rows.append(row)
            target.append(20 * (xyz[t + 1, axis] - xyz[t, axis]))
    a, d = np.array(rows), np.diff(np.eye(16), 3, axis=0)
    return float(np.linalg.solve(a.T @ a + d.T @ d + 1e-4 * np.eye(16), a.T @ np.array(target))[-1])


def encode(xy: np.ndarray, yaw: np.ndarray, v0: float) -> np.ndarray:
    """Way-points (64, 2), (64,) to raw (acceleration, curvature) (64, 2): the four ridge solves in float64."""

    def difference(count: int, order: int) -> np.ndarray:
        return np.diff(np.eye(count), order, axis=0)

    d3 = difference(65, 3)
    theta = np.r_[0, np.linalg.solve(
        np.eye(64) * (1 + 1e-8) + d3[:, 1:].T @ d3[:, 1:], np.unwrap(np.r_[0, yaw])[1:]
    )]  # fmt: skip
    rows, target = [], []
    points = np.vstack([np.zeros(2), xy])
    for t in range(64):
        for axis, unit in ((0, np.cos), (1, np.sin)):
            row = np.zeros(65)
            row[t], row[t + 1] = unit(theta[t]), unit(theta[t + 1])
            rows.append(row)
            target.append(20 * (points[t + 1, axis] - points[t, axis]))
    a = np.vstack([np.array(rows), d3])
    b = np.r_[np.array(target), np.zeros(len(d3))] - a[:, 0] * v0
    speed = np.r_[v0, np.linalg.solve(a[:, 1:].T @ a[:, 1:] + 1e-4 * np.eye(64), a[:, 1:].T @ b)]
    d2 = difference(64, 2)
    accel = np.linalg.solve(np.eye(64) * (1 + 1e-4) + d2.T @ d2, np.diff(speed) / 0.1)
    arc = 0.1 * speed[:-1] + 0.005 * accel
    kappa = np.linalg.solve(np.diag(arc**2 + 1e-4) + d2.T @ d2, arc * np.diff(theta))
    return np.stack([accel, kappa], 1)
