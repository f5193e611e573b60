"""Camera frames of a recording at given times: from its video, or drawn by the renderer where it has none.

A recording without video but with agents and a map is drawn through the town's front camera. Reads recordings.
Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from causaldrive.clips.store import read_frames
from causaldrive.clips.types import Recording
from causaldrive.ground.errors import UserError
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.replay import context_of, states_of


class FrameSource:
    """Frames of any recording. Opens a renderer on the first recording without video; one per process."""

    def __init__(self, backend: str = "auto"):
        self._backend = backend
        self._renderer: Renderer | None = None

    def frames(self, directory: Path, recording: Recording, camera: str, t_us: Sequence[int]) -> np.ndarray:
        """(N, H, W, 3) uint8 at the N times.

        Raises UserError when there is neither the camera's video nor agents and a map to draw from.
        """
        if recording.cameras:
            return read_frames(directory, camera, list(t_us))
        if recording.agents is None or recording.road is None:
            raise UserError(
                f"{directory} has no video and no agents and map to draw one from; import it with its video, or use a "
                "stage that needs motion only (label --teacher motion)."
            )
        return self._drawn(recording, t_us)

    def _drawn(self, recording: Recording, t_us: Sequence[int]) -> np.ndarray:
        context = context_of(recording)
        if self._renderer is None:
            self._renderer = Renderer(context.camera, self._backend)
        scene = self._renderer.open(context)
        try:
            return np.stack([scene.render(state) for state in states_of(recording, np.array(t_us, np.int64))])
        finally:
            scene.close()
