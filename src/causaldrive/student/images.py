"""Camera frames to the backbone's patches: resize, scale to [-1, 1], cut in Qwen's order.

patch row = (channel, time, y, x) of one 16 x 16 patch; patches run merge block by merge block (2 x 2 neighbours
together). Along time a patch holds two frames: a still twice, or with `pair_frames` two consecutive frames, which
halves the tokens and shows motion inside the patch. Knows nothing of cameras.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from causaldrive.student.config import FrameSettings


def target_size(height_px: int, width_px: int, settings: FrameSettings) -> tuple[int, int]:
    """(height, width) after resizing: the fixed size, or the nearest multiples of 32 between min and max pixels."""
    if settings.image_height_px is not None and settings.image_width_px is not None:
        return settings.image_height_px, settings.image_width_px
    unit = settings.patch_size * settings.merge_size
    height, width = (max(unit, round(side / unit) * unit) for side in (height_px, width_px))
    if height * width > settings.max_pixels:
        shrink = math.sqrt(height_px * width_px / settings.max_pixels)
        return tuple(max(unit, math.floor(side / shrink / unit) * unit) for side in (height_px, width_px))  # pyright: ignore
    if height * width < settings.min_pixels:
        grow = math.sqrt(settings.min_pixels / (height_px * width_px))
        return tuple(math.ceil(side * grow / unit) * unit for side in (height_px, width_px))  # pyright: ignore
    return height, width


def resize(image: NDArray[np.uint8], height_px: int, width_px: int, resampling: str = "area") -> NDArray[np.uint8]:
    """(H, W, 3) uint8 to the given size: area average when shrinking, bicubic when enlarging.

    'bicubic' is Pillow's, which averages over what it shrinks: the Qwen image processors' choice.
    """
    if image.shape[:2] == (height_px, width_px):
        return image
    if resampling == "bicubic":
        return np.asarray(Image.fromarray(image).resize((width_px, height_px), Image.Resampling.BICUBIC))
    shrinking = height_px <= image.shape[0] and width_px <= image.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    return cv2.resize(image, (width_px, height_px), interpolation=method)  # pyright: ignore


def patches(images: NDArray[np.uint8], settings: FrameSettings) -> tuple[NDArray[np.float32], tuple[int, int, int]]:
    """Images (N, H, W, 3) of one size, already a multiple of 32, to (G * patches, 3*2*16*16) and the grid (1, h, w).

    G is N, or N / 2 with `pair_frames`, where image 2g and 2g + 1 are the two moments of grid g.
    """
    count, height, width, _ = images.shape
    size, merge = settings.patch_size, settings.merge_size
    rows, columns = height // size, width // size
    assert height % (size * merge) == 0 and width % (size * merge) == 0
    moments = 2 if settings.pair_frames else 1
    assert count % moments == 0
    split = images.reshape(count // moments, moments, rows // merge, merge, size, columns // merge, merge, size, 3)
    # grid, block row, block column, row, column, channel, moment, y, x
    ordered = split.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    flat = ordered.reshape(count // moments * rows * columns, 3, moments, size * size).astype(np.float32)
    flat = _normalised(flat, settings)
    if not settings.pair_frames:
        flat = np.repeat(flat, 2, axis=2)
    return flat.reshape(len(flat), -1), (1, rows, columns)


def _normalised(flat: NDArray[np.float32], settings: FrameSettings) -> NDArray[np.float32]:
    """Levels (N, 3, moments, pixels) of 0 to 255 to (level / 255 - mean) / std."""
    mean, std = (np.asarray(x, np.float32) for x in (settings.image_mean, settings.image_std))
    if (mean == 0.5).all() and (std == 0.5).all():
        return flat * np.float32(1 / 127.5) - np.float32(1)
    return (flat / np.float32(255) - mean[:, None, None]) / std[:, None, None]
