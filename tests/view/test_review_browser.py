"""The review page in a real headless Chromium, driven through ChromeDriver by the plain WebDriver protocol.

Needs `chromium` and `chromedriver` on the PATH (`make browser` installs them from Debian).
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from review_drives import serving, write_set

from causaldrive.label.store import read_labels
from causaldrive.view.review import ReviewConfig, open_server

pytestmark = pytest.mark.browser
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--window-size=1440,900"]  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """As much of WebDriver as the page needs: open, look, type, press."""

    def __init__(self, port: int, profile: Path):
        self._base = f"http://127.0.0.1:{port}/session"
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        answer = self._send("", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
        self._base += f"/{answer['sessionId']}"

    def _send(self, path: str, body: Any = None, method: str = "POST") -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())["value"]

    def open(self, url: str) -> None:
        self._send("/url", {"url": "about:blank"})
        self._send("/url", {"url": url})

    def run(self, script: str) -> Any:
        return self._send("/execute/sync", {"script": f"return {script}", "args": []})

    def press(self, keys: str) -> None:
        """Keys to the page itself, as a person's keyboard sends them."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def type(self, selector: str, text: str, clear: bool = False) -> None:
        found = self._send("/element", {"using": "css selector", "value": selector})[ELEMENT]
        if clear:
            self._send(f"/element/{found}/clear")
        self._send(f"/element/{found}/value", {"text": text})

    def until(self, script: str) -> Any:
        """Wait for a condition. Fails with what the page says."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.05)
        raise AssertionError(f"{script} never came true; the page says {self.run('document.body.innerText')!r}")

    def screenshot(self) -> bytes:
        return base64.b64decode(self._send("/screenshot", method="GET"))

    def close(self) -> None:
        self._send("", method="DELETE")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert shutil.which("chromium") and shutil.which("chromedriver"), "no chromium on the PATH: run `make browser`"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    opened = Browser(port, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
    driver.terminate()
    driver.wait()


@pytest.fixture
def page(browser, tmp_path):
    labels = write_set(tmp_path)
    for client in serving(open_server(ReviewConfig(labels, annotator="anna"))):
        browser.open(client.url)
        browser.until("detail && document.querySelectorAll('#list li').length == 3")
        yield browser, labels


def test_a_label_is_shown_played_and_accepted_by_key(page):
    browser, labels = page
    browser.until(
        "document.querySelector('#frame').naturalWidth == 64 && document.querySelector('#bev').naturalWidth > 64"
    )
    assert browser.run("document.querySelectorAll('#motion polyline').length") == 3
    assert "Keep the gap" in browser.run("document.querySelector('#trace').value")
    browser.press("\ue014\ue014")  # right arrow, twice
    assert browser.run("document.querySelector('#clock').textContent") == "+0.2 s"
    browser.press(" ")
    browser.until("tick > 4")
    browser.run(
        "Object.defineProperty(document.querySelector('#bev'), 'complete', {get: () => false, configurable: true})"
    )
    late = browser.run("tick")
    time.sleep(0.6)
    assert browser.run("tick") == late, "the clip does not run ahead of the bird's-eye view"
    browser.run("delete document.querySelector('#bev').complete")
    browser.until(f"tick != {late}")
    browser.press("a")
    browser.until("detail.index == 1 && document.querySelector('#message').textContent.includes('accepted')")
    assert [row["by"] for row in browser.run("over.rows")] == ["anna", None, None]
    browser.press("r")
    browser.until("detail.index == 2")
    browser.press("u")
    browser.until("detail.index == 1 && !detail.by")
    assert [x.status for x in read_labels(labels)] == ["accepted"] * 3
    assert len(browser.screenshot()) > 20_000


def test_an_edit_is_composed_and_saved(page):
    browser, labels = page
    browser.run("document.querySelector('#auto').click()")
    browser.type("#decision_longitudinal", "yield")
    browser.until("document.querySelector('#trace').value.startsWith('Yield and keep the lane')")
    browser.type(".cause input", "a person is crossing", clear=True)
    browser.until("document.querySelector('#trace').value.includes('a person is crossing')")
    assert browser.run("document.querySelector('#accept span').textContent") == "Save edit"
    browser.press("\ue00c")  # escape
    browser.press("a")
    browser.until("detail.index == 1")
    saved = read_labels(labels)[0]
    assert saved.status == "edited" and saved.trace == "Yield and keep the lane because a person is crossing."
    assert saved.causes[0].text == "a person is crossing" and saved.decision_longitudinal == "yield"


def test_unsaved_edits_survive_navigation_and_reload(page):
    browser, labels = page
    browser.type("#trace", " And more.")
    browser.press("\ue00c")
    browser.press("n")
    browser.until("detail.index == 1")
    assert "And more" not in browser.run("document.querySelector('#trace').value")
    browser.run("location.reload()")
    browser.until("typeof detail == 'object' && detail && detail.index == 1")
    assert browser.run("document.querySelectorAll('#list li.draft').length") == 1
    browser.press("p")
    browser.until("detail.index == 0 && document.querySelector('#trace').value.endsWith('And more.')")
    assert read_labels(labels)[0].trace.endswith("slowing."), "nothing is saved before it is saved"


def test_two_stages_in_the_page(browser, tmp_path):
    labels = write_set(tmp_path)
    for client in serving(open_server(ReviewConfig(labels, annotator="anna", two_stage=True))):
        browser.open(client.url)
        browser.until("detail && !detail.open")
        hidden = browser.run("document.body.innerText")
        assert "Keep the gap" not in hidden and "lead obstacle" not in hidden and "Show the future" in hidden
        assert not browser.run(
            "document.querySelector('#trace').offsetParent || document.querySelector('#decision').offsetParent"
        )
        browser.press("\ue014\ue014")
        assert browser.run("tick") == 0, "the clip ends at t0"
        browser.press("+")
        browser.type(".cause input", "a car ahead is slowing")
        browser.type(".cause select", "lead vehicle")  # letter by letter: none may be taken for a key
        browser.press("\ue00c")
        browser.press("a")
        browser.until("detail.open && tick > 3")
        browser.until("document.querySelector('#trace').value.includes('a car ahead is slowing')")
        browser.press("a")
        browser.until("detail.index == 1")
        assert read_labels(labels)[0].causes[0].kind == "lead_vehicle"
