"""The command line as a person meets it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from causaldrive import cli


def test_help_shows_the_chain_in_order(capsys):
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    places = [text.index(f"\n{step}") for step in ("0. drives", "1. label", "2. student", "3. sft", "4. rl")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["lable"], "Did you mean label?"),
        (["worlds", "recrod"], "Did you mean worlds record?"),
        (["worlds"], "needs one more word"),
        (["import", "coma2k19"], "Did you mean import comma2k19?"),
    ],
)
def test_mistyped_commands_are_answered_in_a_sentence(typed, hint, capsys):
    assert cli.main(typed) == 2
    assert hint in capsys.readouterr().err


def test_a_user_error_shows_no_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "causaldrive.cli",
        "label",
        "--recordings",
        str(tmp_path),
        "--out",
        str(tmp_path / "o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path) in done.stderr


def test_a_reader_that_goes_away_is_a_sentence():
    command = [sys.executable, "-c", "import sys; from causaldrive import cli; sys.exit(cli.main(['label', '--help']))"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout and child.stderr
    child.stdout.close()
    said = child.stderr.read()
    assert child.wait() == 1 and "Traceback" not in said and "who reads the output went away" in said
