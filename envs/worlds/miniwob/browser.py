"""Chromium without a screen, spoken to directly: one browser of a process, with a window for each environment.

The Chrome DevTools Protocol (https://chromedevtools.github.io/devtools-protocol/) over two pipes: messages are JSON
that ends with a zero byte, and each window has a session of its own. So a message costs well under a millisecond,
environments side by side share one browser (a window takes some 40 MB, a browser 450 MB), and a browser ends by itself
when its pipes close, however the process that started it has died.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from heed.envs.contract import UnknownEnvironmentError

BINARY_VARIABLE = "MINIWOB_CHROME_BINARY"
"""Where the browser is, if the user says so; MiniWoB++'s own name for it."""

BINARIES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)

ARGUMENTS = (
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--no-sandbox",  # which root in a container cannot have; what is shown are MiniWoB++'s own files
    "--disable-dev-shm-usage",  # a container's /dev/shm is often too small
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--allow-file-access-from-files",  # so that a page of files may read its own style sheets
    "--disable-breakpad",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--mute-audio",
)

ANSWER_SECONDS = 60.0
"""Of silence, after which the browser counts as hung."""

SCRIPT = Path(__file__).with_name("web_page.js")

KEYS = {"Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Backspace": ("Backspace", 8, "")}
"""Named keys: their code, their number, and what they type."""


LAUNCH = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
os.dup2(pipes[0], 3)
os.dup2(pipes[1], 4)
os.closerange(5, 256)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes the browser, which reads from 3 and writes to 4. (`preexec_fn` is not safe where there are threads.)"""


class BrowserError(RuntimeError):
    """The browser has died or hung, or a page's script failed. The message says which."""


class PageGoneError(BrowserError):
    """What ran in a page led away from it."""


def find_browser() -> str:
    """Return the path of the browser.

    Raises:
        UnknownEnvironmentError: if there is none.
    """
    told = os.environ.get(BINARY_VARIABLE)
    if told:
        if not Path(told).is_file():
            raise UnknownEnvironmentError(f"{BINARY_VARIABLE} is {told!r}, but there is no such file.")
        return told
    for place in BINARIES:
        found = shutil.which(place)
        if found:
            return found
    raise UnknownEnvironmentError(
        "Web pages need a browser, and no Chromium is found: install one (`apt-get install chromium` on Debian, `brew "
        f"install --cask chromium` on macOS), or say in {BINARY_VARIABLE} where a Chromium or Chrome is."
    )


class Window:
    """One window of a browser, which shows one page.

    Args:
        browser: that it belongs to.
        target: what the browser calls it.
        session: what messages to it are marked with.
    """

    def __init__(self, browser: Browser, target: str, session: str):
        self.browser = browser
        self.target = target
        self.session = session

    def show(self, url: str) -> None:
        """Load a page, and wait until it is there.

        Raises:
            BrowserError: if it does not load.
        """
        self.browser.loaded.discard(self.session)
        answer = self.browser.ask("Page.navigate", {"url": url}, self.session)
        if answer.get("errorText"):
            raise BrowserError(f"The browser cannot show {url}: {answer['errorText']}.")
        self.browser.wait_for_page(self.session)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a JavaScript function in the page, with `arguments`, and return what it returns (as JSON).

        Raises:
            PageGoneError: if the script led away from the page.
            BrowserError: if it failed.
        """
        expression = f"(function () {{ {script} }}).apply(null, {json.dumps(arguments)})"
        answer = self.browser.ask("Runtime.evaluate", {"expression": expression, "returnByValue": True}, self.session)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            told = details.get("exception", {}).get("description", details.get("text", ""))
            raise BrowserError(f"A script failed in the page: {told}")
        return answer["result"].get("value")

    def type(self, text: str) -> None:
        """Press the keys of `text` one after the other, where the page's focus is."""
        keys = []
        for character in text:
            number = ord(character.upper()) if character.isascii() and character.isalnum() else 0
            keys.append({"key": character, "windowsVirtualKeyCode": number, "text": character})
        self._press(keys)

    def press(self, name: str) -> None:
        """Press a key that has a name, such as "Enter"."""
        code, number, text = KEYS[name]
        key = {"key": name, "code": code, "windowsVirtualKeyCode": number}
        self._press([{**key, "text": text} if text else key])

    def _press(self, keys: Sequence[dict[str, Any]]) -> None:
        events = [
            (
                "Input.dispatchKeyEvent",
                {"type": kind, **(key if kind == "keyDown" else {**key, "text": ""})},
            )
            for key in keys
            for kind in ("keyDown", "keyUp")
        ]
        self.browser.ask_all(events, self.session)

    def picture(self, width: int, height: int) -> str:
        """Return the upper left part of the window as a PNG file in base 64."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        answer = self.browser.ask("Page.captureScreenshot", {"format": "png", "clip": clip}, self.session)
        return str(answer["data"])

    def close(self) -> None:
        """Close it, and the browser with its last one."""
        self.browser.close_window(self)


class Browser:
    """Chromium; `shared` is the one of this process.

    Args:
        headless: whether it shows nothing.

    Raises:
        UnknownEnvironmentError: if there is no browser.
        BrowserError: if it does not start.
    """

    _shared: ClassVar[dict[bool, Browser]] = {}

    def __init__(self, *, headless: bool = True):
        binary = find_browser()
        self.loaded: set[str] = set()
        """Sessions whose page has loaded since it was asked for."""
        self._windows: set[str] = set()
        self._last_message = 0
        self._received = b""
        self._error = ""
        self._profile = tempfile.TemporaryDirectory(prefix="heed-chromium-", ignore_cleanup_errors=True)
        command = [binary, *ARGUMENTS, f"--user-data-dir={self._profile.name}"]
        command += ["--headless=new"] if headless else []
        its_input, self._output = os.pipe()
        self._input, its_output = os.pipe()

        # A session of its own: Ctrl-C is for the training, which closes the browser itself.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCH, str(its_input), str(its_output), *command, "about:blank"],
            pass_fds=(its_input, its_output),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(its_input)
        os.close(its_output)
        self._script = SCRIPT.read_text(encoding="utf-8")
        self._owner = os.getpid()
        atexit.register(self.quit)
        try:
            self.ask("Browser.getVersion", {})
        except BaseException:
            self.quit()
            raise

    @classmethod
    def shared(cls, *, headless: bool = True) -> Browser:
        """Return this process's browser; one that has died, or came over from another process, is replaced."""
        browser = cls._shared.get(headless)
        if browser is None or not browser.is_alive():
            if browser is not None:
                browser.quit()
            browser = cls._shared[headless] = cls(headless=headless)
        return browser

    def is_alive(self) -> bool:
        """Say whether it runs and belongs to this process."""
        return not self._error and self._owner == os.getpid() and self._process.poll() is None

    def open_window(self) -> Window:
        """Open a window in which every page gets `web_page.js` before its own scripts."""
        target = self.ask("Target.createTarget", {"url": "about:blank", "newWindow": True})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self.ask("Page.enable", {}, session)
        self.ask("Page.addScriptToEvaluateOnNewDocument", {"source": self._script}, session)
        # Each page believes that it has the keyboard: without it, focus events reach one window only.
        self.ask("Emulation.setFocusEmulationEnabled", {"enabled": True}, session)
        self._windows.add(target)
        return Window(self, target, session)

    def close_window(self, window: Window) -> None:
        """Close a window, and the browser with the last; one that is closed already stays so."""
        if window.target not in self._windows:
            return
        self._windows.discard(window.target)
        if not self._windows:
            self.quit()
            return
        with contextlib.suppress(BrowserError):  # a browser that has died has closed it
            self.ask("Target.closeTarget", {"targetId": window.target})

    def ask(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Send a message and return its answer.

        Raises:
            PageGoneError: if the page went away before it answered.
            BrowserError: if the browser has died, does not answer, or refuses.
        """
        return self.ask_all([(method, parameters)], session)[0]

    def ask_all(
        self, messages: Sequence[tuple[str, dict[str, Any]]], session: str | None = None
    ) -> list[dict[str, Any]]:
        """Send messages without waiting in between, and return their answers.

        Args:
            messages: the method of each, and its parameters.
            session: of the window that they are for.

        Raises:
            PageGoneError, BrowserError: as `ask`, for the first that went wrong.
        """
        if not self.is_alive():
            raise BrowserError(self._error or "The browser has ended.")
        marked = {} if session is None else {"sessionId": session}
        waiting = {}
        for method, parameters in messages:
            self._last_message += 1
            waiting[self._last_message] = method
            message = {"id": self._last_message, "method": method, "params": parameters, **marked}
            self._send(json.dumps(message).encode() + b"\0")
        answers: dict[int, dict[str, Any]] = {}
        until = time.monotonic() + ANSWER_SECONDS
        while len(answers) < len(waiting):
            answer = self._next_message(until)
            if answer.get("id") in waiting:
                answers[answer["id"]] = answer
            else:
                self._note(answer)
        for number, method in waiting.items():
            if "error" in answers[number]:
                told = str(answers[number]["error"].get("message"))
                gone = any(words in told for words in ("navigated", "context was destroyed", "Cannot find context"))
                raise (PageGoneError if gone else BrowserError)(f"The browser refused {method}: {told}")
        return [answers[number]["result"] for number in waiting]

    def wait_for_page(self, session: str) -> None:
        """Wait until a page that was asked for has loaded."""
        until = time.monotonic() + ANSWER_SECONDS
        while session not in self.loaded:
            self._note(self._next_message(until))

    def quit(self) -> None:
        """End the browser."""
        atexit.unregister(self.quit)
        for headless, browser in list(self._shared.items()):
            if browser is self:
                del self._shared[headless]
        if self._owner != os.getpid():
            return
        self._windows.clear()
        if self._input < 0:
            return
        os.close(self._output)  # which ends it
        os.close(self._input)
        self._input = self._output = -1
        self._error = self._error or "The browser was closed."
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Page.loadEventFired":
            self.loaded.add(event["sessionId"])

    def _send(self, message: bytes) -> None:
        try:
            while message:
                message = message[os.write(self._output, message) :]
        except OSError:
            self._fail("The browser has ended.")

    def _next_message(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._input], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self._process.kill()  # nothing that it says later would be the answer to anything
                self._fail(f"The browser has not answered for {ANSWER_SECONDS:.0f} seconds.")
            part = os.read(self._input, 1 << 20)
            if not part:
                self._fail("The browser has ended.")
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told

    def _fail(self, error: str) -> None:
        self._error = error
        raise BrowserError(error)
