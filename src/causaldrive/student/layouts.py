"""Who says what where in a prompt: our layout, and those of released Alpamayo R1 and 1.5.

All three: system, user (cameras, history tokens, route if given, instruction), open assistant message. They differ in
what stands between the images: ours names camera and time; R1 nothing, so that a camera is known by its place alone;
1.5 the camera's display name and the frame's number. Knows nothing of tokenizers or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from causaldrive.ground.errors import UserError
from causaldrive.student.config import StudentConfig
from causaldrive.student.tokens import special

LAYOUTS = ("causaldrive", "r1", "1.5")
RELEASED_CAMERAS = {  # in the order of their index; what Alpamayo 1.5 reads before their images
    "camera_cross_left_120fov": "Front left camera",
    "camera_front_wide_120fov": "Front camera",
    "camera_cross_right_120fov": "Front right camera",
    "camera_rear_left_70fov": "Rear left camera",
    "camera_rear_tele_30fov": "Rear camera",
    "camera_rear_right_70fov": "Rear right camera",
    "camera_front_tele_30fov": "Front telephoto camera",
}
RELEASED_SYSTEM = "You are a driving assistant that generates safe and accurate actions."
RELEASED_REASON = "output the chain-of-thought reasoning of the driving process, then output the future trajectory."
RELEASED_DRIVE = "output the future trajectory."


@dataclass(frozen=True)
class CameraView:
    """One camera in a prompt: its name and the image tokens of each of its grids; none where the sample lacks it."""

    name: str
    pads: tuple[int, ...]


def before_history(config: StudentConfig, views: Sequence[CameraView]) -> str:
    """System message and the user's images, up to and including `<|traj_history_start|>`."""
    return _opening(config) + _images(config, views) + special("traj_history_start")


def after_history(config: StudentConfig, reason: bool, route: str | None = None) -> str:
    """`<|traj_history_end|>`, route, instruction, and the assistant's first token."""
    way = "" if route is None else f"{special('route_start')}{route}{special('route_end')}"
    instruction = config.reason_instruction if reason else config.drive_instruction
    start = special("cot_start" if reason else "traj_future_start")
    return f"<|traj_history_end|>{way}{instruction}<|im_end|>\n<|im_start|>assistant\n{start}"


def asking(config: StudentConfig, views: Sequence[CameraView], question: str) -> str:
    """A question about the images instead of a drive: no history, the assistant answers after `<|answer_start|>`."""
    return (
        f"{_opening(config)}{_images(config, views)}{special('question_start')}{question}{special('question_end')}"
        f"<|im_end|>\n<|im_start|>assistant\n{special('answer_start')}"
    )


def fixed_texts(config: StudentConfig) -> list[str]:
    """What our layout says in every prompt around the first camera's images and the history, in the longest pieces.

    Each ends in a control mark or holds one, so that it cannot stand in anybody's plain text.
    """
    camera = next(iter(config.frames().camera_names), "front")
    first, *later = (f" {moment} s {special('vision_start')}" for moment in config.frames().moments())
    answers = [f"{text}<|im_end|>\n<|im_start|>assistant\n" for text in
               (config.reason_instruction, config.drive_instruction)]  # fmt: skip
    return [_opening(config), f"{camera}:{first}", *later, *answers]


def in_prompt_order(layout: str, names: Sequence[str]) -> tuple[str, ...]:
    """Cameras in the order of the prompt: released layouts sort the cameras they know by index, others follow."""
    if layout == "causaldrive":
        return tuple(names)
    order = list(RELEASED_CAMERAS)
    return tuple(sorted(names, key=lambda name: order.index(name) if name in order else len(order)))


def _opening(config: StudentConfig) -> str:
    return f"<|im_start|>system\n{config.system_prompt}<|im_end|>\n<|im_start|>user\n"


def _images(config: StudentConfig, views: Sequence[CameraView]) -> str:
    """Raises UserError for a missing camera where the layout cannot say so."""
    if config.prompt_layout == "causaldrive":
        moments = config.frames().moments()
        return "".join(_named(view, moments) for view in views)
    if config.prompt_layout == "1.5":
        return "".join(_numbered(view) for view in views)
    missing = [view.name for view in views if not view.pads]
    if missing:
        raise UserError(
            f"the sample has no image of {', '.join(missing)}; the prompt of Alpamayo R1 tells cameras by their place "
            f"alone and needs all {len(views)}, so add that camera or choose a 1.5 student."
        )
    return "".join(_image(count) for view in views for count in view.pads)


def _named(view: CameraView, moments: Sequence[str]) -> str:
    if not view.pads:
        return f"{view.name}: no image "
    pairs = zip(moments, view.pads, strict=True)
    return f"{view.name}:" + "".join(f" {moment} s {_image(count)}" for moment, count in pairs)


def _numbered(view: CameraView) -> str:
    name = RELEASED_CAMERAS.get(view.name, view.name)
    frames = "".join(f"frame {index} {_image(count)}" for index, count in enumerate(view.pads))
    return f"{name}: {frames or 'no image '}"


def _image(count: int) -> str:
    return f"<|vision_start|>{special('image_pad') * count}<|vision_end|>"
