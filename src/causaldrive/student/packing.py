"""Prompts with all the answers to each behind it in one row, so that a prompt is computed once for all of them.

    [prompt 1 | answer 1 | answer 2 | ... ]        an answer sees its prompt and what it said itself
    positions 0..P-1, P.., P.., ...                each goes on from the prompt, as if it stood alone

Knows nothing of how prompts are made, of models or of what is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from causaldrive.student.batches import AnswerBatch, PromptBatch

PADDING, PROMPT = -1, 0  # part of a row that a column belongs to; its answers count from 1


def pack(prompts: PromptBatch, answers: Sequence[Sequence[Sequence[int]]], start_id: int, pad_id: int) -> AnswerBatch:
    """Right-padded prompts with `answers[b][i]`, the ids of the answers to prompt b, behind them.

    What follows the first `start_id` of prompt or answer is a trajectory.
    """
    lengths = prompts.attention_mask.sum(1).tolist()
    rows, width = len(lengths), max(n + sum(map(len, own)) for n, own in zip(lengths, answers, strict=True))
    columns = prompts.input_ids.shape[1]
    ids, part = torch.full((rows, width), pad_id), torch.full((rows, width), PADDING)
    positions = torch.zeros(3, rows, width, dtype=torch.int64)
    ids[:, :columns], positions[:, :, :columns] = prompts.input_ids[:, :width], prompts.position_ids[:, :, :width]
    whole: list[tuple[list[int], list[int], list[int]]] = []  # of each answer: ids, sources, whether a trajectory
    for row, own in enumerate(answers):
        end = column = lengths[row]
        part[row, :end] = PROMPT
        given = bool((prompts.input_ids[row, :end] == start_id).any())
        for number, answer in enumerate(own, 1):
            there = slice(column, column + len(answer))
            ids[row, there], part[row, there] = torch.tensor(answer, dtype=torch.int64), number
            positions[:, row, there] = positions[:, row, end - 1, None] + 1 + torch.arange(len(answer))
            whole.append((list(answer), [end - 1, *range(column, column + len(answer) - 1)][: len(answer)],
                          _after_start(answer, start_id, given)))  # fmt: skip
            column += len(answer)
    written, source, is_trajectory = (_padded([one[k] for one in whole]) for k in range(3))
    sizes = torch.tensor([len(answer) for answer, _, _ in whole])
    return AnswerBatch(
        input_ids=ids, attention_mask=(part != PADDING).long(), position_ids=positions, padding_side="right",
        mm_token_type_ids=torch.nn.functional.pad(prompts.mm_token_type_ids, (0, width))[:, :width],
        pixel_values=prompts.pixel_values, image_grid_thw=prompts.image_grid_thw, counters=prompts.counters,
        sees=_sees(part), answered_in=torch.tensor([row for row, own in enumerate(answers) for _ in own]),
        completion_mask=torch.arange(written.shape[1]) < sizes[:, None], written=written, source=source,
        is_trajectory=is_trajectory.bool(),
    )  # fmt: skip


def _after_start(answer: Sequence[int], start_id: int, given: bool) -> list[int]:
    """1 on tokens that stand behind `<|traj_future_start|>`."""
    started, marks = given, []
    for token in answer:
        marks.append(int(started))
        started = started or token == start_id
    return marks


def _sees(part: Tensor) -> Tensor:
    """(B, T, T) bool whether the token of a row sees the one of a column. Padding sees padding too: no row of attention
    may be empty."""
    earlier = torch.ones(part.shape[1], part.shape[1], dtype=torch.bool).tril()
    own = part[:, :, None] == part[:, None, :]
    return earlier & (own | (part == PROMPT)[:, None, :])


def _padded(rows: Sequence[list[int]]) -> Tensor:
    """(A, W) with zeros on the right."""
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows], dtype=torch.int64)
