"""What a view tells of the agents around: who comes towards us, and who has just come into our way."""

from __future__ import annotations

import pytest
from label_drives import recording_of_states

from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.worlds.expert_drive import drive
from causaldrive.worlds.scenes import SceneSpec, build_scene


def view_of_scene(family: str, seed: int) -> RecordingView:
    driven = drive(build_scene(SceneSpec(family, seed, False)), 14.0, None)
    return view_of(recording_of_states(family, driven.states, driven.context))


def times_of(view: RecordingView, name: str, field: str) -> list[int]:
    """Moments, 0.5 s apart, at which the agent is among those of `field`."""
    first, last = view.usable_range_us
    return [t for t in range(first, last + 1, 500_000) if name in getattr(view.evidence(t), field)]


@pytest.mark.parametrize("seed", [660_006, 660_126])  # from the left and from the right
def test_who_cuts_in_came_in_for_two_seconds_and_not_for_ever(seed):
    view = view_of_scene("cut_in", seed)
    came = times_of(view, "cutter", "came_in")
    assert came and came == list(range(came[0], came[-1] + 1, 500_000)), "one span of time"
    assert came[-1] + 500_000 <= view.usable_range_us[1], "after which it is a lead as any other"
    assert not times_of(view, "cutter", "oncoming")


def test_who_comes_towards_us_is_told_from_who_stands():
    view = view_of_scene("nudge_prep", 660_032)
    assert times_of(view, "oncoming", "oncoming")
    assert not times_of(view, "standing", "oncoming") and not times_of(view, "oncoming", "came_in")
