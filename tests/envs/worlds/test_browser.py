"""The browser is found, or its absence told; a hung or dead one is told, too. No browser is started here."""

import stat
from pathlib import Path

import pytest

from heed.envs.contract import UnknownEnvironmentError
from heed.envs.worlds.miniwob import browser
from heed.envs.worlds.miniwob.browser import Browser, BrowserError, find_browser


def program(path: Path, lines: str) -> str:
    """Write a program of the shell's."""
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_missing_browser_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.delenv("MINIWOB_CHROME_BINARY", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(browser, "BINARIES", ("chromium",))
    with pytest.raises(UnknownEnvironmentError, match="apt-get install chromium"):
        find_browser()


def test_a_browser_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named with what it says."""
    monkeypatch.setenv("MINIWOB_CHROME_BINARY", "/nowhere/chromium")
    with pytest.raises(UnknownEnvironmentError, match="MINIWOB_CHROME_BINARY is '/nowhere/chromium'"):
        find_browser()


def test_a_browser_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the path."""
    monkeypatch.delenv("MINIWOB_CHROME_BINARY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    chrome = program(tmp_path / "google-chrome", "exit 0")
    assert find_browser() == chrome


def test_a_browser_that_ends_at_once_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rather than waited for."""
    monkeypatch.setenv("MINIWOB_CHROME_BINARY", program(tmp_path / "chromium", "exit 1"))
    with pytest.raises(BrowserError, match="has ended"):
        Browser()


def test_a_browser_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After the time that it has to answer."""
    monkeypatch.setenv("MINIWOB_CHROME_BINARY", program(tmp_path / "chromium", "exec sleep 60"))
    monkeypatch.setattr(browser, "ANSWER_SECONDS", 0.2)
    with pytest.raises(BrowserError, match="not answered"):
        Browser()


def test_messages_are_answered_over_the_pipes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A browser of two lines: it reads from 3 and answers on 4, an event before the answer."""
    answers = r'printf "%s\0" "{\"method\":\"Some.event\"}" "{\"id\":1,\"result\":{\"product\":\"toy\"}}" >&4; cat <&3'
    monkeypatch.setenv("MINIWOB_CHROME_BINARY", program(tmp_path / "chromium", answers))
    toy = Browser()
    assert toy.is_alive()
    toy.quit()
    assert not toy.is_alive()
    with pytest.raises(BrowserError, match="closed"):
        toy.ask("Browser.getVersion", {})
