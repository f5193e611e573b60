"""Who is asked: a model in a directory, or an OpenAI-compatible endpoint. Both give the text that was said.

Reads moments and modes. A reply that did not come is a failure of a counted kind, not an exception. Knows nothing of
how answers are read or drawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from causaldrive.clips.resample import ego_at_10hz
from causaldrive.clips.samples import cut_sample
from causaldrive.evaluate.ask.media import Moment
from causaldrive.evaluate.ask.modes import Mode
from causaldrive.evaluate.ask.reading import schema_of
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import FUTURE_STEPS, STEP_S
from causaldrive.label.endpoint import Endpoint, EndpointConfig, Request
from causaldrive.label.openai_teacher import messages_of
from causaldrive.label.replies import BadReply
from causaldrive.label.reply_cache import ReplyCache
from causaldrive.label.seen import Sight, jpeg_url
from causaldrive.student.answering import Answerer, StudentAnswerer, open_answerer
from causaldrive.student.backbone import find_backbone
from causaldrive.student.generate import generate
from causaldrive.student.images import resize

WAYPOINT_STEP_S, WAYPOINTS = 0.4, 16  # what a language model is asked for; 6.4 s as the student's own future
_MOTION_S, _MOTION_EVERY = 2.0, 4  # own motion shown with driving_trajectory: two seconds, each 0.4 s


@dataclass(frozen=True)
class AskEndpoint(EndpointConfig):
    """An OpenAI-compatible endpoint; none where no URL is named."""

    reply_format: str = "text"  # text; json_schema or json_object hold the model to the mode's schema, without thinking
    retries: int = 2  # tries after the first on 429, 5xx, time-out, cut connection
    concurrency: int = 4  # requests at once


@dataclass(frozen=True)
class Said:
    """One reply: its text, why it ended where known, or the kind and reason of a failure; way-points a student drew."""

    text: str = ""
    failure: str | None = None
    reason: str = ""
    xy_in_rig_m: tuple[tuple[float, ...], ...] | None = None  # one each 0.1 s


@dataclass(frozen=True)
class Manner:
    """How a model is asked."""

    think: bool
    width_px: int
    max_tokens: int
    temperature: float
    seed: int


Heard = Callable[[Moment, Said], None]


class Asker(Protocol):
    """Asks about every moment and hands over each reply as it comes."""

    def ask_all(self, moments: Sequence[Moment], mode: Mode, manner: Manner, heard: Heard) -> None: ...


def message(moment: Moment, mode: Mode, manner: Manner, size_px: tuple[int, int]) -> tuple[str, str]:
    """(system, user) for a moment; `size_px` (width, height) of the pictures as they are shown."""
    shown: dict[str, Any] = {
        "times": moment.t_s if mode.sees == "video" else moment.t_s[-1:],
        "ego_history": motion_rows(moment), "count": WAYPOINTS, "step_s": WAYPOINT_STEP_S,
        "fx": None, "fy": None, "cx": None, "cy": None,
    }  # fmt: skip
    if moment.clip.camera is not None:
        camera = moment.clip.camera
        x, y = size_px[0] / camera.width_px, size_px[1] / camera.height_px
        shown |= {"fx": camera.fx_px * x, "fy": camera.fy_px * y, "cx": camera.cx_px * x, "cy": camera.cy_px * y}
    return mode.ask(shown, manner.think)


def motion_rows(moment: Moment) -> tuple[tuple[float, ...], ...]:
    """(s from now, speed, acceleration, yaw rate) up to now; none without a recording."""
    if moment.clip.recording is None:
        return ()
    ego = ego_at_10hz(moment.clip.recording.ego)
    past = (ego.t_us <= moment.now_us) & (ego.t_us >= moment.now_us - _MOTION_S * 1e6)
    rows = np.flatnonzero(past)[::-1][::_MOTION_EVERY][::-1]
    return tuple(
        ((int(ego.t_us[i]) - moment.now_us) / 1e6, float(ego.speed_mps[i]),
         float(ego.acceleration_in_rig_mps2[i, 0]), float(ego.speed_mps[i] * ego.curvature_1pm[i]))
        for i in rows
    )  # fmt: skip


def pictures_of(moment: Moment, mode: Mode, width_px: int) -> np.ndarray:
    """(F, H, W, 3) what the mode shows of a moment: all pictures, or the last."""
    return moment.clip.read(moment.numbers if mode.sees == "video" else moment.numbers[-1:], width_px)


class LocalAsker:
    """A student or backbone in a directory, asked one moment after the other."""

    def __init__(self, model: str):
        self._answerer: Answerer = open_answerer(find_backbone(model))

    def ask_all(self, moments: Sequence[Moment], mode: Mode, manner: Manner, heard: Heard) -> None:
        for moment in moments:
            if mode.answer == "waypoints" and isinstance(self._answerer, StudentAnswerer):
                heard(moment, self._drive(self._answerer, moment, manner))
                continue
            pictures = pictures_of(moment, mode, manner.width_px)
            times = moment.t_s if mode.sees == "video" else moment.t_s[-1:]
            system, user = message(moment, mode, manner, (pictures.shape[2], pictures.shape[1]))
            text = self._answerer.answer(
                pictures, times, system, user, manner.max_tokens, manner.temperature, manner.seed
            )
            heard(moment, Said(text))

    @staticmethod
    def _drive(student: StudentAnswerer, moment: Moment, manner: Manner) -> Said:
        """A student speaks trajectories with its own decoder. Raises UserError where there is no motion to go on."""
        recording, camera = moment.clip.recording, moment.clip.camera
        if recording is None or recording.directory is None or camera is None:
            raise UserError(
                f"{moment.clip.path} has no ego motion, which a student needs to drive; give a recording directory, "
                "or ask a backbone or an endpoint."
            )
        settings = student.processor.config.frames()
        if settings.camera_names and camera.name not in settings.camera_names:
            known = ", ".join(settings.camera_names)
            return Said(failure="bad_request", reason=f"the student sees {known}, not {camera.name}; use --camera.")
        wanted = moment.now_us + np.asarray(settings.frame_offsets_us)
        numbers = [int(np.argmin(np.abs(moment.clip.t_us - t))) for t in wanted]
        frames = moment.clip.read(numbers, manner.width_px)
        if settings.image_height_px and settings.image_width_px:
            size = settings.image_height_px, settings.image_width_px
            frames = np.stack([resize(frame, *size) for frame in frames])
        try:
            sample = cut_sample(
                recording, moment.now_us, frames[None], (camera.name,), settings.frame_offsets_us, need_future=False
            )
        except UserError as error:
            return Said(failure="empty", reason=str(error))
        made = generate(student.model, student.processor, [sample], seed=manner.seed, greedy=True, greedy_path=True)
        xy = made[0][0].xyz_in_rig_m[:, :2]
        return Said(made[0][0].trace, xy_in_rig_m=tuple((float(x), float(y)) for x, y in xy))


class EndpointAsker:
    """An endpoint, asked about several moments at once; replies are kept, so that none is paid for twice."""

    def __init__(self, config: AskEndpoint, cache: Path):
        self.config, self._cache = config, cache

    def ask_all(self, moments: Sequence[Moment], mode: Mode, manner: Manner, heard: Heard) -> None:
        asyncio.run(self._ask_all(moments, mode, manner, heard))

    async def _ask_all(self, moments: Sequence[Moment], mode: Mode, manner: Manner, heard: Heard) -> None:
        config = replace(self.config, max_tokens=manner.max_tokens, temperature=manner.temperature)
        if mode.answer == "prose" or manner.think:
            config = replace(config, reply_format="text")
        places = asyncio.Semaphore(config.concurrency)
        async with Endpoint(config, ReplyCache(self._cache), config.budget()) as endpoint:

            async def one(moment: Moment) -> Said:
                async with places:
                    request = await asyncio.to_thread(request_of, moment, mode, manner)
                    said = await _ask(endpoint, request)
                heard(moment, said)
                return said

            everything = await asyncio.gather(*(one(moment) for moment in moments))
            reached = endpoint.counts.requests + endpoint.counts.cached
        if everything and not reached and all(said.failure in ("connection", "timeout") for said in everything):
            raise UserError(
                f"{config.host} cannot be reached ({everything[0].reason}); start the server or correct --endpoint.url."
            )


def request_of(moment: Moment, mode: Mode, manner: Manner) -> Request:
    """What an endpoint is sent: media before text, as these models were trained."""
    pictures = pictures_of(moment, mode, manner.width_px)
    system, user = message(moment, mode, manner, (pictures.shape[2], pictures.shape[1]))
    sight = Sight(image_width_px=manner.width_px, jpeg_quality=90)
    urls = tuple(jpeg_url(picture, sight) for picture in pictures)
    return Request(messages_of(system, user, urls), mode.answer, schema_of(mode.answer), manner.max_tokens)


async def _ask(endpoint: Endpoint, request: Request) -> Said:
    try:
        return Said((await endpoint.ask(request)).text)
    except BadReply as fault:
        return Said(failure=fault.kind, reason=fault.reason)


def waypoint_times_s(count: int, own_decoder: bool) -> np.ndarray:
    """(count,) when each way-point is reached, from now."""
    assert count <= FUTURE_STEPS or not own_decoder
    return (STEP_S if own_decoder else WAYPOINT_STEP_S) * np.arange(1, count + 1)
