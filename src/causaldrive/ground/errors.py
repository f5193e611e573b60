"""Errors a person can cause. The command line prints them as one sentence and exits with status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One sentence: which file or field, what was found, what was expected, what to do."""


class MissingExtra(UserError):
    """An optional package is not installed; the message holds the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed: run pip install 'causaldrive[{extra}]'."
        )


def unknown_name(what: str, name: str, options: Iterable[str]) -> UserError:
    """UserError for a name a person typed, with the nearest match when there is one."""
    known = sorted(options)
    begun = [option for option in known if name and option.startswith(f"{name}_")]
    near = begun[:1] if len(begun) == 1 else difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return UserError(f"{what} {name!r} is not known; expected one of {', '.join(known)}.{hint}")
