"""How much of a drive the action space keeps: way-points to actions and back, and through trajectory tokens.

Two spaces: the released one, and that of our presets, which corrects the actions until their path follows the points.
Made-up drives of the published table, a drive with pose noise, and every half second of real logs (comma2k19 and
Argoverse 2). ADE is the mean distance over 64 way-points, FDE that at 6.4 s. About ten seconds of one core.

Prints tables and writes JSON. Run: python benchmarks/round_trip.py --samples ../shared/samples
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causaldrive.clips.av2 import ImportAv2Config
from causaldrive.clips.av2 import run as import_av2
from causaldrive.clips.comma2k19 import ImportComma2k19Config
from causaldrive.clips.comma2k19 import run as import_comma2k19
from causaldrive.clips.samples import cut_sample, usable_range
from causaldrive.clips.store import read_recordings
from causaldrive.clips.types import Sample
from causaldrive.ground.files import write_json
from causaldrive.student.action_space import UnicycleActionSpace
from causaldrive.student.config import ActionSpaceSettings, TrajectoryTokenSettings
from causaldrive.student.presets import FOLLOW_WEIGHT
from causaldrive.student.statistics import raw_actions
from causaldrive.student.tokens import FutureTokens

BRAKE = np.r_[np.full(40, -2.5), np.zeros(24)]
DRIVES = {  # initial speed, acceleration, curvature; published ADE, FDE, and both through 3000 bins
    "10 m/s straight": (10.0, 0.0, 0.0, (0.0008, 0.0016, 0.0066, 0.019)),
    "10 m/s, curvature 0.02": (10.0, 0.0, 0.02, (0.0015, 0.0039, 0.041, 0.117)),
    "brake 10 to 0 at 2.5 m/s2": (10.0, BRAKE, 0.0, (0.0014, 0.0037, 0.006, 0.016)),
    "6 m/s, curvature to 0.12": (6.0, 0.0, np.linspace(0, 0.12, 64), (0.005, 0.014, 0.007, 0.019)),
}
RELEASED = ActionSpaceSettings(
    accel_mean_mps2=0.02902694707164455, accel_std_mps2=0.6810426736454882,
    curvature_mean_1pm=0.0002692167976330542, curvature_std_1pm=0.026148280660833106,
)  # fmt: skip
STEP_US = 500_000  # between the moments of a real log
NOISE_M, NOISE_RAD, PUBLISHED_NOISY_ADE_M = 0.02, 0.002, 0.068


def spaces() -> dict[str, UnicycleActionSpace]:
    """Both with the released statistics, so that the same bins serve both."""
    ours = dataclasses.replace(RELEASED, follow_weight=FOLLOW_WEIGHT)
    return {"released": UnicycleActionSpace(RELEASED), "our presets": UnicycleActionSpace(ours)}


def errors_m(space: UnicycleActionSpace, xy: Tensor, yaw: Tensor, v0: Tensor, quantised: bool) -> Tensor:
    """(N, 64) distances between way-points and what comes back."""
    actions = space.encode(xy, yaw, v0)
    if quantised:
        tokens = FutureTokens(TrajectoryTokenSettings(), 3000)
        bins = tokens.encode(space.normalise(actions).numpy())
        actions = space.denormalise(torch.tensor(tokens.decode(bins)))
    return (space.decode(actions, v0)[0] - xy).norm(dim=-1)


def made_up(space: UnicycleActionSpace) -> dict[str, Any]:
    """The published table's drives: ADE, FDE, and both through bins."""
    rows: dict[str, Any] = {}
    for name, (speed, accel, curvature, published) in DRIVES.items():
        xy, yaw, v0 = _drive(space, speed, accel, curvature)
        found = []
        for quantised in (False, True):
            error = errors_m(space, xy, yaw, v0, quantised)
            found += [float(error.mean()), float(error[0, -1])]
        rows[name] = {"ade_fde_and_through_bins_m": found, "published_m": published}
    return rows


def noisy(space: UnicycleActionSpace, drives: int = 100) -> dict[str, Any]:
    """Mean over drives with noise on every pose, against the drive without."""
    xy, yaw, v0 = (part.expand(drives, *part.shape[1:]) for part in _drive(space, 10.0, 0.0, 0.02))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((*xy.shape[:2], 3), generator=generator) * torch.tensor([NOISE_M, NOISE_M, NOISE_RAD])
    actions = space.encode(xy + noise[..., :2], yaw + noise[..., 2], v0)
    error = (space.decode(actions, v0)[0] - xy).norm(dim=-1)
    return {"drives": drives, "ade_m": float(error.mean()), "published_m": PUBLISHED_NOISY_ADE_M}


def _drive(space: UnicycleActionSpace, speed: float, accel: Any, curvature: Any) -> tuple[Tensor, Tensor, Tensor]:
    actions = np.stack(np.broadcast_arrays(accel, curvature, np.zeros(64))[:2], axis=-1)
    v0 = torch.tensor([speed])
    xy, yaw, _ = space.decode(torch.tensor(actions)[None].float(), v0)
    return xy, yaw, v0


def real_samples(samples: Path) -> list[Sample]:
    with tempfile.TemporaryDirectory() as name:
        import_comma2k19(ImportComma2k19Config(samples / "comma2k19", Path(name) / "comma"))
        import_av2(ImportAv2Config(samples / "av2" / "sensor", Path(name) / "av2"))
        recordings, _ = read_recordings(Path(name))
    return [cut_sample(recording, t0_us) for recording in recordings
            for t0_us in range(*usable_range(recording), STEP_US)]  # fmt: skip


def real(space: UnicycleActionSpace, samples: list[Sample]) -> dict[str, Any]:
    """Errors and the heading's difference at 6.4 s, by source."""
    raw, v0 = raw_actions(samples, space)
    xy, yaw, _ = space.decode(raw, v0)
    truth = torch.from_numpy(np.stack([s.future_xyz_in_rig_m[:, :2] for s in samples])).float()  # pyright: ignore
    heading = torch.from_numpy(np.stack([s.future_yaw_rad for s in samples])).float()  # pyright: ignore
    error, turned = (xy - truth).norm(dim=-1), (yaw - heading).abs()[:, -1]
    sources = np.array([sample.recording_id.split("_")[0] for sample in samples])
    rows = {}
    for source in (*sorted(set(sources.tolist())), "all"):
        chosen = torch.from_numpy((sources == source) | (source == "all"))
        fde = error[chosen, -1]
        rows[source] = {
            "moments": int(chosen.sum()), "fde_max_m": float(fde.max()), "fde_mean_m": float(fde.mean()),
            "ade_mean_m": float(error[chosen].mean()), "yaw_max_rad": float(turned[chosen].max()),
            "within_bounds": int(space.is_within_bounds(raw[chosen]).sum()),
        }  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, default=Path("../shared/samples"), help="real recordings")
    parser.add_argument("--out", type=Path, default=Path("docs/results/round_trip.json"))
    arguments = parser.parse_args()
    samples = real_samples(arguments.samples)
    found = {name: {"made_up": made_up(space), "noisy": noisy(space), "real": real(space, samples)}
             for name, space in spaces().items()}  # fmt: skip
    for name, parts in found.items():
        print(name)
        for drive, row in parts["made_up"].items():
            print(f"  {drive:26s}" + "".join(f"{value:9.4f}" for value in row["ade_fde_and_through_bins_m"]))
        print(f"  {'noise':26s}{parts['noisy']['ade_m']:9.4f}")
        for source, row in parts["real"].items():
            print(f"  {source:26s}" + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    write_json(arguments.out, {"follow_weight": FOLLOW_WEIGHT, "every_s": STEP_US / 1e6, "spaces": found})


if __name__ == "__main__":
    main()
