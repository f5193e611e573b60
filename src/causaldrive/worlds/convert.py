"""The command `worlds convert`: OpenStreetMap, OpenDRIVE or a SUMO network to a directory that can be driven.

Calls SUMO's netconvert, which is not needed to drive what it made. Writes `network.net.xml`, `picture.png` (the
expert's view while it drives there), run.json and report.html. Knows nothing of scene families beyond a drive among
traffic.
"""

from __future__ import annotations

import io
import re
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from causaldrive.ground.errors import MissingExtra, UserError
from causaldrive.ground.files import atomic_path, write_bytes, write_text
from causaldrive.ground.page import Figure, Section, Table, write_page
from causaldrive.ground.runs import open_run
from causaldrive.worlds.expert_drive import Drive, drive
from causaldrive.worlds.families.draft import Scene, SceneSpec
from causaldrive.worlds.families.sumo_draft import finish
from causaldrive.worlds.families.town_drive import draw_on
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.sumo_net import Network, read_network

NETWORK = "network.net.xml"
_LONGEST_S = 300  # a city takes a minute
_SHOWN_AT_S = 3.0
_KINDS = {"osm": "OpenStreetMap", "OpenDRIVE": "OpenDRIVE", "net": "SUMO network"}
_OPTIONS = {
    "osm": ("--osm-files", "--geometry.remove", "--keep-edges.by-vclass", "passenger", "--junctions.join",
            "--sidewalks.guess", "--crossings.guess", "--tls.guess-signals", "--tls.join", "--ramps.guess",
            "--remove-edges.isolated", "--output.street-names", "false", "--no-turnarounds",
            "--default.junctions.radius", "6"),
    "OpenDRIVE": ("--opendrive-files", "--no-turnarounds"),
    "net": ("--sumo-net-file",),
}  # fmt: skip


@dataclass(frozen=True)
class ConvertConfig:
    """Convert a road description into a network that can be driven."""

    source: tyro.conf.Positional[Path]  # .osm (OpenStreetMap), .xodr (OpenDRIVE) or .net.xml (SUMO)
    out: Path = Path("network")  # directory for network.net.xml and its report
    agents: int = 20  # cars and people in the drive that tries the network
    seed: int = 0  # of that drive


def run(config: ConvertConfig) -> None:
    """Raises UserError for a file of another kind, empty or broken XML, or one without roads for cars."""
    kind = kind_of(config.source)
    with open_run(config.out, "worlds convert", config, {"source": config.source}) as stage:
        if stage.done:
            return
        with atomic_path(config.out / NETWORK) as temporary:
            convert(config.source, kind, temporary)
            read_network(temporary)
        network = read_network(config.out / NETWORK)
        scene = scene_on(network, config.seed, config.agents)
        driven = drive(scene, 20.0)
        picture = _picture(driven)
        write_bytes(config.out / "picture.png", picture)
        stage.log(kind=kind, **_counts(network))
        _report(config, kind, network, driven, picture)
    print(f"wrote {config.out / NETWORK}: " + ", ".join(f"{v} {k}" for k, v in _counts(network).items()))


def scene_on(network: Network, seed: int = 0, agents: int = 50) -> Scene:
    """A drive among traffic on any network. The same network and seed give the same scene."""
    rng = np.random.default_rng([seed, 11])
    return finish(draw_on(network, rng, agents), SceneSpec("town_drive", seed, True), "lead_vehicle")


def kind_of(path: Path) -> str:
    """The root element: 'osm', 'OpenDRIVE' or 'net'. Raises UserError for anything else."""
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; an .osm, .xodr or .net.xml file was expected, so download it again.")
        _, root = next(ET.iterparse(path, events=("start",)))
        for _ in ET.iterparse(path):  # to the end: half a download is found here, not in netconvert
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name an .osm, .xodr or .net.xml file.") from None
    except (ET.ParseError, StopIteration, UnicodeError) as error:
        raise UserError(f"{path} is not well-formed XML ({error}); export or download it again.") from None
    if root.tag not in _KINDS:
        raise UserError(
            f"{path} holds <{root.tag}>, expected <osm>, <OpenDRIVE> or a SUMO <net>; convert one of those."
        )
    return root.tag


def convert(source: Path, kind: str, target: Path) -> None:
    """Run netconvert. Raises MissingExtra without it and UserError with its first complaint when it gives up."""
    option, *rest = _OPTIONS[kind]
    command = [str(netconvert()), option, str(source), *rest, "--output-file", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"{source} took netconvert more than {_LONGEST_S} s; cut out a smaller area.") from None
    if done.returncode != 0 or not target.exists() or target.stat().st_size == 0:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        why = (complaints or ["Error: no network came out"])[0].removeprefix("Error: ")
        raise UserError(f"netconvert cannot make a network from {source} ({why}); correct the {_KINDS[kind]} file.")
    text = target.read_text(encoding="utf-8")
    write_text(target, re.sub(r"<!--.*?-->\n*", "", text, count=1, flags=re.DOTALL))  # its note holds the time of day


def netconvert() -> Path:
    """The program. Raises MissingExtra when the package that brings it is not there."""
    try:
        import sumo
    except ImportError:
        raise MissingExtra("eclipse-sumo", "convert", "`worlds convert`") from None
    return Path(sumo.SUMO_HOME) / "bin" / "netconvert"


def _counts(network: Network) -> dict[str, int]:
    road = network.road
    return {"edges": len(network.lane_ids), "lanes": len(road.lanes), "signal heads": len(network.heads()),
            "crosswalks": len(road.crosswalks), "rights of way": len(road.right_of_way)}  # fmt: skip


def _picture(driven: Drive) -> bytes:
    renderer = Renderer(driven.context.camera)
    scene = renderer.open(driven.context)
    try:
        shown = driven.states[min(round(_SHOWN_AT_S * 10), len(driven.states) - 1)]
        buffer = io.BytesIO()
        Image.fromarray(scene.render(shown)).save(buffer, "PNG")
        return buffer.getvalue()
    finally:
        scene.close()
        renderer.close()


def _report(config: ConvertConfig, kind: str, network: Network, driven: Drive, picture: bytes) -> None:
    counts = [(name, str(count)) for name, count in _counts(network).items()]
    ego = [state.ego.xy_in_local_m for state in driven.states]
    metres = float(np.linalg.norm(np.diff(ego, axis=0), axis=1).sum())
    table = Table(("what", "how many"), counts)
    figure = Figure(picture, f"The expert drove {metres:.0f} m in {len(ego) / 10 - 0.1:.1f} s here.")
    lead = f"{config.source.name} ({_KINDS[kind]}) as a network that can be driven."
    write_page(config.out / "report.html", "worlds convert", [Section("The network", [table, figure])], lead)
