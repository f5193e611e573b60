"""Qwen3-VL's three-axis rotary positions (M-RoPE), made with the batch so that training and sampling share them.

Text counts on all axes alike; an image keeps one time position and counts rows and columns from it; after an image,
text goes on at its largest side. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def mrope_positions(
    is_image: Tensor, attention_mask: Tensor, grids: Sequence[tuple[int, int, int]], merge_size: int
) -> Tensor:
    """Positions (3, B, T) for rows (B, T) with `grids` of all images in order; 0 on padding. Images do not touch."""
    positions = np.zeros((3, *is_image.shape), np.int64)
    remaining = iter(grids)
    for row, (image, real) in enumerate(zip(is_image.numpy(), attention_mask.numpy().astype(bool), strict=True)):
        positions[:, row, real] = _row(image[real], remaining, merge_size)
    assert next(remaining, None) is None
    return torch.from_numpy(positions)


def _row(image: np.ndarray, grids, merge_size: int) -> np.ndarray:
    """(3, n) positions of one row without padding."""
    bounds = np.flatnonzero(np.diff(image)) + 1
    out, position = [], 0
    for part in np.split(image, bounds):
        if part.size and part[0]:
            _, rows, columns = next(grids)
            rows, columns = rows // merge_size, columns // merge_size
            assert rows * columns == part.size
            y, x = np.divmod(np.arange(part.size), columns)
            out.append(position + np.stack([np.zeros_like(y), y, x]))
            position += max(rows, columns)
        else:
            out.append(np.tile(position + np.arange(part.size), (3, 1)))
            position += part.size
    return np.concatenate(out, axis=1)
