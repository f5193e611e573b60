"""The command line: one command a stage, in the order of the chain.

Maps a command to `module:Config:run` and imports the module only when the command is called, so that `--help` is
quick. A UserError is printed as one sentence with exit status 2. Knows nothing of what a stage does.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass

from causaldrive import __version__
from causaldrive.ground.errors import UserError, unknown_name


@dataclass(frozen=True)
class Command:
    """One command: its words, what it does, and where its config dataclass and run function live."""

    words: str
    what: str
    module: str
    config: str
    function: str = "run"


CHAIN: tuple[tuple[str, tuple[Command, ...]], ...] = (
    ("first", (Command("doctor", "check this machine and say what to fix", "clips.doctor", "DoctorConfig"),)),
    (
        "0. drives to learn from",
        (
            Command("worlds list", "the families of scenes the town can draw", "worlds.show", "ListConfig", "run_list"),
            Command("worlds show", "one scene as a picture and a video", "worlds.show", "ShowConfig", "run_show"),
            Command("worlds sheet", "all families in one picture", "worlds.sheet", "SheetConfig", "run_sheet"),
            Command("worlds record", "the expert drives seeded scenes; recordings", "worlds.record", "RecordConfig"),
            Command(
                "worlds intervene", "is it the cause? take it away, drive again", "worlds.intervene", "InterveneConfig"
            ),
            Command(
                "worlds convert", "OpenStreetMap, OpenDRIVE or SUMO to a network", "worlds.convert", "ConvertConfig"
            ),
            Command("import comma2k19", "comma2k19 segments to recordings", "clips.comma2k19", "ImportComma2k19Config"),
            Command("import av2", "Argoverse 2 logs to recordings", "clips.av2", "ImportAv2Config"),
            Command(
                "import physicalai", "PhysicalAI-AV clips to recordings", "clips.physicalai", "ImportPhysicalAiConfig"
            ),
            Command("import folder", "own MP4 and poses to recordings", "clips.own", "ImportFolderConfig"),
            Command("clips check", "find swapped axes, wrong units, clock offsets", "clips.check", "CheckConfig"),
        ),
    ),
    (
        "1. label",
        (
            Command("label", "recordings to Chain-of-Causation labels", "label.stage", "LabelConfig"),
            Command(
                "label questions",
                "questions with known answers, LingoQA's format",
                "label.questions",
                "QuestionsConfig",
            ),
            Command("label score", "how good a teacher is where causes are known", "label.score", "ScoreConfig"),
            Command("label import", "labels of other tools", "label.bridges", "ImportLabelsConfig", "run_import"),
            Command("label export", "labels for other tools", "label.bridges", "ExportLabelsConfig", "run_export"),
            Command("view review", "people accept, edit, reject labels", "view.review", "ReviewConfig"),
            Command("view agreement", "how far two reviewers agree", "view.agreement", "AgreementConfig"),
        ),
    ),
    (
        "2. student",
        (
            Command("student build", "a student with trajectory tokens and decoder", "student.build", "BuildConfig"),
            Command("student see", "a new student learns what is where in pictures", "sft.eyes", "EyesConfig"),
            Command(
                "student convert", "released Alpamayo weights to a student and back", "student.convert", "ConvertConfig"
            ),
            Command(
                "student inspect",
                "parts, sizes and memory of a preset or checkpoint",
                "student.inspection",
                "InspectConfig",
            ),
        ),
    ),
    (
        "3. sft",
        (
            Command("sft", "teach it to think and to act", "sft.stage", "SftConfig"),
            Command("sft brain", "teach the backbone alone: questions, captions", "sft.brain", "BrainConfig"),
        ),
    ),
    ("4. rl", (Command("rl", "let it drive, reward what is safe, true and consistent", "rl.stage", "RlConfig"),)),
    (
        "how good is it",
        (
            Command(
                "evaluate",
                "open loop, closed loop, reasoning; tables with intervals",
                "evaluate.stage",
                "EvaluateConfig",
            ),
            Command("evaluate answers", "questions answered: BLEU, choice, judge", "evaluate.answers", "AnswersConfig"),
            Command("ask", "any model about a video: caption, boxes, events, path", "evaluate.ask.stage", "AskConfig"),
            Command(
                "evaluate faithfulness", "does it act on what it names?", "evaluate.faithfulness", "FaithfulnessConfig"
            ),
            Command("view report", "one page over all stages of a run", "view.report", "ReportConfig"),
        ),
    ),
)
COMMANDS = {command.words: command for _, commands in CHAIN for command in commands}


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    # Threads that spin at a barrier starve the world workers beside them; they sleep instead unless told otherwise.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"causaldrive: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("causaldrive: interrupted; the same command continues where it stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of `causaldrive ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing it at exit would complain
        print("causaldrive: who reads the output went away; the same command continues.", file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if arguments[0] == "--version":
        print(f"causaldrive {__version__}")
        return 0
    command, rest = _find(arguments)
    module = importlib.import_module(f"causaldrive.{command.module}")
    import tyro  # after the names are known, so that `--help` stays quick

    config = tyro.cli(
        getattr(module, command.config),
        args=rest,
        prog=f"causaldrive {command.words}",
        description=command.what,
    )
    status = getattr(module, command.function)(config)
    return int(status or 0)


def _find(arguments: list[str]) -> tuple[Command, list[str]]:
    for length in (2, 1):
        words = " ".join(arguments[:length])
        if words in COMMANDS:
            return COMMANDS[words], arguments[length:]
    group = [name for name in COMMANDS if name.split()[0] == arguments[0]]
    if group and (len(arguments) == 1 or arguments[1].startswith("-")):
        lines = [f"  causaldrive {name:<22} {COMMANDS[name].what}" for name in group]
        raise UserError(f"{arguments[0]!r} needs one more word:\n" + "\n".join(lines))
    typed = " ".join(arguments[: 2 if group else 1])
    raise unknown_name("command", typed, COMMANDS)


def help_text() -> str:
    """The chain in order, one line a command."""
    lines = [
        f"causaldrive {__version__}: driving models that say why.",
        "",
        "usage: causaldrive COMMAND [options]        causaldrive COMMAND --help",
        "",
    ]
    for title, commands in CHAIN:
        lines.append(f"{title}")
        lines += [f"  {command.words:<22} {command.what}" for command in commands]
    lines += ["", "Every stage writes a directory with run.json, metrics.jsonl and report.html; the same command again",
              "continues a killed run and does nothing for a finished one."]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
