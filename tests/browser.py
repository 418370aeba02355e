"""A real browser for the tests of pages: Chromium without a window, told what to do through a pipe.

It speaks the Chrome DevTools Protocol (https://chromedevtools.github.io/devtools-protocol/), JSON messages that end in
a zero byte, so nothing needs to be installed but the browser itself.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which does not work as root, as in many containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
LAUNCHER = """
import fcntl, os, sys
# The browser reads from its file 3 and writes to its file 4. Either may be taken by the other now.
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
SECONDS = 30.0
"""What a page may take to answer, on a busy machine."""


def find_browser() -> str | None:
    """Return where Chromium is, or None where it is not."""
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


@dataclass
class Page:
    """One page in the browser, and what went wrong on it."""

    session: str
    browser: Browser
    errors: list[str] = field(default_factory=list)
    """What was written to the console as an error, and exceptions that nobody caught."""
    requests: list[str] = field(default_factory=list)
    """Addresses that the page asked for."""

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of the protocol on this page."""
        return self.browser.call(method, self.session, **arguments)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression, as JSON has it. The page's security policy does not bind it."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, part: str) -> str:
        """Return the text of one part of the step viewer."""
        text: str = self.evaluate(f"document.querySelector('[data-part=\"{part}\"]').textContent")
        return text

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of an element."""
        place = self.evaluate(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            " one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", buttons=1, clickCount=1
            )

    def press(self, key: str) -> None:
        """Press and release a key."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a picture of the page, the part out of sight included."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))


class Browser:
    """A running Chromium.

    Args:
        executable: where it is.
        folder: an empty one for its files.
    """

    def __init__(self, executable: str, folder: Path):
        read_there, write_here = os.pipe()
        read_here, write_there = os.pipe()
        command = [sys.executable, "-c", LAUNCHER, str(read_there), str(write_there), executable, *FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(read_there, write_there),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_there)
        os.close(write_there)
        self._read, self._write = read_here, write_here
        self._waiting = b""
        self._number = 0
        self._pages: dict[str, Page] = {}
        self._loaded: set[str] = set()

    @contextlib.contextmanager
    def open(
        self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False, at: str = ""
    ) -> Iterator[Page]:
        """Open a page of this machine.

        Args:
            path: of the file.
            width: of the window, in pixels; below 600 the page is told that it is on a phone.
            height: of the window.
            dark: whether whoever looks at it likes dark pages.
            at: what stands behind the "#" of its address.
        """
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(session, self)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = "dark" if dark else "light"
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.call("Page.navigate", url=path.resolve().as_uri() + (f"#{at}" if at else ""))
        self._wait_for(session)
        yield page
        self.call("Target.closeTarget", targetId=target)

    def call(self, method: str, session: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Call a method of the protocol and return what it answers.

        Raises:
            RuntimeError: if the browser refuses.
            TimeoutError: if it does not answer.
        """
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": arguments}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(f"answer to {method}")
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            self.call("Browser.close")
        os.close(self._read)
        os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_for(self, session: str) -> None:
        while session not in self._loaded:
            self._next("page")

    def _next(self, what: str) -> dict[str, Any]:
        """Return the next message, after noting what it says of a page."""
        end = time.monotonic() + SECONDS
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self._read, 2**20) if ready else b""
            if not part:
                raise TimeoutError(f"The browser gave no {what}.")
            self._waiting += part
        first, _, self._waiting = self._waiting.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        page = self._pages.get(message.get("sessionId", ""))
        if page is None:
            return
        method, told = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded.add(page.session)
        elif method == "Network.requestWillBeSent":
            page.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            page.errors.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            page.errors.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            page.errors.append(told["entry"]["text"])
