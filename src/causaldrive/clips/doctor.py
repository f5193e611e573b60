"""`causaldrive doctor`: is this machine ready, what is missing, and which command fixes it.

Prints one line a check, [ok], [warn] or [fail]; [fail] means that part of the chain cannot run. Codecs and renderer are
really tried, not looked up. Reads the package's metadata; writes only a temporary video. Knows nothing of recordings
or models.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata, util
from pathlib import Path

import av
import numpy as np
import psutil
from av.error import FFmpegError

from causaldrive.clips.video import decode_frames, encode_video, iterate_video
from causaldrive.ground.errors import UserError

_PYTHON = (3, 11)
_WARN_MEMORY_GIB, _WARN_DISK_GIB = 6.0, 5.0
_RENDER_TIMEOUT_S = 60
_RENDER = """
from panda3d.core import (FrameBufferProperties, GraphicsEngine, GraphicsPipe, GraphicsPipeSelection,
                          WindowProperties, loadPrcFileData)
import sys
loadPrcFileData("", "audio-library-name null")
selection = GraphicsPipeSelection.getGlobalPtr()
pipe = selection.makeModulePipe(sys.argv[1])
if pipe is None:
    sys.exit("the display module does not load")
engine = GraphicsEngine(pipe)
output = engine.makeOutput(pipe, "doctor", 0, FrameBufferProperties(), WindowProperties.size(64, 64),
                           GraphicsPipe.BFRefuseWindow)
if output is None:
    sys.exit("no off-screen buffer could be opened")
engine.renderFrame()
print(output.getGsg().getDriverRenderer() or "software renderer")
"""


@dataclass(frozen=True)
class DoctorConfig:
    disk: Path = Path()  # the disk that recordings and runs will be written to


@dataclass(frozen=True)
class Finding:
    """One check's outcome: 'ok', 'warn' or 'fail', what was found, and the command that fixes it."""

    state: str
    what: str
    fix: str = ""

    def line(self) -> str:
        return f"[{self.state}]".ljust(7) + self.what + (f"\n       fix: {self.fix}" if self.fix else "")


def run(config: DoctorConfig) -> int:
    """Print every finding; 1 when something required fails, else 0."""
    findings = []
    for check in (_python, _packages, _machine, lambda: _disk(config.disk), _gpu, _codecs, _renderers):
        for finding in check():
            print(finding.line(), flush=True)
            findings.append(finding)
    failed = sum(finding.state == "fail" for finding in findings)
    warned = sum(finding.state == "warn" for finding in findings)
    print(f"{len(findings) - failed - warned} ok, {warned} to know, {failed} to fix.")
    return 1 if failed else 0


def _python() -> Iterator[Finding]:
    found, wanted = platform.python_version(), ".".join(map(str, _PYTHON))
    if sys.version_info >= _PYTHON:
        yield Finding("ok", f"Python {found} ({wanted} or newer)")
    else:
        yield Finding("fail", f"Python {found}; {wanted} or newer needed", f"python{wanted} -m venv .venv")


def _packages() -> Iterator[Finding]:
    try:
        requirements = metadata.requires("causaldrive") or []
    except metadata.PackageNotFoundError:
        yield Finding("warn", "causaldrive runs from source, so its requirements are not recorded", "pip install -e .")
        return
    for requirement in requirements:
        if "extra ==" not in requirement:
            yield check_requirement(requirement)


def check_requirement(requirement: str) -> Finding:
    """Compare an installed package with a requirement of the form 'name>=1.2' (or a bare name)."""
    name, _, rest = re.match(r"([A-Za-z0-9._-]+)\s*(>=)?\s*([0-9.]*)", requirement).groups()  # type: ignore[union-attr]
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding("fail", f"{name} is not installed; {requirement} needed", f"pip install '{requirement}'")
    if rest and _numbers(found) < _numbers(rest):
        return Finding("fail", f"{name} {found}; {rest} or newer needed", f"pip install -U '{requirement}'")
    return Finding("ok", f"{name} {found}" + (f" ({rest} or newer)" if rest else ""))


def _numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version, trailing zeros dropped: '2.13.0+cpu' -> (2, 13)."""
    parts = [int(part) for part in re.match(r"[0-9.]*", version).group().split(".") if part]  # type: ignore[union-attr]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    state, fix = ("ok", "") if cores >= 2 else ("warn", "expect `make demo` to take twice its time")
    yield Finding(state, f"{cores} CPU cores", fix)
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    text = f"{free:.1f} of {total:.1f} GiB memory free"
    if free < _WARN_MEMORY_GIB:
        yield Finding("warn", f"{text}; the demo takes up to {_WARN_MEMORY_GIB:.0f}", "close other programs first")
    else:
        yield Finding("ok", text)


def _disk(path: Path) -> Iterator[Finding]:
    if not path.exists():
        raise UserError(f"--disk {path} does not exist; expected a directory on the disk to check.")
    free = shutil.disk_usage(path).free / 2**30
    if free < _WARN_DISK_GIB:
        text = f"{free:.1f} GiB free on the disk of {path.resolve()}"
        yield Finding("warn", text, f"free {_WARN_DISK_GIB:.0f} GiB, or give --out on another disk")
    else:
        yield Finding("ok", f"{free:.0f} GiB free on the disk of {path.resolve()}")


def _gpu() -> Iterator[Finding]:
    if util.find_spec("torch") is None:
        return  # reported as a missing package already
    import torch  # takes seconds: only now, after the quick lines are out

    if not torch.cuda.is_available():
        yield Finding("ok", "no GPU seen by torch: the tiny preset runs on the CPU, larger ones need a GPU")
        return
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield Finding("ok", f"GPU {index}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")


def _codecs() -> Iterator[Finding]:
    fix = "pip install --force-reinstall --only-binary :all: av"
    with tempfile.TemporaryDirectory() as folder:
        yield _try("video: H.264 written and read back (libx264)", lambda: _h264(Path(folder)), "fail", fix)
        yield _try("video: HEVC decoded (import comma2k19)", lambda: _hevc(Path(folder)), "warn", fix)


def _try(what: str, action: Callable[[], None], state: str, fix: str) -> Finding:
    try:
        action()
    except (FFmpegError, UserError, OSError, ValueError, AssertionError) as error:
        return Finding(state, f"{what}: {type(error).__name__}: {error}", fix)
    return Finding("ok", what)


def _pictures() -> list[np.ndarray]:
    return [np.full((64, 64, 3), 40 * i, np.uint8) for i in range(1, 6)]


def _h264(folder: Path) -> None:
    path = folder / "h264.mp4"
    encode_video(path, _pictures(), Fraction(10), "a trial video")
    shade = float(decode_frames(path, [3]).mean())
    assert abs(shade - 160) < 8, f"a frame of shade 160 came back as {shade:.0f}"


def _hevc(folder: Path) -> None:
    av.Codec("hevc", "r")
    try:
        av.Codec("libx265", "w")
    except (FFmpegError, ValueError):
        return  # nothing here can make a trial stream; the decoder itself is there
    path = folder / "trial.hevc"
    write_hevc(path, _pictures(), 10)
    count = sum(1 for _ in iterate_video(path))
    assert count == 5, f"{count} of 5 frames came back"


def write_hevc(path: Path, frames: list[np.ndarray], frames_per_s: int) -> None:
    """A raw HEVC stream, as dash cameras write it. Raises ValueError where no encoder is built in."""
    with av.open(str(path), "w", format="hevc") as container:
        options = {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:frame-threads=1"}
        stream = container.add_stream("libx265", rate=frames_per_s, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def _renderers() -> Iterator[Finding]:
    found = {name: _render(module) for name, module in (("EGL", "p3headlessgl"), ("software", "p3tinydisplay"))}
    works = [name for name, (good, _) in found.items() if good]
    for name, (good, text) in found.items():
        if good:
            yield Finding("ok", f"renderer {name}: {text}")
        elif works:
            yield Finding("ok", f"renderer {name} not usable ({text}); {works[0]} is used instead")
        else:
            fix = "apt-get install libegl1 libgl1-mesa-dri" if name == "EGL" else "pip install -U panda3d"
            yield Finding("fail", f"renderer {name}: {text}", fix)


def _render(module: str) -> tuple[bool, str]:
    """Draw one frame in a process of its own: a broken GL driver may crash it."""
    try:
        done = subprocess.run([sys.executable, "-c", _RENDER, module], capture_output=True, text=True,
                              timeout=_RENDER_TIMEOUT_S, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"no frame within {_RENDER_TIMEOUT_S} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"exit status {done.returncode}"
