"""Mode files: what is asked, what of the video is shown, and which kind of answer is expected.

A mode is a prompt template (`label.prompts`) with more comments in its head: `answer` (a kind of `reading.KINDS`),
`sees` (video or picture), and `default NAME: VALUE` for parameters that a person may set. Own modes: copy the files
into a directory and change them. Reads template files; knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causaldrive.evaluate.ask.reading import KINDS
from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.label.prompts import Prompt, read_prompt

OWN = Path(__file__).parent / "modes"
SEES = ("video", "picture")
GIVEN = ("times", "ego_history", "count", "step_s", "fx", "fy", "cx", "cy")  # filled in from what is shown
THINK = (
    "Think first, between <think> and </think>. Write the answer right after </think>, in the form that is asked for."
)
_DEFAULT = re.compile(r"\{#\s*default\s+(\w+):\s*(.*?)\s*#\}")


@dataclass(frozen=True)
class Mode:
    """One mode file, checked, with the values a person gave for its parameters."""

    name: str
    prompt: Prompt
    answer: str
    sees: str
    values: Mapping[str, str]

    def ask(self, shown: Mapping[str, Any], think: bool = False) -> tuple[str, str]:
        """(system, user) message; of `shown` only what the mode declares is used."""
        known = {name: value for name, value in shown.items() if name in self.prompt.parameters}
        system, user = self.prompt.render(**{**known, **self.values})
        return system, f"{user}\n\n{THINK}" if think else user


def mode_names(directory: Path | None = None) -> list[str]:
    """Modes of the package, or of a directory of own ones."""
    return sorted(path.stem for path in (directory or OWN).glob("*.jinja"))


def read_mode(name: str, given: Sequence[str] = (), directory: Path | None = None) -> Mode:
    """The mode `name` with `given` parameters, each NAME=VALUE.

    Raises UserError for an unknown mode, kind of answer or parameter, and for one that is given no value.
    """
    known = mode_names(directory)
    if name not in known:
        raise unknown_name("ask: mode", name, known)
    prompt = read_prompt(name, directory or OWN)
    answer, sees = (_comment(prompt, key) for key in ("answer", "sees"))
    for key, word, words in (("answer", answer, KINDS), ("sees", sees, SEES)):
        if word not in words:
            raise unknown_name(f"{prompt.path}: {key}", word, words)
    values = dict(_DEFAULT.findall(prompt.source)) | _given(name, given, prompt.parameters)
    for parameter in prompt.parameters:
        if parameter not in values and parameter not in GIVEN:
            raise UserError(
                f"mode {name!r} needs the parameter {parameter!r}; add --parameters {parameter}=VALUE to the command."
            )
    return Mode(name, prompt, answer, sees, values)


def _comment(prompt: Prompt, key: str) -> str:
    found = re.search(rf"\{{#\s*{key}:\s*(\w+)\s*#\}}", prompt.source)
    return found.group(1) if found else ""


def _given(mode: str, given: Sequence[str], declared: Sequence[str]) -> dict[str, str]:
    settable = [name for name in declared if name not in GIVEN]
    values = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise UserError(f"--parameters {text!r} has no '='; NAME=VALUE expected, such as object='the red car'.")
        if name not in settable:
            raise unknown_name(f"mode {mode!r}: parameter", name, settable or ["none at all"])
        values[name] = value
    return values
