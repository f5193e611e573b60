"""Judges of free-text answers: is the prediction right, given the question and a reference?

    correct = max over references of P(right) > 0.5

One interface, two kinds: a language model at an endpoint, and a sequence classifier in the shape of Lingo-Judge (one
logit over question, reference and prediction). Source of the latter: Marcu et al., arXiv 2312.14115. What a judge does
not say clearly is unscored, not wrong. Knows nothing of who predicted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from causaldrive.evaluate.ask.askers import AskEndpoint
from causaldrive.ground.errors import UserError
from causaldrive.label.endpoint import Endpoint, Request, converse
from causaldrive.label.openai_teacher import messages_of
from causaldrive.label.replies import BadReply
from causaldrive.label.reply_cache import ReplyCache

_SYSTEM = (
    "You judge answers about driving scenes. An answer is correct when it says the same as the reference about what "
    "matters for driving; other words are fine, contradictions and omissions are not. Answer with JSON only: "
    '{"reason": "one sentence", "correct": true or false}'
)
_SCHEMA: dict[str, Any] = {
    "type": "object", "properties": {"reason": {"type": "string"}, "correct": {"type": "boolean"}},
    "required": ["reason", "correct"], "additionalProperties": False,
}  # fmt: skip
_BATCH = 16


@dataclass(frozen=True)
class Case:
    """One prediction to judge."""

    question: str
    references: tuple[str, ...]
    prediction: str


class Judge(Protocol):
    """Judges many predictions at once."""

    def judge(self, cases: Sequence[Case]) -> list[bool | None]:
        """Whether each is correct; None where the judge does not say."""
        ...


class ModelJudge:
    """A language model at an endpoint; one call a prediction, all references in it."""

    def __init__(self, config: AskEndpoint, cache: Path):
        config.check("judge")
        self.config, self._cache = config, cache

    def judge(self, cases: Sequence[Case]) -> list[bool | None]:
        """Raises UserError when asking on makes no sense (key refused, server gone)."""
        return asyncio.run(self._judge(cases))

    async def _judge(self, cases: Sequence[Case]) -> list[bool | None]:
        async with Endpoint(self.config, ReplyCache(self._cache), self.config.budget()) as endpoint:
            return list(await asyncio.gather(*(self._one(endpoint, case) for case in cases)))

    async def _one(self, endpoint: Endpoint, case: Case) -> bool | None:
        references = "\n".join(f"Reference: {text}" for text in case.references)
        user = f"Question: {case.question}\n{references}\nAnswer to judge: {case.prediction}"
        request = Request(messages_of(_SYSTEM, user), "verdict", _SCHEMA, self.config.max_tokens)
        try:
            return await converse(endpoint, request, _verdict, 2)
        except BadReply:
            return None


def _verdict(answer: dict[str, Any]) -> bool:
    if not isinstance(answer.get("correct"), bool):
        raise BadReply("invalid_json", f"'correct' is {answer.get('correct')!r}, true or false expected")
    return answer["correct"]


class ClassifierJudge:
    """A sequence classifier with one output in a directory, as Lingo-Judge is published."""

    def __init__(self, directory: Path):
        if not (directory / "config.json").exists():
            raise UserError(f"{directory} holds no config.json; the directory of a downloaded Lingo-Judge expected.")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(directory)
            self._model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{directory} cannot be loaded as a classifier ({str(error).splitlines()[0][:120]}); fetch it again."
            ) from error
        if self._model.config.num_labels != 1:
            raise UserError(
                f"{directory}: a classifier with {self._model.config.num_labels} outputs found, one expected as "
                "Lingo-Judge has; name another directory."
            )

    @torch.inference_mode()
    def judge(self, cases: Sequence[Case]) -> list[bool | None]:
        pairs = [(number, judged_text(case, text)) for number, case in enumerate(cases) for text in case.references]
        best = [0.0] * len(cases)
        for start in range(0, len(pairs), _BATCH):
            chunk = pairs[start : start + _BATCH]
            encoded = self._tokenizer([text for _, text in chunk], return_tensors="pt", padding=True, truncation=True,
                                      max_length=128)  # fmt: skip
            encoded.pop("token_type_ids", None)
            chances = torch.sigmoid(self._model(**encoded).logits[:, 0]).tolist()
            for (number, _), chance in zip(chunk, chances, strict=True):
                best[number] = max(best[number], chance)
        return [chance > 0.5 for chance in best]


def judged_text(case: Case, reference: str) -> str:
    """What the classifier reads, as Lingo-Judge was trained."""
    return f"[CLS]\nQuestion: {case.question}\nAnswer: {reference}\nStudent: {case.prediction}"
