"""A bent road made straight: the map that keeps every place's arc and offset along a route and straightens the route.

Used to take a curve away from a scene. Reads a route and the pose about which it is straightened; writes nothing.
Knows nothing of traffic or of who asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from causaldrive.clips.geometry import Array, from_frame, pose_on_polyline, project_on_polyline, wrap_angle
from causaldrive.clips.types import Lane, RightOfWay, RoadMap
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, SceneContext, WorldState


@dataclass(frozen=True)
class Unbend:
    """p(s, d) -> p0 + (s - s0) t0 + d n0: (s, d) = arc and offset of p on the route, (p0, t0, n0) = the route at s0.

    The route's own points keep their arcs; beside it, lengths change by 1 / (1 - curvature x offset).
    """

    route_xy_m: Array  # (R, 2)
    arc_m: float  # s0: where the straight road touches the bent one

    @staticmethod
    def at(context: SceneContext, ego: EgoState) -> Unbend:
        """About the place of the ego on its route, so that the ego stays where it is."""
        arc, _ = project_on_polyline(ego.xy_in_local_m, context.route_xy_in_local_m)
        return Unbend(context.route_xy_in_local_m, float(arc))

    def points(self, xy_m: Array) -> Array:
        """(N, 2) places, moved."""
        origin, yaw = pose_on_polyline(self.arc_m, self.route_xy_m)
        arc, offset = project_on_polyline(np.asarray(xy_m, float), self.route_xy_m)
        return from_frame(np.stack([arc - self.arc_m, offset], axis=-1), origin, float(yaw))

    def yaws(self, xy_m: Array, yaw_rad: Array) -> Array:
        """(N,) headings at the places (N, 2), turned by as much as the route turns there."""
        arc, _ = project_on_polyline(np.asarray(xy_m, float), self.route_xy_m)
        _, then = pose_on_polyline(arc, self.route_xy_m)
        _, straight = pose_on_polyline(self.arc_m, self.route_xy_m)
        return wrap_angle(yaw_rad - then + straight)

    def context(self, context: SceneContext) -> SceneContext:
        """The static scene on the straight road."""
        road = context.road
        lanes = {name: self._lane(lane) for name, lane in road.lanes.items()}
        rings = {
            part: {name: self.points(ring) for name, ring in getattr(road, part).items()}
            for part in ("crosswalks", "drivable", "stop_lines", "buildings", "bumps")
        }
        rights = {name: self._right_of_way(right) for name, right in road.right_of_way.items()}
        route = self.points(context.route_xy_in_local_m)
        return replace(context, road=RoadMap(lanes, right_of_way=rights, **rings), route_xy_in_local_m=route)

    def _right_of_way(self, right: RightOfWay) -> RightOfWay:
        xy = right.stop_xy_m[None]
        yaw = float(self.yaws(xy, np.array([right.yaw_rad]))[0])
        return replace(right, stop_xy_m=self.points(xy)[0], yaw_rad=yaw)

    def _lane(self, lane: Lane) -> Lane:
        centre, left, right = (self.points(line) for line in (lane.centre_xy_m, lane.left_xy_m, lane.right_xy_m))
        return replace(lane, centre_xy_m=centre, left_xy_m=left, right_xy_m=right)

    def state(self, state: WorldState) -> WorldState:
        """Ego, agents and lights of one moment, moved."""
        return WorldState(state.t_us, self.ego(state.ego), self.agents(state.agents), self.lights(state.lights))

    def ego(self, ego: EgoState) -> EgoState:
        xy = ego.xy_in_local_m[None]
        yaw = float(self.yaws(xy, np.array([ego.yaw_rad]))[0])
        return replace(ego, xy_in_local_m=self.points(xy)[0], yaw_rad=yaw)

    def agents(self, agents: AgentArrays) -> AgentArrays:
        if not len(agents):
            return agents
        xy = agents.xy_in_local_m
        return replace(agents, xy_in_local_m=self.points(xy), yaw_rad=self.yaws(xy, agents.yaw_rad))

    def lights(self, lights: LightArrays) -> LightArrays:
        if not len(lights):
            return lights
        stop, head = lights.stop_xy_in_local_m, lights.head_xyz_in_local_m.copy()
        yaw = self.yaws(stop, lights.yaw_rad)
        head[:, :2] = self.points(head[:, :2])
        return replace(lights, stop_xy_in_local_m=self.points(stop), head_xyz_in_local_m=head, yaw_rad=yaw)
