import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sft_drives import HEIGHT, T0_US, WIDTH, drive, label, labels_of, write_drive

from causaldrive.ground.errors import UserError
from causaldrive.label.store import write_labels
from causaldrive.sft.dataset import open_samples, validation_recordings
from causaldrive.student.config import FrameSettings

FRAMES = FrameSettings(image_height_px=HEIGHT, image_width_px=WIDTH)


def test_one_sample_per_accepted_label_with_the_frames_of_its_moment(few_drives, tmp_path):
    data = open_samples(*few_drives, FRAMES, tmp_path)
    assert len(data.train) == 8 and len(data.validation) == 0 and not data.left_out.counts
    for index, sample in enumerate(data.train.samples(range(8))):
        number = int(sample.recording_id[-3:])
        assert sample.frames is not None and sample.frames.shape == (1, 2, HEIGHT, WIDTH, 3)
        red, _, blue = sample.frames.reshape(-1, 3).mean(0)
        assert (red > blue) == (number % 2 == 0)
        assert data.train.traces([index])[0].startswith("Stop" if number % 2 == 0 else "Keep")


def test_frames_are_decoded_once_and_shared_by_moments_that_see_the_same_one(few_drives, tmp_path, monkeypatch):
    data = open_samples(*few_drives, FRAMES, tmp_path)
    assert data.train.cache.pixels.nbytes == 4 * 3 * HEIGHT * WIDTH * 3  # t0s 0.4 s apart share a frame
    monkeypatch.setattr("causaldrive.sft.frames.read_frames", lambda *_: pytest.fail("decoded again"))
    again = open_samples(*few_drives, FRAMES, tmp_path)
    assert np.array_equal(again.train.cache.pixels, data.train.cache.pixels)


def test_of_two_runs_that_start_together_one_decodes(few_drives, tmp_path, monkeypatch):
    from causaldrive.sft import frames

    read, asked = frames.read_frames, []
    monkeypatch.setattr(frames, "read_frames", lambda *a: (asked.append(a[0].name), time.sleep(0.05), read(*a))[2])
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: open_samples(*few_drives, FRAMES, tmp_path), range(2))
    assert len(asked) == len(set(asked)) and len(first.train) == len(second.train)
    assert np.array_equal(first.train.cache.pixels, second.train.cache.pixels)


def test_another_image_size_is_another_cache(few_drives, tmp_path):
    open_samples(*few_drives, FRAMES, tmp_path)
    small = dataclasses.replace(FRAMES, image_height_px=32, image_width_px=32)
    data = open_samples(*few_drives, small, tmp_path)
    frames = data.train.samples([0])[0].frames
    assert frames is not None and frames.shape == (1, 2, 32, 32, 3)
    assert len(list(tmp_path.glob("frames-*"))) == 2


def test_rejected_labels_and_broken_recordings_are_counted_and_the_rest_goes_on(tmp_path):
    for number in range(4):
        write_drive(tmp_path / "recordings", number)
    video = tmp_path / "recordings" / "drive-001" / "front.mp4"
    video.write_bytes(video.read_bytes()[:300])
    rows = [
        *labels_of(2),
        label(2, T0_US[0], "rejected"),
        label(2, T0_US[1], "edited"),
        label(3, 9_000_000),
        label(7, 1),
    ]
    write_labels(tmp_path / "labels.parquet", rows)
    data = open_samples(tmp_path / "recordings", tmp_path / "labels.parquet", FRAMES, tmp_path / "cache")
    assert sorted(item.name for item in data.train.items) == [
        "drive-000@2000000", "drive-000@2400000", "drive-002@2400000",
    ]  # fmt: skip
    counts = data.left_out.counts
    assert counts["label rejected"] == 1 and counts["recording that cannot be read"] == 1
    assert counts["label without a whole sample"] == 1  # 0.5 s before the end there is no future
    assert counts["label of a recording that is not there"] == 3
    assert any("drive-001" in sentence for sentence in data.left_out.sentences)


def test_a_video_that_breaks_in_the_middle_takes_only_its_own_labels(few_drives, tmp_path, monkeypatch):
    from causaldrive.sft import frames

    read = frames.read_frames

    def failing(directory, camera, t_us):
        if directory.name == "drive-002":
            raise UserError(f"{directory / camera}.mp4 cannot be decoded")
        return read(directory, camera, t_us)

    monkeypatch.setattr(frames, "read_frames", failing)
    data = open_samples(*few_drives, FRAMES, tmp_path)
    assert len(data.train) == 6
    assert data.left_out.counts["recording with a broken video"] == 1
    assert data.left_out.counts["label of a recording with a broken video"] == 2


@pytest.mark.parametrize("seed", [1_000_000, 2_000_003, 9_000_000])
def test_held_out_recordings_are_refused(tmp_path, seed):
    write_drive(tmp_path / "recordings", 0, seed=5)
    write_drive(tmp_path / "recordings", 1, seed=seed)
    write_labels(tmp_path / "labels.parquet", labels_of(2))
    with pytest.raises(UserError, match=f"drive-001: seed {seed} is of the .* split"):
        open_samples(tmp_path / "recordings", tmp_path / "labels.parquet", FRAMES, tmp_path / "cache")


def test_no_sample_left_says_why(few_drives, tmp_path):
    write_labels(tmp_path / "labels.parquet", [label(0, T0_US[0], "rejected")])
    with pytest.raises(UserError, match=r"no label gives a training sample on .*, 1 x label rejected; at"):
        open_samples(few_drives[0], tmp_path / "labels.parquet", FRAMES, tmp_path)


def test_a_damaged_cache_is_refused(few_drives, tmp_path):
    open_samples(*few_drives, FRAMES, tmp_path)
    pixels = next(tmp_path.rglob("frames.bin"))
    pixels.write_bytes(pixels.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"frames\.bin holds .* bytes, .* expected; delete"):
        open_samples(*few_drives, FRAMES, tmp_path)


def test_every_twelfth_recording_is_kept_for_validation_and_never_trained_on(drives, tmp_path):
    data = open_samples(*drives, FRAMES, tmp_path)
    train, held = ({item.sample.recording_id for item in part.items} for part in (data.train, data.validation))
    assert len(held) == 1 and len(train) == 12 and not train & held
    ids = [drive(number).recording_id for number in range(240)]
    assert len(validation_recordings(ids)) == 20
    assert len({int(name[-3:]) % 12 for name in validation_recordings(ids)}) > 4  # not in step with the families
