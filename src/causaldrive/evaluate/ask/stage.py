"""The command `ask`: any backbone, student or endpoint asked about videos in one of the prompt modes.

Reads a video, a picture, a recording or a directory of those. Writes `answers.json` (every reply, what was read of it,
in the model's, the picture's and where known the rig's frame), `pictures/*.png` and `*.mp4` with the answers drawn in,
`report.html`. A killed run does not ask again for what was answered. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from causaldrive.clips.store import SetAside
from causaldrive.evaluate.ask.askers import AskEndpoint, Asker, EndpointAsker, LocalAsker, Manner, Said, message
from causaldrive.evaluate.ask.media import Moment, find_clips, moments
from causaldrive.evaluate.ask.modes import Mode, read_mode
from causaldrive.evaluate.ask.reading import COORDINATES
from causaldrive.evaluate.ask.report import parse_rates, write_report
from causaldrive.evaluate.ask.telling import tell
from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.files import write_json
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import Run, open_run


@dataclass(frozen=True)
class AskConfig:
    """Ask a model about a video in a prompt mode."""

    video: Positional[Path]  # a video, a picture, a recording, or a directory of those
    mode: str  # caption, 2d_grounding, point_3d, trajectory_2d, temporal_localization, av_cot, driving_trajectory
    out: Path  # run directory
    model: str = ""  # a student's checkpoint, or a Qwen-VL / Cosmos-Reason backbone: a directory or a hub id
    endpoint: AskEndpoint = field(default_factory=AskEndpoint)
    parameters: tuple[str, ...] = ()  # of the mode, each NAME=VALUE, such as object='the red car'
    modes: Path | None = None  # directory of own mode files; the package's where none is named
    camera: str = ""  # of recordings; the first where none is named
    start_s: float = 0.0  # where the first window begins
    window_s: float = 4.0  # how much is shown at once; 0: all; the end of a window is "now"
    every_s: float = 0.0  # ask again so much later, and so on; 0: once
    frames_hz: float = 2.0  # pictures a second that are shown
    image_width_px: int = 640  # wider pictures are scaled down to this
    coordinates: str = "thousand"  # how the model counts: thousand (Qwen3-VL, Cosmos-Reason2) or pixels (Qwen2.5-VL)
    think: bool = False  # ask for thinking before the answer
    max_tokens: int = 1024  # longest reply
    temperature: float = 0.0
    seed: int = 0  # of drawn replies

    def validate(self) -> None:
        """Raises UserError for a number out of range, or where it is not said who is asked."""
        for name, least in (("start_s", 0), ("window_s", 0), ("every_s", 0), ("frames_hz", 0.05),
                            ("image_width_px", 32), ("max_tokens", 1), ("temperature", 0)):  # fmt: skip
            if not getattr(self, name) >= least:
                option = "--" + name.replace("_", "-")
                raise UserError(f"ask: {option} is {getattr(self, name)}, at least {least} expected; change it.")
        if self.coordinates not in COORDINATES:
            raise unknown_name("ask: coordinates", self.coordinates, COORDINATES)
        asks_endpoint = bool(self.endpoint.url or self.endpoint.model)
        if asks_endpoint == bool(self.model):
            both = "both are" if self.model else "neither is"
            raise UserError(
                f"ask: one of --model (a directory or hub id) and --endpoint.url with --endpoint.model expected, {both}"
                " given; say who is asked."
            )
        if asks_endpoint:
            self.endpoint.check("endpoint")

    def asker(self) -> Asker:
        return LocalAsker(self.model) if self.model else EndpointAsker(self.endpoint, self.out / "replies")


def run(config: AskConfig) -> None:
    """Ask, read, draw, report. Raises UserError for what a person can mend."""
    mode = read_mode(config.mode, config.parameters, config.modes)
    config.validate()
    clips, aside = find_clips(config.video, config.camera)
    with open_run(config.out, "ask", config, {"video": config.video}) as opened:
        if opened.done:
            return
        asked, late = _moments(clips, config)
        rows = _rows(asked, mode, config, opened)
        write_json(config.out / "answers.json", {"mode": mode.name, "who": _who(config), **parse_rates(rows),
                                                 "answers": rows})  # fmt: skip
        _finish(config, mode, asked, rows, [*aside, *late])


def _moments(clips: Sequence[Any], config: AskConfig) -> tuple[list[Moment], list[SetAside]]:
    found: list[Moment] = []
    aside: list[SetAside] = []
    for clip in clips:
        try:
            found += moments(clip, config.start_s, config.window_s, config.every_s, config.frames_hz)
        except UserError as error:
            aside.append(SetAside(clip.path, str(error)))
    if not found:
        raise UserError(aside[0].reason)
    return found, aside


def _rows(asked: Sequence[Moment], mode: Mode, config: AskConfig, opened: Run) -> list[dict[str, Any]]:
    """One row a moment in their order; what a killed run has already written is not asked again."""
    rows = {line["moment"]: line for line in opened.metrics()}
    left = [moment for moment in asked if moment.name not in rows]
    manner = Manner(config.think, config.image_width_px, config.max_tokens, config.temperature, config.seed)
    with Meter("ask", len(asked), "moments", done=len(asked) - len(left)) as meter:

        def heard(moment: Moment, said: Said) -> None:
            rows[moment.name] = row = tell(moment, mode, said, config.coordinates, manner.width_px, config.out)
            if said.failure is None:
                opened.log(**row)
            meter.advance()

        if left:
            config.asker().ask_all(left, mode, manner, heard)
    return [rows[moment.name] for moment in asked]


def _who(config: AskConfig) -> str:
    return config.model or f"{config.endpoint.model} at {config.endpoint.host}"


def _finish(
    config: AskConfig, mode: Mode, asked: Sequence[Moment], rows: list[dict[str, Any]], aside: Sequence[SetAside]
) -> None:
    manner = Manner(config.think, config.image_width_px, config.max_tokens, config.temperature, config.seed)
    pictures = asked[0].clip.read(asked[0].numbers[-1:], config.image_width_px)
    system, user = message(asked[0], mode, manner, (pictures.shape[2], pictures.shape[1]))
    title = f"{mode.name}: {_who(config)}"
    write_report(config.out, title, f"{system}\n\n{user}", rows, [[str(a.path), a.reason] for a in aside])
    found = parse_rates(rows)
    for entry in aside:
        print(f"ask: set aside: {entry.reason}")
    print(
        f"ask: {found['read']} of {found['replies']} replies could be read ({found['mended']} of them mended), "
        f"{found['entries']} entries, {found['entries_dropped']} dropped; {found['asked']} moments asked about."
    )
    for kind, count in found["failures"].items():
        print(f"ask: {count} x {kind}: {next(row['reason'] for row in rows if row['failure'] == kind)}")
    if len(rows) == 1 and rows[0]["text"]:
        print(rows[0]["text"])
