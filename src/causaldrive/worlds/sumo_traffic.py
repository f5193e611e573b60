"""Traffic, people, signals and right of way from SUMO, behind the same seam as `ScriptedTraffic`.

libsumo holds one simulation a process: the world that steps has it, the one before is parked and comes back by being
played again from its start, which is exact (SUMO's own saved state is not: see `docs/results/world.json`). SUMO's
position is the front bumper's centre and its angle runs clockwise from north; both are converted here and only here.
Knows nothing of cameras or the expert.
"""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np

from causaldrive.ground.errors import UserError
from causaldrive.ground.words import STEP_S
from causaldrive.worlds.actors import SignalHead
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays
from causaldrive.worlds.sumo_net import Network, read_network
from causaldrive.worlds.sumo_plan import SumoCar, SumoPlan, SumoWalker
from causaldrive.worlds.traffic import CannotIntervene
from causaldrive.worlds.unbend import Unbend

EGO = "ego"
_KEEP_EXACTLY = 2  # moveToXY: put it where it is told, on a lane or not
_ANY_LANE = -1
_POSITION, _ANGLE, _SPEED, _SIGNALS = 0x42, 0x43, 0x40, 0x5B
_MAY_EXCEED = 1.3  # of a lane's limit: a car's own top speed is what holds it
_BRAKE_BIT, _LEFT_BIT, _RIGHT_BIT = 8, 2, 1
_CLASSES = {"car": "passenger", "truck": "truck", "bus": "bus", "motorcycle": "motorcycle", "cyclist": "bicycle"}
_LETTERS = {"r": "red", "u": "red", "s": "red", "y": "yellow", "Y": "yellow", "g": "green", "G": "green"}
_ON_THE_RING_M = 10.0  # past the end of the lane that leads into a roundabout
_OFF = "O"  # a signal that is switched off
_OPTIONS = (
    "--step-length", str(STEP_S), "--no-step-log", "true", "--no-warnings", "true", "--xml-validation", "never",
    "--time-to-teleport", "-1", "--collision.action", "none", "--lanechange.duration", "2.5",
    "--duration-log.disable", "true", "--insertion-checks", "none", "--default.speeddev", "0",
)  # fmt: skip


Place = tuple[float, float, float, float]  # x, y, yaw, speed of the ego's rear axle


@dataclass(frozen=True)
class Edit:
    """An intervention, played again at its place among the ego's places: a method of `SumoTraffic` and its words."""

    method: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class SumoMoment:
    """A moment: every place the ego was at and every edit so far, and what was read last."""

    log: tuple[Place | Edit, ...]
    agents: AgentArrays
    lights: LightArrays


def load_libsumo() -> ModuleType:
    """libsumo, without its note about pyarrow's version (none of its Parquet output is used here)."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            import libsumo
    except ImportError as error:
        raise UserError(
            f"the town's traffic needs libsumo, which does not load ({error}): run pip install 'libsumo>=1.20'."
        ) from None
    return libsumo


class SumoTraffic:
    """SUMO plays a `SumoPlan` around the ego. Raises UserError when the plan does not fit its network."""

    _playing: ClassVar[SumoTraffic | None] = None

    def __init__(self, plan: SumoPlan, ego: EgoState):
        self.plan = plan
        self._sumo = load_libsumo()
        self._categories = {car.agent_id: car.category for car in plan.cars}
        self._categories |= {walker.agent_id: "pedestrian" for walker in plan.walkers}
        self._sizes = {agent.agent_id: agent.size_m for agent in (*plan.cars, *plan.walkers)}
        network = read_network(plan.network)
        self._heads: tuple[SignalHead, ...] = network.heads()
        self._entries = {car.agent_id: entry for car in plan.cars if (entry := _ring_entry(network, car)) is not None}
        self._stop_xy = np.array([h.stop_xy_m for h in self._heads], float).reshape(-1, 2)
        self._head_xyz = np.array([h.head_xyz_m for h in self._heads], float).reshape(-1, 3)
        self._head_yaw = np.array([h.yaw_rad for h in self._heads], float)
        self._first = (*ego.xy_in_local_m.tolist(), float(ego.yaw_rad), float(ego.speed_mps))
        self._ego_size = (*ego.size_m, ego.rear_axle_to_centre_m)
        self._signals = sorted({h.group.rpartition("/")[0] for h in self._heads})
        self._words: tuple[str, ...] = ()
        self._states: list[str] = []
        self._present: tuple[list[str], list[str], np.ndarray] = ([], [], np.zeros((0, 3)))
        self._log: list[Place | Edit] = []
        self._start()
        self._read()

    def step(self, ego: EgoState) -> None:
        """Advance by 0.1 s; the ego is put where it will be then at its present speed and curvature."""
        self._take_over()
        place = _carried_on(ego)
        self._log.append(place)
        self._play(place)
        self._read()

    def agents(self) -> AgentArrays:
        return self._agents

    def lights(self) -> LightArrays:
        return self._lights

    def snapshot(self) -> SumoMoment:
        return SumoMoment(tuple(self._log), self._agents, self._lights)

    def restore(self, saved: SumoMoment) -> None:
        """Back to a moment of this or another world of the same plan: played again from the start."""
        self._log, self._agents, self._lights = list(saved.log), saved.agents, saved.lights
        self._park()

    def remove_agent(self, agent_id: str) -> None:
        """The agent is gone; the others no longer react to it. Raises CannotIntervene when it is not there."""
        self._check_there(agent_id)
        self._edit("_remove", agent_id)
        self._agents = self._agents.keep([name != agent_id for name in self._agents.ids])

    def freeze_agent(self, agent_id: str) -> None:
        """The agent stands from the next step on. Raises CannotIntervene when it is not there."""
        self._check_there(agent_id)
        self._edit("_freeze", agent_id)

    def walk_on(self, agent_id: str) -> None:
        """Raises CannotIntervene: SUMO's people wait at crossings for SUMO's reasons alone."""
        raise CannotIntervene(f"SUMO decides when {agent_id!r} walks on")

    def hold_light(self, light_id: str, state: str) -> None:
        """The junction keeps the first phase of its program in which this head shows `state`; 'off' darkens it.

        Raises CannotIntervene for an unknown head, and where no phase shows that.
        """
        self._take_over()
        signal, index = self._link_of(light_id)
        phases = [phase.state for phase in self._sumo.trafficlight.getAllProgramLogics(signal)[0].phases]
        phases.append(_OFF * len(phases[0]))
        word = next((phase for phase in phases if _LETTERS.get(phase[index], "off") == state), None)
        if word is None:
            raise CannotIntervene(f"no phase of the signal {signal!r} shows {state} at {light_id!r}")
        self._edit("_hold", signal, word)
        self._lights = self._read_lights()

    def straighten(self, unbend: Unbend) -> None:
        """Raises CannotIntervene: SUMO's vehicles are bound to their network."""
        raise CannotIntervene("the road of a SUMO network cannot be straightened under its traffic")

    def _check_there(self, agent_id: str) -> None:
        if agent_id not in self._agents.ids:
            raise CannotIntervene(f"nobody called {agent_id!r} is there")

    def _link_of(self, light_id: str) -> tuple[str, int]:
        """Signal and link index of a head."""
        group = next((head.group for head in self._heads if head.light_id == light_id), None)
        if group is None:
            raise CannotIntervene(f"there is no light {light_id!r} in this scene")
        signal, _, index = group.rpartition("/")
        return signal, int(index)

    def _edit(self, method: str, *words: str) -> None:
        self._take_over()
        edit = Edit(method, words)
        self._log.append(edit)
        self._play(edit)

    def _remove(self, agent_id: str) -> None:
        owner = self._sumo.person if self._categories[agent_id] == "pedestrian" else self._sumo.vehicle
        owner.unsubscribe(agent_id)  # libsumo asks after whom it has subscribed, gone or not
        owner.remove(agent_id)

    def _freeze(self, agent_id: str) -> None:
        if self._categories[agent_id] == "pedestrian":
            self._sumo.person.setSpeed(agent_id, 0.0)
            return
        self._sumo.vehicle.setSpeedMode(agent_id, 0)  # no braking distance: it stands at once
        self._sumo.vehicle.setSpeed(agent_id, 0.0)

    def _hold(self, signal: str, word: str) -> None:
        self._sumo.trafficlight.setRedYellowGreenState(signal, word)

    def close(self) -> None:
        """Give the process's simulation back. A later step opens it again."""
        self._park()

    def _park(self) -> None:
        if SumoTraffic._playing is self:
            self._sumo.close()
            SumoTraffic._playing = None

    def _take_over(self) -> None:
        """Make this world's simulation the process's one; the world that had it is parked."""
        if SumoTraffic._playing is self:
            return
        self._start()
        for entry in self._log:
            self._play(entry)

    def _start(self) -> None:
        if SumoTraffic._playing is not None:
            SumoTraffic._playing._park()
        try:
            self._sumo.start(["sumo", "-n", str(self.plan.network), "--seed", str(self.plan.seed % 2**31), *_OPTIONS])
            SumoTraffic._playing = self
            self._add_everyone()
            self._sumo.simulationStep()
            self._subscribe()
            self._check_all_there()
        except (self._sumo.TraCIException, self._sumo.FatalTraCIError) as error:
            raise UserError(
                f"SUMO does not play the scene on {self.plan.network} ({error}); the scene's edges and places must be "
                "those of the network, so correct the plan or convert the network again."
            ) from None

    def _check_all_there(self) -> None:
        there = {*self._sumo.vehicle.getIDList(), *self._sumo.person.getIDList()}
        late = [a.agent_id for a in (*self.plan.cars, *self.plan.walkers) if not a.depart_s and a.agent_id not in there]
        if late:
            raise UserError(
                f"SUMO finds no room for {late[0]!r} ({len(late)} agents in all) on {self.plan.network.name}; expected "
                "a place clear of others, at a speed from which it can stop at the junction ahead, so correct the plan."
            )

    def _add_everyone(self) -> None:
        for car in self.plan.cars:
            self._add_car(car)
        for walker in self.plan.walkers:
            self._add_walker(walker)
        self._add_ego()
        for start in self.plan.signals:
            self._sumo.trafficlight.setPhase(start.signal, start.phase)
            self._sumo.trafficlight.setPhaseDuration(start.signal, start.remaining_s)

    def _add_car(self, car: SumoCar) -> None:
        sumo, name = self._sumo, car.agent_id
        kind = f"type_{name}"
        sumo.vehicletype.copy("DEFAULT_VEHTYPE", kind)
        sumo.vehicletype.setVehicleClass(kind, _CLASSES[car.category])
        length, width, height = car.size_m
        settings = {
            "Length": length, "Width": width, "Height": height, "Accel": car.acceleration_mps2,
            "Decel": car.braking_mps2, "Tau": car.headway_s, "MaxSpeed": car.wish_mps, "Imperfection": 0.0,
            "SpeedFactor": _MAY_EXCEED,
        }  # fmt: skip
        for setting, value in settings.items():
            getattr(sumo.vehicletype, f"set{setting}")(kind, value)
        sumo.vehicletype.setParameter(kind, "jmTimegapMinor", "1.2")
        sumo.route.add(f"route_{name}", list(car.edges))
        lane = "best" if car.lane is None else str(car.lane)
        sumo.vehicle.add(name, f"route_{name}", kind, str(car.depart_s), lane, f"{car.front_m:.2f}",
                         f"{min(car.speed_mps, car.wish_mps):.2f}")  # fmt: skip
        if car.impatience:
            sumo.vehicle.setImpatience(name, car.impatience)
        if car.stop_at_m is not None:
            sumo.vehicle.setStop(name, car.edges[0], car.stop_at_m, car.lane or 0, 1e6)

    def _add_walker(self, walker: SumoWalker) -> None:
        person, name = self._sumo.person, walker.agent_id
        person.add(name, walker.edges[0], walker.start_m, walker.depart_s)
        person.appendWalkingStage(name, list(walker.edges), walker.end_m, -1, walker.speed_mps)
        person.setLength(name, walker.size_m[0])
        person.setWidth(name, walker.size_m[1])

    def _add_ego(self) -> None:
        sumo, size = self._sumo, self._ego_size
        sumo.vehicletype.copy("DEFAULT_VEHTYPE", "type_ego")
        sumo.vehicletype.setLength("type_ego", size[0])
        sumo.vehicletype.setWidth("type_ego", size[1])
        sumo.route.add("route_ego", list(self.plan.ego_edges))
        sumo.vehicle.add(EGO, "route_ego", "type_ego", "now", "best", "base", "0")
        sumo.vehicle.setSpeedMode(EGO, 0)
        sumo.vehicle.setLaneChangeMode(EGO, 0)
        self._place_ego(self._first)

    def _place_ego(self, place: Place) -> None:
        x, y, yaw, speed = place
        ahead = self._ego_size[3] + self._ego_size[0] / 2
        front = (x + ahead * math.cos(yaw), y + ahead * math.sin(yaw))
        vehicle = self._sumo.vehicle
        vehicle.setSpeed(EGO, speed)
        vehicle.moveToXY(EGO, "", _ANY_LANE, *front, 90.0 - math.degrees(yaw), _KEEP_EXACTLY)

    def _play(self, entry: Place | Edit) -> None:
        """A place of the ego is one step of 0.1 s; an edit takes no time."""
        if isinstance(entry, Edit):
            getattr(self, entry.method)(*entry.words)
            return
        self._place_ego(entry)
        self._sumo.simulationStep()
        self._subscribe()

    def _subscribe(self) -> None:
        """Every newcomer's motion is read by subscription from now on."""
        sumo = self._sumo
        for name in sumo.simulation.getDepartedIDList():
            if name != EGO:
                sumo.vehicle.subscribe(name, [_POSITION, _ANGLE, _SPEED, _SIGNALS])
        for name in sumo.simulation.getDepartedPersonIDList():
            sumo.person.subscribe(name, [_POSITION, _ANGLE, _SPEED])

    def _read(self) -> None:
        people = self._sumo.person.getAllSubscriptionResults()
        cars = self._sumo.vehicle.getAllSubscriptionResults()
        found = {**cars, **people} if people else cars
        values = [
            v for row in found.values() for v in (*row[_POSITION], row[_ANGLE], row[_SPEED], row.get(_SIGNALS, 0))
        ]
        table = np.array(values, float).reshape(-1, 5)
        ids = list(found)
        if ids != self._present[0]:  # who is there changes seldom
            size = np.array([self._sizes[name] for name in ids], float).reshape(-1, 3)
            self._present = (ids, [self._categories[name] for name in ids], size)
        ids, category, size = self._present
        yaw = np.remainder(1.5 * np.pi - np.deg2rad(table[:, 2]), 2 * np.pi) - np.pi
        half = size[:, 0] / 2
        centre = np.column_stack([table[:, 0] - half * np.cos(yaw), table[:, 1] - half * np.sin(yaw)])
        bits = table[:, 4].astype(np.int64)
        indicator = ((bits & _LEFT_BIT) // _LEFT_BIT - (bits & _RIGHT_BIT) // _RIGHT_BIT).astype(np.int8)
        for row in [row for row, name in enumerate(ids) if name in self._entries] if self._entries else ():
            end, ahead = self._entries[ids[row]]
            if (centre[row] - end) @ ahead < _ON_THE_RING_M:
                indicator[row] = max(indicator[row], 0)
        self._agents = AgentArrays(
            list(ids), list(category), centre, yaw, table[:, 3].copy(), size, (bits & _BRAKE_BIT) > 0, indicator
        )
        self._lights = self._read_lights()

    def _read_lights(self) -> LightArrays:
        """States of all heads; the arrays of their places are shared, as nothing moves a head."""
        words = tuple(self._sumo.trafficlight.getRedYellowGreenState(signal) for signal in self._signals)
        if words != self._words:
            shown = dict(zip(self._signals, words, strict=True))
            groups = [head.group.rpartition("/") for head in self._heads]
            self._words = words
            self._states = [_LETTERS.get(shown[signal][int(index)], "off") for signal, _, index in groups]
        return LightArrays(
            [h.light_id for h in self._heads], [h.lane_id for h in self._heads], list(self._states),
            self._stop_xy, self._head_xyz, self._head_yaw,
        )  # fmt: skip


def _ring_entry(network: Network, car: SumoCar) -> tuple[np.ndarray, np.ndarray] | None:
    """End and direction of the lane on which a car enters a roundabout that it does not leave at the first exit.

    SUMO signals right there, as into any street. On the road that says 'I leave at once', and is read so.
    """
    rings = network.ring_edges
    for before, first, second in zip(car.edges, car.edges[1:], car.edges[2:], strict=False):
        if before not in rings and first in rings and second in rings:
            line = network.road.lanes[network.lane_ids[before][0]].centre_xy_m
            step = line[-1] - line[-2]
            return line[-1], step / np.linalg.norm(step)
    return None


def _carried_on(ego: EgoState) -> Place:
    """x, y, yaw, speed of the rear axle 0.1 s on, at constant speed and curvature."""
    step = ego.speed_mps * STEP_S
    turn = ego.curvature_1pm * step
    yaw = ego.yaw_rad + turn / 2
    x, y = float(ego.xy_in_local_m[0]), float(ego.xy_in_local_m[1])
    return x + step * math.cos(yaw), y + step * math.sin(yaw), float(ego.yaw_rad + turn), float(ego.speed_mps)
