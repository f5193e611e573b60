"""The unicycle acceleration/curvature space: way-points to (acceleration, curvature) and back.

State (x, y, theta, v) at 10 Hz. Decode: v' = v + a dt; theta' = theta + kappa (v dt + a dt^2 / 2);
p' = p + dt/2 (v u + v' u'), u = (cos theta, sin theta). Encode: four ridge solves (heading, speed, acceleration,
curvature), each `(A^T W A + lambda/dt^(2k) D_k^T D_k + ridge I) x = A^T W b` by Cholesky in float32; with
`follow_weight` above 0, as in our own presets, corrected until the path follows the points (`following`).
Source: the action space of the released Alpamayo-R1. Knows nothing of tokens or networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from causaldrive.student.config import ActionSpaceSettings
from causaldrive.student.following import follow

_STENCILS = {2: (-1.0, 2.0, -1.0), 3: (-1.0, 3.0, -3.0, 1.0)}


class UnicycleActionSpace(nn.Module):
    """Batched float32 conversion; the normalisation statistics are buffers made from the settings."""

    accel_mean: Tensor
    accel_std: Tensor
    curvature_mean: Tensor
    curvature_std: Tensor

    def __init__(self, settings: ActionSpaceSettings, persistent: bool = False):
        super().__init__()
        self.settings = settings
        for name in ("accel_mean", "accel_std", "curvature_mean", "curvature_std"):
            self.register_buffer(name, torch.zeros(()), persistent=persistent)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Write the statistics again: loaders that build on the meta device leave non-persistent buffers undefined."""
        s, dtype = self.settings, getattr(torch, self.settings.stats_dtype)
        values = {"accel_mean": s.accel_mean_mps2, "accel_std": s.accel_std_mps2,
                  "curvature_mean": s.curvature_mean_1pm, "curvature_std": s.curvature_std_1pm}  # fmt: skip
        for name, value in values.items():
            getattr(self, name).data.copy_(torch.tensor(value, dtype=dtype).float())

    def normalise(self, actions: Tensor) -> Tensor:
        """(..., 2) raw (m/s^2, 1/m) to normalised float32."""
        mean = torch.stack([self.accel_mean, self.curvature_mean]).float()
        return (actions.float() - mean) / torch.stack([self.accel_std, self.curvature_std]).float()

    def denormalise(self, actions: Tensor) -> Tensor:
        """Inverse of `normalise`; nothing is clipped."""
        mean = torch.stack([self.accel_mean, self.curvature_mean]).float()
        return actions.float() * torch.stack([self.accel_std, self.curvature_std]).float() + mean

    def is_within_bounds(self, raw_actions: Tensor) -> Tensor:
        """(..., 64, 2) raw actions to (...) bool."""
        low, high = self._bounds(raw_actions)
        return ((raw_actions >= low) & (raw_actions <= high)).all(-1).all(-1)

    def clip(self, raw_actions: Tensor) -> Tensor:
        """Raw actions (..., 2) brought into the bounds."""
        low, high = self._bounds(raw_actions)
        return raw_actions.clamp(low, high)

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        accel, curvature = self.settings.accel_bounds_mps2, self.settings.curvature_bounds_1pm
        return like.new_tensor([accel[0], curvature[0]]), like.new_tensor([accel[1], curvature[1]])

    @torch.no_grad()
    def initial_speed(self, history_xy_m: Tensor, history_yaw_rad: Tensor) -> Tensor:
        """v_0 (B,) in m/s at the last of the history poses (B, H, 2), (B, H): free least squares on the trapezoid."""
        s = self.settings
        yaw = unwrap(history_yaw_rad.float())
        rows, target = _trapezoid(history_xy_m.float(), yaw, s.dt_s)
        return _ridge(rows, target, 3, s.speed_lambda / s.dt_s**6, s.speed_ridge)[:, -1]

    @torch.no_grad()
    def encode(self, future_xy_m: Tensor, future_yaw_rad: Tensor, initial_speed_mps: Tensor) -> Tensor:
        """Way-points (B, 64, 2), yaw (B, 64) and v_0 (B,), in the rig frame at t0, to raw actions (B, 64, 2)."""
        with torch.autocast(future_xy_m.device.type, enabled=False):
            s, v0 = self.settings, initial_speed_mps.float()
            zero = torch.zeros_like(v0)
            yaw = unwrap(torch.cat([zero[:, None], future_yaw_rad.float()], dim=1))
            theta = self._heading(yaw[:, 1:])
            points = torch.cat([future_xy_m.new_zeros(len(v0), 1, 2).float(), future_xy_m.float()], dim=1)
            speed = self._speed(points, theta, v0)
            accel = self._acceleration(speed)
            arc = speed[:, :-1] * s.dt_s + 0.5 * accel * s.dt_s**2
            actions = torch.stack([accel, self._curvature(theta.diff(dim=1), arc)], dim=-1)
            return follow(actions, points[:, 1:], v0, s.dt_s, s.follow_weight) if s.follow_weight else actions

    def decode(self, raw_actions: Tensor, initial_speed_mps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw actions (B, 64, 2) and v_0 (B,) to xy (B, 64, 2), yaw (B, 64) and speed (B, 65), from the origin."""
        dt = self.settings.dt_s
        accel, curvature = raw_actions.float().unbind(-1)
        v0 = initial_speed_mps.float()[:, None]
        speed = torch.cat([v0, v0 + torch.cumsum(accel * dt, dim=1)], dim=1)
        turn = curvature * (speed[:, :-1] * dt + 0.5 * accel * dt**2)
        yaw = torch.cat([torch.zeros_like(v0), torch.cumsum(turn, dim=1)], dim=1)
        velocity = speed[..., None] * torch.stack([yaw.cos(), yaw.sin()], dim=-1)
        xy = torch.cumsum(0.5 * dt * (velocity[:, :-1] + velocity[:, 1:]), dim=1)
        return xy, yaw[:, 1:], speed

    def _heading(self, future_yaw_rad: Tensor) -> Tensor:
        """theta_0..theta_64 (B, 65), theta_0 = 0 fixed."""
        s = self.settings
        rows = torch.eye(future_yaw_rad.shape[1], device=future_yaw_rad.device).expand(len(future_yaw_rad), -1, -1)
        fixed = torch.zeros_like(future_yaw_rad[:, 0])
        return _ridge(rows, future_yaw_rad, 3, s.heading_lambda / s.dt_s**6, s.heading_ridge, first=fixed)

    def _speed(self, points_xy_m: Tensor, theta_rad: Tensor, v0: Tensor) -> Tensor:
        """v_0..v_64 (B, 65), v_0 fixed."""
        s = self.settings
        rows, target = _trapezoid(points_xy_m, theta_rad, s.dt_s)
        target = target - rows[:, :, 0] * v0[:, None]
        return _ridge(rows[:, :, 1:], target, 3, s.speed_lambda / s.dt_s**6, s.speed_ridge, first=v0)

    def _acceleration(self, speed_mps: Tensor) -> Tensor:
        s = self.settings
        target = speed_mps.diff(dim=1) / s.dt_s
        rows = torch.eye(target.shape[1], device=target.device).expand(len(target), -1, -1)
        return _ridge(rows, target, 2, s.accel_lambda / s.dt_s**4, s.accel_ridge)

    def _curvature(self, turn_rad: Tensor, arc_m: Tensor) -> Tensor:
        s = self.settings
        return _ridge(torch.diag_embed(arc_m), turn_rad, 2, s.curvature_lambda / s.dt_s**4, s.curvature_ridge)


def unwrap(angle_rad: Tensor) -> Tensor:
    """(..., T) angles without jumps of 2 pi along the last dimension."""
    step = angle_rad.diff(dim=-1)
    jump = torch.round(step / (2 * torch.pi)) * (2 * torch.pi)
    return torch.cat([angle_rad[..., :1], angle_rad[..., 1:] - torch.cumsum(jump, dim=-1)], dim=-1)


def _trapezoid(points_xy_m: Tensor, yaw_rad: Tensor, dt_s: float) -> tuple[Tensor, Tensor]:
    """Rows (B, 2(N-1), N) and target (B, 2(N-1)) of v_t u_t + v_{t+1} u_{t+1} = (2/dt) dp_t for N poses."""
    batch, count = yaw_rad.shape
    heading = torch.stack([yaw_rad.cos(), yaw_rad.sin()], dim=1)  # (B, 2, N)
    rows = torch.diag_embed(heading)[:, :, :-1] + torch.diag_embed(heading[:, :, 1:], offset=1)[:, :, :-1]
    target = (2 / dt_s) * points_xy_m.diff(dim=1).transpose(1, 2)
    return rows.reshape(batch, 2 * (count - 1), count), target.reshape(batch, -1)


def _ridge(
    rows: Tensor, target: Tensor, order: int, smooth: float, ridge: float, first: Tensor | None = None
) -> Tensor:
    """Solve min |rows x - target|^2 + smooth |D x|^2 + ridge |x|^2 for x (B, N).

    With `first` (B,), the sequence that is smoothed is [first, x] with `first` fixed, and that sequence is returned.
    """
    unknowns = rows.shape[2]
    stencil = _difference(unknowns + (first is not None), order, rows)
    right = (rows.transpose(1, 2) @ target[..., None])[..., 0]
    if first is not None:
        right = right - smooth * first[:, None] * (stencil[:, 1:].T @ stencil[:, 0])
        stencil = stencil[:, 1:]
    normal = rows.transpose(1, 2) @ rows + smooth * (stencil.T @ stencil)
    solution = _cholesky_solve(normal, right, ridge)
    return solution if first is None else torch.cat([first[:, None], solution], dim=1)


def _difference(count: int, order: int, like: Tensor) -> Tensor:
    """(count - order, count) matrix of the finite-difference stencil."""
    matrix = like.new_zeros(count - order, count)
    for column, weight in enumerate(_STENCILS[order]):
        matrix.diagonal(column).fill_(weight)
    return matrix


def _cholesky_solve(normal: Tensor, right: Tensor, ridge: float) -> Tensor:
    """Solve (normal + ridge I) x = right; where a row fails, its ridge grows tenfold until it holds."""
    eye = torch.eye(normal.shape[-1], device=normal.device)
    ridges = torch.full_like(normal[:, 0, 0], ridge)
    for _ in range(12):
        factor, failed = torch.linalg.cholesky_ex(normal + ridges[:, None, None] * eye)
        if not failed.any():
            return torch.cholesky_solve(right[..., None], factor)[..., 0]
        ridges = torch.where(failed > 0, ridges * 10, ridges)
    raise AssertionError("the normal matrix holds values that are not numbers")
