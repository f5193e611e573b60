"""Actions corrected until the path that they make follows the recorded points.

The released solves take the heading from the log. Where a car's recorded heading is not the direction of its path (a
mounting angle, slip), the decoded path leaves the recorded one sideways by that angle. Gauss-Newton over corrections d
of acceleration and of lateral acceleration (both m/s^2, so that one weight serves both):

    min |p(actions + d) - points|^2 + weight |d|^2

which follows what lasts about a second and longer, and leaves the noise of single points alone. Knows nothing of
tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 3


def follow(raw_actions: Tensor, points_xy_m: Tensor, initial_speed_mps: Tensor, dt_s: float, weight: float) -> Tensor:
    """Raw actions (B, T, 2) near the given ones, whose path from the origin follows the points (B, T, 2)."""
    actions, v0 = raw_actions.double(), initial_speed_mps.double()
    scale = _lateral_scale(actions, v0, dt_s)  # of curvature: one unit of d is 1 m/s^2
    correction = torch.zeros_like(actions)
    for _ in range(ROUNDS):
        reached, slope = _path_and_slope(actions + correction * scale, v0, dt_s)
        slope = slope * scale.transpose(1, 2).flatten(1)[:, None]
        missing = (points_xy_m.double() - reached).flatten(1)
        d = correction.transpose(1, 2).flatten(1)
        normal = slope.transpose(1, 2) @ slope
        normal.diagonal(dim1=1, dim2=2).add_(weight)
        right = slope.transpose(1, 2) @ missing[..., None] - weight * d[..., None]
        step = torch.cholesky_solve(right, torch.linalg.cholesky(normal))[..., 0]
        correction = (d + step).view(len(d), 2, -1).transpose(1, 2)
    return (actions + correction * scale).float()


def _lateral_scale(actions: Tensor, v0: Tensor, dt_s: float) -> Tensor:
    """(B, T, 2): 1, and 1 / (v^2 + 1), which turns lateral acceleration into curvature and is finite at standstill."""
    speed = v0[:, None] + dt_s * (actions[..., 0].cumsum(1) - actions[..., 0])
    return torch.stack([torch.ones_like(speed), 1 / (speed.square() + 1)], dim=-1)


def _path_and_slope(actions: Tensor, v0: Tensor, dt_s: float) -> tuple[Tensor, Tensor]:
    """Points (B, T, 2) of `UnicycleActionSpace.decode`, and their derivative (B, 2T, 2T): rows x, y of each point,
    columns the accelerations and then the curvatures."""
    accel, curvature = actions.unbind(-1)
    count = accel.shape[1]
    before = torch.tril(torch.ones(count + 1, count, dtype=accel.dtype), -1)  # what lies before each of T + 1 times
    speed = v0[:, None] + dt_s * accel @ before.T
    arc = speed[:, :-1] * dt_s + 0.5 * accel * dt_s**2
    theta = (curvature * arc) @ before.T
    along = torch.stack([theta.cos(), theta.sin()], -1)  # (B, T + 1, 2)
    across = torch.stack([-theta.sin(), theta.cos()], -1)
    arc_by_accel = dt_s**2 * (before[:-1] + 0.5 * torch.eye(count, dtype=accel.dtype))
    theta_by = torch.cat([before @ (curvature[..., None] * arc_by_accel), before * arc[:, None]], dim=2)
    speed_by = torch.cat([dt_s * before, torch.zeros_like(before)], dim=1)
    velocity_by = along[..., None] * speed_by[:, None] + (speed[..., None] * across)[..., None] * theta_by[:, :, None]
    velocity = speed[..., None] * along
    points = torch.cumsum(0.5 * dt_s * (velocity[:, :-1] + velocity[:, 1:]), dim=1)
    slope = torch.cumsum(0.5 * dt_s * (velocity_by[:, :-1] + velocity_by[:, 1:]), dim=1)
    return points, slope.flatten(1, 2)
