"""Labels on disk: what is written is read back, and nothing unsound is read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causaldrive.ground.errors import UserError
from causaldrive.ground.words import (
    CAUSE_CATEGORIES,
    CAUSE_KINDS,
    DIRECTIONS,
    LATERAL_DECISIONS,
    LONGITUDINAL_DECISIONS,
)
from causaldrive.label.store import ORIGINS, SCHEMA, labels_path, read_labels, write_labels
from causaldrive.label.types import STATUSES, Cause, CocLabel, Verdict

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
TIMES = st.integers(0, 2**60)
CAUSES = st.builds(Cause, st.sampled_from(CAUSE_CATEGORIES), WORDS, st.none() | st.sampled_from(sorted(CAUSE_KINDS)),
                   st.none() | WORDS, st.none() | TIMES)  # fmt: skip
VERDICTS = st.builds(Verdict, WORDS, st.none() | st.booleans(), st.none() | st.floats(0, 1), WORDS)
LABELS = st.builds(
    CocLabel, WORDS, TIMES, st.sampled_from(ORIGINS), st.none() | st.sampled_from(LONGITUDINAL_DECISIONS),
    st.none() | st.sampled_from(LATERAL_DECISIONS), st.none() | st.sampled_from(DIRECTIONS),
    st.lists(CAUSES, max_size=3).map(tuple), WORDS, st.lists(WORDS, max_size=3).map(tuple),
    st.lists(WORDS, max_size=3).map(tuple), WORDS, st.text(max_size=4), st.lists(VERDICTS, max_size=3).map(tuple),
    st.sampled_from(STATUSES),
)  # fmt: skip
ONE = CocLabel(
    "b", 2, "periodic", "yield", None, None, (Cause("critical_object", "a dog"),), "Yield.", (), (), "expert", ""
)


@given(st.lists(LABELS, max_size=5, unique_by=lambda label: (label.recording_id, label.t0_us)))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path: Path, labels):
    write_labels(tmp_path, labels)
    assert read_labels(tmp_path) == sorted(labels, key=lambda label: (label.recording_id, label.t0_us))
    assert read_labels(tmp_path, ["accepted"]) == [x for x in read_labels(tmp_path) if x.status == "accepted"]


def _spoil(path: Path, **changes) -> None:
    write_labels(path, [ONE])
    row = {**pq.read_table(labels_path(path)).to_pylist()[0], **changes}
    pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), labels_path(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decision_longitudinal": "yeild"}, "row 0: decision_longitudinal 'yeild' .* Did you mean yield"),
        ({"direction": "lefft"}, "direction 'lefft' .* Did you mean left"),
        ({"status": "acepted"}, "status 'acepted' .* Did you mean accepted"),
        ({"recording_id": None}, "recording_id is empty"),
        ({"causes": [{"category": "critical_objects", "text": "x"}]}, "cause category .* Did you mean critical_object"),
        (
            {"causes": [{"category": "critical_object", "text": "x", "kind": "cyclists"}]},
            "cause kind .* Did you mean cyclist",
        ),
        ({"causes": [{"category": "critical_object", "text": ""}]}, "a cause has no text"),
    ],
)
def test_unsound_rows_are_named(tmp_path: Path, changes, message):
    _spoil(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        read_labels(tmp_path)


def test_broken_files_are_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="is missing"):
        read_labels(tmp_path)
    write_labels(tmp_path, [ONE])
    whole = labels_path(tmp_path).read_bytes()
    labels_path(tmp_path).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated or damaged"):
        read_labels(tmp_path)
    pq.write_table(pa.table({"recording_id": ["a"]}), labels_path(tmp_path))
    with pytest.raises(UserError, match="lacks the column t0_us"):
        read_labels(tmp_path)
