"""The closed sets every room speaks: decisions, cause categories, the cause kinds our worlds know, meta actions.

Source: arXiv 2511.00088, section 3 (decisions, components) and section 4.3.2 (meta actions). `CAUSE_KINDS` is ours:
a name for each cause that a world can know for certain, so that causes can be scored as sets.
"""

from __future__ import annotations

LONGITUDINAL_DECISIONS = (
    "set_speed_tracking",
    "lead_obstacle_following",
    "speed_adaptation",
    "gap_searching",
    "acceleration_for_passing",
    "yield",
    "stop_for_static_constraint",
)
LATERAL_DECISIONS = (
    "lane_keeping",
    "merge_split",
    "out_of_lane_nudge",
    "in_lane_nudge",
    "lane_change",
    "pull_over",
    "turn",
    "lateral_abort",
)
DIRECTIONS = ("left", "right")
DIRECTED_LATERAL = ("out_of_lane_nudge", "in_lane_nudge", "lane_change", "turn")  # these must name a side

CAUSE_CATEGORIES = (
    "critical_object",
    "traffic_light",
    "yield_stop_control",
    "road_event",
    "lane_line",
    "routing_intent",
    "odd_constraint",
)
CAUSE_KINDS = {  # kind -> category
    "lead_vehicle": "critical_object",  # in our lane, slower or braking
    "cut_in_vehicle": "critical_object",  # moving from a neighbour lane into ours
    "stopped_vehicle": "critical_object",  # blocks part or all of our lane, can be passed
    "pedestrian_crossing": "critical_object",
    "cyclist": "critical_object",
    "red_light": "traffic_light",
    "yellow_light": "traffic_light",
    "green_light": "traffic_light",  # turned green: reason to go again
    "stop_sign": "yield_stop_control",
    "crossing_vehicle": "critical_object",  # has the right of way at a junction, or came first at an all-way stop
    "oncoming_vehicle": "critical_object",  # goes first before our left turn, or needs the room that we need
    "merging_vehicle": "critical_object",  # on the road that we merge into, or in the roundabout
    "sharp_curve": "road_event",
    "speed_bump": "road_event",
    "pedestrian_waiting": "critical_object",  # came up to the road and stopped: no reason to yield
    "risky_vehicle": "critical_object",  # swerves, straddles a line, or drives the wrong way
    "neighbour_vehicle": "critical_object",  # beside us, where we want to go
    "lane_ends": "lane_line",
    "route_lane": "routing_intent",  # the route lies in another lane
    "construction": "odd_constraint",
    "school_bus": "odd_constraint",  # stopped, lights flashing
    "emergency_vehicle": "odd_constraint",
    "unobserved": "odd_constraint",  # the honest mark of a teacher that saw no cause
}

LONGITUDINAL_META = (
    "gentle_accelerate",
    "strong_accelerate",
    "gentle_decelerate",
    "strong_decelerate",
    "maintain_speed",
    "stop",
    "reverse",
)
LATERAL_META = (
    "steer_left",
    "steer_right",
    "sharp_steer_left",
    "sharp_steer_right",
    "reverse_left",
    "reverse_right",
    "go_straight",
)
LANE_META = (  # ours, after the released labeller's lane group; needs a map
    "keep_lane",
    "lane_change_left",
    "lane_change_right",
    "nudge_left",
    "nudge_right",
    "turn_left",
    "turn_right",
    "follow_curve_left",
    "follow_curve_right",
    "merge",
    "split",
    "off_map",
)

AGENT_CATEGORIES = (
    "car",
    "truck",
    "bus",
    "school_bus",
    "emergency_vehicle",
    "motorcycle",
    "cyclist",
    "pedestrian",
    "animal",
    "cone",
    "barrier",
    "sign",
    "other",
)
RIGHT_OF_WAY_KINDS = ("all_way_stop", "stop", "yield", "left_turn", "merge", "roundabout")
STOP_WAYS = ("all_way_stop", "stop")  # those at which a sign says stop
LIGHT_STATES = ("off", "red", "yellow", "green")

HISTORY_STEPS = 16  # poses at 10 Hz, the last is t0
FUTURE_STEPS = 64
STEP_S = 0.1
STEP_US = 100_000

# Seed ranges (DESIGN section 7). Seeds from RESERVED_SEED up are for final checks: nothing in a recipe may drive them.
VALIDATION_SEED, TEST_SEED, RESERVED_SEED = 1_000_000, 2_000_000, 9_000_000


def split_of_seed(seed: int) -> str:
    """'train', 'validate', 'test' or 'reserved' by DESIGN section 7."""
    if seed < VALIDATION_SEED:
        return "train"
    if seed < TEST_SEED:
        return "validate"
    return "test" if seed < RESERVED_SEED else "reserved"
