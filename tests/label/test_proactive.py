"""Proactive keyframes: where a cause is named and nobody has to react yet; none where nothing is annotated."""

from __future__ import annotations

from dataclasses import replace

import pytest
from label_drives import recording_of, speeds, town_recording

from causaldrive.label.keyframes import Keyframe, find_keyframes
from causaldrive.label.labelling import label_recording
from causaldrive.label.meta_actions import detect
from causaldrive.label.proactive import ProactiveRange, keyframes_of, proactive_ranges, ranges_of
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.teachers import ExpertTeacher
from causaldrive.worlds.explanation import Explanation, Factor


@pytest.fixture(scope="module")
def curve() -> RecordingView:
    return view_of(town_recording("sharp_curve"))


def said(*kinds: str, agent: str | None = None, acceleration: float = -0.5) -> Explanation:
    causes = tuple(Factor(kind, agent, 0, acceleration, 0.0, kind) for kind in kinds)
    return Explanation("speed_adaptation", "lane_keeping", None, causes, (), acceleration, 0.0)


def at(**spoken: Explanation) -> dict[int, Explanation]:
    """Explanations by time; `t5_9=...` speaks from 0.5 to 0.9 s."""
    found = {i * 100_000: said() for i in range(40)}
    for name, what in spoken.items():
        first, last = (int(part) for part in name[1:].split("_"))
        found |= {i * 100_000: what for i in range(first, last + 1)}
    return found


def test_a_range_is_from_first_to_last_named():
    assert ranges_of(at(t5_14=said("sharp_curve"))) == [ProactiveRange("curvy road", 500_000, 1_500_000)]
    again = ranges_of(at(t5_14=said("sharp_curve"), t25_34=said("sharp_curve")))
    assert [r.start_us for r in again] == [500_000, 2_500_000], "two curves"
    flicker = ranges_of(at(t5_9=said("lane_ends"), t12_16=said("lane_ends")))
    assert flicker == [ProactiveRange("lane-change preparation", 500_000, 1_700_000)]


def test_what_is_short_hard_or_reactive_is_none():
    assert ranges_of(at(t5_7=said("sharp_curve"))) == []
    assert ranges_of(at(t5_14=said("sharp_curve", acceleration=-3.0))) == []
    assert ranges_of(at(t5_14=said("cut_in_vehicle", "red_light", agent="x"))) == []


def test_a_curve_ahead_is_a_keyframe_before_the_car_answers(curve):
    (first, *_) = proactive_ranges(curve)
    assert first.scenario == "curvy road"
    found = keyframes_of(curve, proactive=True)
    assert {k.origin for k in found} == {"transition", "proactive"}
    assert {k.t0_us for k in found if k.origin == "transition"} < {k.t0_us for k in keyframes_of(curve)}
    label = next(x for x in label_recording(curve, ExpertTeacher(), proactive=True) if x.origin == "proactive")
    assert [c.kind for c in label.causes] == ["sharp_curve"] and label.status == "accepted"


def test_a_change_near_a_proactive_one_is_its_answer_and_none_come_without_annotations(curve):
    meta = detect(recording_of(speeds(10, (0, 4), (-2, 2), (0, 9))).ego)
    near, far = Keyframe(3_300_000, "proactive", "x"), Keyframe(2_000_000, "proactive", "x")
    found = find_keyframes(meta, (0, 12_000_000), None, [near, far])
    assert [(k.t0_us, k.origin) for k in found][:2] == [(2_000_000, "proactive"), (3_300_000, "proactive")]
    assert 3_500_000 not in {k.t0_us for k in found}
    assert proactive_ranges(replace(curve, recording=replace(curve.recording, agents=None))) == []
