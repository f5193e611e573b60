"""Prompts: versioned template files that declare their parameters.

A prompt file begins with two comments, its version and its parameters, and holds a system and a user message divided
by a line `===== user =====`. A parameter that is missing, handed over without being declared, or used without being
declared is an error that names it. Own prompts: copy the files into a directory and change them. Reads template files;
knows nothing of endpoints.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta

from causaldrive.ground.errors import UserError

OWN = Path(__file__).parent / "prompts"
_DIVIDER = "===== user =====\n"
_HEAD = re.compile(r"\{#\s*version:\s*(\S+)\s*#\}\s*\{#\s*parameters:([^#]*)#\}\s*")
_ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@dataclass(frozen=True)
class Prompt:
    """One prompt file, checked: its texts use no parameter but the declared ones."""

    path: Path
    version: str
    parameters: tuple[str, ...]
    source: str
    system: jinja2.Template
    user: jinja2.Template

    def render(self, **values: Any) -> tuple[str, str]:
        """(system, user) message. Raises UserError naming a parameter that is missing or not declared."""
        for name in self.parameters:
            if name not in values:
                raise UserError(f"{self.path}: the parameter {name!r} is declared but was not given; pass it.")
        for name in values:
            if name not in self.parameters:
                raise UserError(f"{self.path}: the parameter {name!r} was given but is not declared; declare it.")
        try:
            return self.system.render(**values).strip(), self.user.render(**values).strip()
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise UserError(f"{self.path} cannot be filled in ({error}); correct the template.") from error


def read_prompt(name: str, directory: Path | None = None) -> Prompt:
    """The prompt `<name>.jinja` of a directory, of the package where none is named.

    Raises UserError for a file that is missing, cannot be parsed, has no head, or uses undeclared parameters.
    """
    path = (directory or OWN) / f"{name}.jinja"
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); a prompt template expected there.") from error
    head = _HEAD.match(source)
    if head is None or _DIVIDER not in source:
        raise UserError(
            f"{path}: a head of two comments, version and parameters, and a line '{_DIVIDER.strip()}' expected; "
            f"copy {OWN / path.name} and change that."
        )
    declared = tuple(part.strip() for part in head.group(2).split(",") if part.strip())
    system, _, user = source[head.end() :].partition(_DIVIDER)
    _refuse_undeclared(path, (system, user), declared)
    return Prompt(
        path, head.group(1), declared, source, _ENVIRONMENT.from_string(system), _ENVIRONMENT.from_string(user)
    )


def _refuse_undeclared(path: Path, texts: Iterable[str], declared: tuple[str, ...]) -> None:
    try:
        used = set().union(*(meta.find_undeclared_variables(_ENVIRONMENT.parse(text)) for text in texts))
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{path} is no valid template ({error.message}, line {error.lineno}); correct it.") from error
    for name in sorted(used - set(declared)):
        raise UserError(f"{path}: the parameter {name!r} is used but not declared; add it to the head's parameters.")


def prompt_hash(prompts: Iterable[Prompt], *more: str) -> str:
    """Sixteen hex digits of the prompts' sources and whatever else decides what is asked."""
    sha = hashlib.sha256()
    for text in (*(prompt.source for prompt in prompts), *more):
        sha.update(text.encode() + b"\0")
    return sha.hexdigest()[:16]
