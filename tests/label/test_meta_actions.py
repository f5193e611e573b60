"""Meta actions on drives whose every phase is known, and on a real one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_drives import ego_of, path, speeds, yaws

from causaldrive.ground.errors import UserError
from causaldrive.ground.words import LATERAL_META, LONGITUDINAL_META
from causaldrive.label.meta_actions import MetaActions, Profile, describe, detect, of_trajectory, profile_of
from causaldrive.label.released_actions import ReleasedProfile


def spans(meta: MetaActions, axis: str) -> list[tuple[str, float, float]]:
    return [(s.label, s.start_t_us / 1e6, s.end_t_us / 1e6) for s in meta.spans if s.axis == axis]


def longitudinal(
    start: float, *phases: tuple[float, float], profile: str = "causaldrive"
) -> list[tuple[str, float, float]]:
    return spans(detect(ego_of(speeds(start, *phases)), profile_of(profile)), "longitudinal")


def lateral(curvature: float, speed: float, profile: str = "causaldrive") -> list[tuple[str, float, float]]:
    v = np.full(121, speed)
    return spans(detect(ego_of(v, yaws(v, (0, 3), (curvature, 6), (0, 3))), profile_of(profile)), "lateral")


def test_brake_to_rest_is_found_at_once():
    assert longitudinal(10, (0, 3), (-2, 5), (0, 3)) == [
        ("maintain_speed", 0, 3), ("strong_decelerate", 3, 8), ("stop", 8, 11.1),
    ]  # fmt: skip


def test_a_short_soft_brake_is_not_lost():
    found = longitudinal(10, (0, 3), (-1, 0.7), (0, 3))
    assert [label for label, _, _ in found] == ["maintain_speed", "gentle_decelerate", "maintain_speed"]
    assert found[1][1:] == pytest.approx((3.0, 3.7), abs=0.101)


def test_a_creep_start_ends_the_stop():
    found = longitudinal(0, (0, 3), (0.25, 4), (0, 2))
    assert found[:2] == [("stop", 0, 3), ("gentle_accelerate", 3, 7)]


def test_reverse_and_back():
    found = longitudinal(0, (0, 3), (-0.5, 3), (0.5, 3), (0, 2))
    assert [label for label, _, _ in found] == ["stop", "reverse", "stop"]


def test_a_brake_that_builds_up_belongs_to_the_strong_span():
    v = np.concatenate([speeds(12, (0, 5)), speeds(12, *[(-0.4 * i, 0.1) for i in range(1, 6)], (-2, 2), (0, 3))[1:]])
    labels = [s[0] for s in spans(detect(ego_of(v)), "longitudinal")]
    assert labels == ["maintain_speed", "strong_decelerate", "maintain_speed"]


@pytest.mark.parametrize(
    ("radius_m", "speed", "expected"),
    [
        (1000, 10, None),
        (1000, 25, "steer"),
        (500, 10, "steer"),
        (100, 10, "steer"),
        (30, 8, "steer"),
        (15, 6, "sharp_steer"),
    ],
)
def test_curves_by_radius_on_both_sides(radius_m, speed, expected):
    for sign, side in ((1, "left"), (-1, "right")):
        found = lateral(sign / radius_m, speed)
        if expected is None:
            assert found == [("go_straight", 0, 12.1)]
        else:
            assert [label for label, _, _ in found] == ["go_straight", f"{expected}_{side}", "go_straight"]
            assert found[1][1:] == pytest.approx((3.0, 9.0), abs=0.101)


def test_reversing_is_named_by_the_side_the_rear_swings_to():
    v = speeds(0, (-1, 2), (0, 4), (1, 2))
    for sign, side in ((1, "left"), (-1, "right")):
        meta = detect(ego_of(v, yaws(v, (sign * 0.1, 8))))
        assert f"reverse_{side}" in set(meta.lateral)
        y = path(v, yaws(v, (sign * 0.1, 8)))[-1, 1]
        assert np.sign(y) == sign


def test_standing_has_no_steering():
    v = speeds(5, (-2, 2.5), (0, 4))
    yaw = yaws(v, (0.1, 8)) + np.where(v <= 0, 1e-3 * np.sin(np.arange(len(v))), 0)
    meta = detect(ego_of(v, yaw))
    assert set(meta.lateral[meta.longitudinal == "stop"]) <= {"go_straight", "sharp_steer_left"}
    assert list(meta.lateral[-20:]) == ["go_straight"] * 20


@given(
    first=st.floats(1.5, 4), second=st.floats(1.5, 4),
    rates=st.tuples(st.sampled_from([-2.5, -0.8, 0.6, 2.0]), st.sampled_from([-2.5, -0.8, 0.6, 2.0])),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_onsets_are_exact_on_clean_drives(first, second, rates):
    first, second = round(first, 1), round(second, 1)
    found = longitudinal(25, (0, 3), (rates[0], first), (0, 2), (rates[1], second), (0, 3))
    starts = [start for _, start, _ in found]
    assert starts == pytest.approx([0, 3, 3 + first, 5 + first, 5 + first + second], abs=0.101)
    for rate, label in zip(rates, (found[1][0], found[3][0]), strict=True):
        assert label == ("strong_" if abs(rate) > 1.4 else "gentle_") + ("accelerate" if rate > 0 else "decelerate")


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_noise_moves_onsets_little_and_invents_nothing(seed):
    v = speeds(12, (0, 4), (-2, 3), (0, 4), (1, 4), (0, 4))
    found = spans(detect(ego_of(v + np.random.default_rng(seed).normal(0, 0.03, len(v)))), "longitudinal")
    kinds = [label.rsplit("_")[-1] for label, _, _ in found]
    merged = [k for i, k in enumerate(kinds) if i == 0 or k != kinds[i - 1]]
    assert merged == ["speed", "decelerate", "speed", "accelerate", "speed"]
    onset = next(start for label, start, _ in found if "decelerate" in label)
    assert 3.3 < onset < 4.101  # smoothing against noise may show it early; one frame late at most


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_words_are_of_the_closed_sets_and_spans_tile_the_drive(seed):
    rng = np.random.default_rng(seed)
    v = np.cumsum(rng.normal(0, 0.15, 300))
    meta = detect(ego_of(v, np.cumsum(rng.normal(0, 0.03, 300))))
    assert set(meta.longitudinal) <= set(LONGITUDINAL_META) and set(meta.lateral) <= set(LATERAL_META)
    for axis, labels in (("longitudinal", meta.longitudinal), ("lateral", meta.lateral)):
        own = [s for s in meta.spans if s.axis == axis]
        assert own[0].start_t_us == 0 and own[-1].end_t_us == 30_000_000
        assert all(a.end_t_us == b.start_t_us and a.label != b.label for a, b in itertools.pairwise(own))
        assert [s.label for s in own for _ in range(s.start_t_us, s.end_t_us, 100_000)] == list(labels)


def test_left_and_right_are_mirror_images():
    rng = np.random.default_rng(3)
    v = np.full(400, 9.0)
    yaw = np.cumsum(np.convolve(rng.normal(0, 0.02, 400), np.ones(20) / 20, "same"))
    left, right = detect(ego_of(v, yaw)).lateral, detect(ego_of(v, -yaw)).lateral
    swapped = [w.replace("left", "~").replace("right", "left").replace("~", "right") for w in left]
    assert swapped == list(right)


def test_a_planned_path_speaks_like_the_drive():
    v = speeds(10, (0, 2), (-2, 4), (0, 3))
    poses = np.column_stack([path(v, np.zeros(len(v))), np.zeros(len(v))])
    meta = of_trajectory(poses[:16], poses[16:80])
    assert len(meta.t_us) == 80 and meta.t_us[15] == 0
    onset = next(s for s in meta.spans if s.label == "strong_decelerate").start_t_us / 1e6
    assert onset == pytest.approx(0.5, abs=0.101)


def steering(speed: float, *curvatures: float) -> list[tuple[str, float, float]]:
    """Lateral spans of a drive given curvature by curvature, and of its mirror image, whose sides are swapped back."""
    v = np.full(len(curvatures) + 1, speed)
    yaw = np.concatenate([[0.0], np.cumsum(np.array(curvatures) * speed * 0.1)])
    found = spans(detect(ego_of(v, yaw)), "lateral")
    sides = {"left": "right", "right": "left"}
    mirrored = [
        ("_".join(sides.get(word, word) for word in label.split("_")), first, end)
        for label, first, end in spans(detect(ego_of(v, -yaw)), "lateral")
    ]
    assert found == mirrored
    return found


def test_a_bend_that_begins_sharply_and_fades_keeps_all_of_its_turn():
    fading = (0.0064, 0.0063, 0.0041, 0.0024, 0.0011)  # 0.0187 rad: the least change is 0.015
    found = steering(9.2, *[0.0] * 20, *fading, *[0.0] * 20)
    assert found == [("go_straight", 0, 2), ("steer_left", 2, 2.5), ("go_straight", 2.5, 4.6)]
    weak = tuple(0.7 * kappa for kappa in fading)
    assert {label for label, _, _ in steering(9.2, *[0.0] * 20, *weak, *[0.0] * 20)} == {"go_straight"}


def test_a_pause_on_a_clean_drive_is_one():
    """Too little of a bend, a twitch to the other side, then the bend: it begins with the bend."""
    found = steering(8.0, *[0.0] * 10, *[0.003] * 5, -0.011, -0.004, *[0.01] * 20)
    assert found == [("go_straight", 0, 1.7), ("steer_left", 1.7, 3.8)]


def test_nothing_is_turned_after_the_last_frame():
    ramp = (0.0012, 0.0024, 0.0035, 0.0045)  # 0.0139 rad up to the last frame
    assert [label for label, _, _ in steering(12.0, *[-0.004] * 20, *ramp)] == ["steer_right", "go_straight"]
    assert steering(12.0, *[-0.004] * 20, *ramp, 0.005)[-1][0] == "steer_left"


def test_the_wheel_takes_its_time_from_the_other_side():
    twitch = (0.008, 0.0095, 0.0057, 0.0025)  # 0.4 s, of which some goes to coming over
    bend = [-0.007] * 20
    assert [label for label, _, _ in steering(10.8, *bend, *twitch, 0, *bend)] == [
        "steer_right", "go_straight", "steer_right",
    ]  # fmt: skip
    from_straight = [label for label, _, _ in steering(10.8, *[0.0] * 20, *twitch, *[0.0] * 20)]
    assert from_straight == ["go_straight", "steer_left", "go_straight"]
    longer = [label for label, _, _ in steering(10.8, *bend, *twitch, 0.002, 0, *bend)]
    assert "steer_left" in longer


def test_what_the_wheel_turns_before_the_first_whole_frame_counts():
    fading = (0.0032, 0.0027, 0.0022, 0.0018, 0.0015, 0.0012)  # 0.0151 rad with what comes before, 0.0149 without
    crossing = (-0.0115, -0.0008)
    found = steering(11.8, *[0.0] * 20, *crossing, *fading, *[0.0] * 10)
    assert ("steer_left", 2.2, 2.8) in found
    slowly = steering(9.5, 0.0022, 0.0015, 0.0009, 0.0002, -0.0004, *[-kappa * 1.23 for kappa in fading[::-1]], 0.0)
    assert "steer_right" not in {label for label, _, _ in slowly}  # a wheel that drifts over has no such lead
    alone = steering(11.8, *[0.0] * 20, *fading, *[0.0] * 10)
    assert [label for label, _, _ in alone] == ["go_straight"]


def test_a_wheel_that_rests_before_it_reaches_the_other_side_has_turned_nothing_there():
    drifting = (-0.00185, -0.00269, -0.00341, -0.00399, -0.00456, -0.00531)  # 0.0148 rad, 0.0155 with a lead
    left, right = [0.0134, 0.0096, 0.0063, 0.0034, 0.0012], [-0.0021, -0.0044, -0.0063, -0.008, *[-0.01] * 20]
    found = steering(6.8, *[0.0] * 10, *left, -0.00056, *drifting, 0.0003, *right)
    assert found[-2:] == [("go_straight", 1.5, 2.3), ("steer_right", 2.3, 4.8)]
    assert [label for label, _, _ in found] == ["go_straight", "steer_left", "go_straight", "steer_right"]


def test_a_push_that_is_broken_off_is_none_of_the_next():
    rates = [0.56, 0.52, 0.48, 0.45, 0.42, 0.02, *[0.39] * 15, *[0.0] * 10]  # 0.24 m/s, then 0.58
    found = longitudinal(10.0, *[(rate, 0.1) for rate in rates])
    assert [(label, first) for label, first, _ in found] == [
        ("maintain_speed", 0), ("gentle_accelerate", 0.6), ("maintain_speed", 2.1),
    ]  # fmt: skip


def test_description_leaves_repeats_out():
    meta = detect(ego_of(speeds(10, (0, 3), (-2, 3), (0, 3))))
    assert describe(meta, 2_000_000, 7_000_000) == (
        "maintain_speed/go_straight", "strong_decelerate/go_straight", "maintain_speed/go_straight",
    )  # fmt: skip


def test_a_short_strong_burst_keeps_its_name():
    v = speeds(8, (0, 3), (0.8, 0.1), (1.2, 0.1), (1.6, 0.1), (1.5, 0.1), (1.3, 0.1), (0.5, 0.2), (0, 3))
    assert "strong_accelerate" in {label for label, _, _ in spans(detect(ego_of(v)), "longitudinal")}


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_short_stand_survives_noise(seed):
    v = speeds(0, (0, 2), (1.5, 2), (0, 2), (-1.5, 2), (0, 1.2), (1.5, 2), (0, 3))
    noisy = v + np.random.default_rng(seed).normal(0, 0.03, len(v))
    stands = [(a, b) for label, a, b in spans(detect(ego_of(noisy)), "longitudinal") if label == "stop"]
    assert any(a < 9.0 and b > 8.2 for a, b in stands)


def test_the_published_profile_does_what_is_known_of_it():
    """Reference drives: late, blind to short phases, and deaf to a creep start."""
    found = longitudinal(10, (0, 3), (-2, 5), (0, 3), profile="released")
    assert [label for label, _, _ in found] == ["maintain_speed", "strong_decelerate", "stop"]
    assert found[1][1] == pytest.approx(3.2)
    assert longitudinal(10, (0, 3), (-1, 0.7), (0, 3), profile="released") == [("maintain_speed", 0, 6.8)]
    creep = longitudinal(0, (0, 3), (0.25, 6), (0, 3), profile="released")
    assert creep[0] == ("stop", 0, 3.7) and creep[1][0] == "gentle_accelerate"


@pytest.mark.parametrize(
    ("radius_m", "speed", "expected"),
    [(1000, 10, None), (500, 10, "steer"), (100, 10, "steer"), (30, 8, "steer"), (15, 6, "sharp_steer")],
)
def test_curves_of_the_published_profile(radius_m, speed, expected):
    for sign, side in ((1, "left"), (-1, "right")):
        labels = [label for label, _, _ in lateral(sign / radius_m, speed, "released")]
        assert labels == (["go_straight", f"{expected}_{side}", "go_straight"] if expected else ["go_straight"])


@pytest.mark.parametrize("profile", ["released", "causaldrive"])
def test_a_lane_change_is_a_steer_to_each_side(profile):
    v = np.full(121, 10.0)
    yaw = yaws(v, (0, 3), (0.006, 2), (-0.006, 2), (0, 5))
    found = [label for label, _, _ in spans(detect(ego_of(v, yaw), profile_of(profile)), "lateral")]
    assert found == ["go_straight", "steer_left", "steer_right", "go_straight"]


def test_the_published_profile_reverses_too_and_names_the_same_side():
    v = speeds(0, (-1, 2), (0, 4), (1, 2))
    yaw = yaws(v, (0.1, 8))
    assert "reverse_left" in set(detect(ego_of(v, yaw), profile_of("released")).lateral)
    assert "reverse_left" in set(detect(ego_of(v, yaw)).lateral)


@given(st.integers(0, 1000), st.sampled_from(["released", "causaldrive"]))
@settings(max_examples=20, deadline=None)
def test_both_profiles_tile_the_drive_with_words_of_the_closed_sets(seed, profile):
    rng = np.random.default_rng(seed)
    v, yaw = np.cumsum(rng.normal(0, 0.2, 200)), np.cumsum(rng.normal(0, 0.02, 200))
    meta = detect(ego_of(v, yaw), profile_of(profile))
    assert len(meta.longitudinal) == len(meta.lateral) == 200
    assert set(meta.longitudinal) <= set(LONGITUDINAL_META) and set(meta.lateral) <= set(LATERAL_META)
    mirrored = detect(ego_of(v, -yaw), profile_of(profile)).lateral
    assert [w.replace("left", "~").replace("right", "left").replace("~", "right") for w in meta.lateral] == list(
        mirrored
    )


def test_profiles_go_by_name():
    assert profile_of("causaldrive") == Profile() and profile_of("released") == ReleasedProfile()
    with pytest.raises(UserError, match="Did you mean causaldrive"):
        profile_of("causaldrve")
