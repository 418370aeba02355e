"""MiniWoB++ in words: small tasks on real web pages, in a real browser.

Shi et al. 2017 (World of Bits, ICML) and Liu et al. 2018 (arXiv 1802.08802), as the package `miniwob` ships them. The
instruction is the task's utterance, the observation the page in words, and the actions are what can be done on the page
now (`web_words.py`, `web_actions.py`). Importing this module lets the library's own ids, such as
`miniwob/click-test-2-v1`, make a `WebTask`.

What differs from the library's own environment, so that the same seed and actions give the same episode however fast
the agent thinks:

- Time in a page stands still but for one second after each action (`seconds_per_step`).
- No clock ends an episode; `max_steps` does.
- The reward is the one that does not shrink with time.
- No animation by style sheets; the keyboard's focus does not last from one episode to the next.
- Tasks whose state is known to outlast an episode are loaded anew for each.
"""

from __future__ import annotations

import base64
import functools
import io
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium
import miniwob
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from miniwob.constants import FLIGHT_TASK_HEIGHT, FLIGHT_TASK_WIDTH, TASK_HEIGHT, TASK_WIDTH
from miniwob.fields import get_field_extractor
from numpy.typing import NDArray
from PIL import Image

from heed.envs.contract import ChangingActions, LanguageObservation, language_space
from heed.envs.worlds.miniwob.actions import WebAction, actions_on, typed_texts, words_to_type
from heed.envs.worlds.miniwob.browser import Browser, PageGoneError, Window
from heed.envs.worlds.miniwob.words import MAX_WORDS_LENGTH, describe, things_on

NAMESPACE = "miniwob/"

RELOADED = frozenset(("email-inbox-noscroll", "form-sequence-3", "use-autocomplete", "use-autocomplete-nodelay"))
"""Tasks whose state outlasts an episode, beside those that the library marks as nondeterministic."""

PAGES = Path(miniwob.__file__).parent / "html"

REFRESHED = 500
"""Episodes after which any page is loaded anew, so that what it does not let go of stays little."""

LOADING_SECONDS = 10.0
"""Of real time, which a page that loads parts of itself may take."""

LEFT_THE_PAGE = -1.0
"""The reward of an action that leads away from the page: what the library gives for a failure."""


class WebTask(gymnasium.Env[Any, Any]):
    """A MiniWoB++ task that keeps the language contract.

    Args:
        task: the library's class, as `module:Class`; registered ids give it.
        most: of how many actions there is a choice at most.
        max_steps: of an episode.
        typing: "fields": what the task knows the instruction to name can be typed (what stands in quotes, or each word,
            where it names nothing); "words": what stands in quotes, and each word.
        wait: whether one may do nothing, for tasks that want it.
        image: whether observations have a picture of the page, `image` (210, 160, 3), which costs some 30 ms a step.
        seconds_per_step: that pass in the page after each action and before the first.
        success_reward: which reward is a success. Some tasks pay less for a part, which is none.
        reload: whether the page is loaded anew for each episode (75 ms).
        data_mode: "train" or "test", for the tasks that part their instructions.
        max_length: characters of an observation.
        render_mode: "rgb_array", or "human" to watch the browser.

    Raises:
        UnknownEnvironmentError: if there is no browser.
        ValueError: if `most`, `max_steps` or `typing` is none of those.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 2}  # noqa: RUF012 - Gymnasium's

    def __init__(
        self,
        task: str,
        *,
        most: int = 64,
        max_steps: int = 10,
        typing: str = "fields",
        wait: bool = False,
        image: bool = False,
        seconds_per_step: float = 1.0,
        success_reward: float = 1.0,
        reload: bool = False,
        data_mode: str = "train",
        max_length: int = MAX_WORDS_LENGTH,
        render_mode: str | None = None,
    ):
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, but is {max_steps}.")
        if typing not in ("fields", "words"):
            raise ValueError(f'typing must be "fields" or "words", but is {typing!r}.')
        module, _, name = task.partition(":")
        self.subdomain: str = getattr(import_module(module), name).subdomain
        self.max_steps = max_steps
        self.render_mode = render_mode
        self._typing = typing
        self._wait = wait
        self._milliseconds = 1000 * seconds_per_step
        self._success_reward = success_reward
        self._reload = reload
        self._data_mode = data_mode
        self._max_length = max_length
        is_flight = self.subdomain.startswith("flight.")
        self._size = (FLIGHT_TASK_WIDTH, FLIGHT_TASK_HEIGHT) if is_flight else (TASK_WIDTH, TASK_HEIGHT)
        self._image = image
        others: dict[str, spaces.Space[Any]] = {}
        if image:
            others["image"] = spaces.Box(0, 255, (self._size[1], self._size[0], 3), np.uint8)
        self.observation_space = language_space(changing_actions=True, **others)
        self.action_space = ChangingActions(most)
        self._most = most
        self._actions: tuple[WebAction, ...] = ()
        self._texts: tuple[str, ...] = ()
        self._instruction = ""
        self._steps = 0
        self._episodes = 0
        """On the page since it was loaded."""
        self._window: Window | None = None
        self._open()  # now, so that a missing browser is told when the environment is made

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[LanguageObservation, dict[str, Any]]:
        """Begin an episode on the page of this seed; `options["data_mode"]` as in the constructor."""
        super().reset(seed=seed)
        page_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._data_mode = (options or {}).get("data_mode", self._data_mode)
        if self._window is None or not self._window.browser.is_alive():
            self._open()
        elif self._reload or self._episodes >= REFRESHED:
            self._load()
        self._episodes += 1
        page = self._begin(page_seed)
        if page is None:  # the last episode led away from the page
            self._load()
            page = self._begin(page_seed)
        if page is None:
            raise RuntimeError(f"The page of miniwob's {self.subdomain} does not load.")
        self._steps = 0
        self._instruction = " ".join(str(page["utterance"]).split()) or "do what the page asks"
        self._texts = self._typed(page["fields"])
        return self._words(page), {}

    def step(self, action: int) -> tuple[LanguageObservation, float, bool, bool, dict[str, Any]]:
        """Do the action of this number on the page; `info["is_success"]` is set on every step.

        Raises:
            ValueError: if there are not so many actions now.
        """
        if not 0 <= int(action) < len(self._actions):
            raise ValueError(f"There are {len(self._actions)} actions on this page, but the action is {action}.")
        page = self._done(self._actions[int(action)])
        self._steps += 1
        if page is None:
            self._actions = (WebAction(text="wait", what="wait"),)
            return self._observation("another page"), LEFT_THE_PAGE, True, False, {"is_success": False}
        terminated = bool(page["done"])
        reward = float(page["reward"]) if terminated else 0.0
        is_success = terminated and reward >= self._success_reward
        truncated = not terminated and self._steps >= self.max_steps
        return self._words(page), reward, terminated, truncated, {"is_success": is_success}

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture of the page (210, 160, 3), where that is the render mode."""
        return self._picture() if self.render_mode == "rgb_array" and self._window is not None else None

    def close(self) -> None:
        """Close the window, and with the last one the browser."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _open(self) -> None:
        if self._window is not None:
            self._window.close()
        self._window = Browser.shared(headless=self.render_mode != "human").open_window()
        self._load()

    def _load(self) -> None:
        self._episodes = 0
        self._shown.show(_url_of(self.subdomain))
        # What a page does once it is loaded, and sets a timer for.
        self._shown.run(f"heed.settle(); heed.advance({self._milliseconds});")

    @property
    def _shown(self) -> Window:
        assert self._window is not None, "reset() opens it"
        return self._window

    def _begin(self, page_seed: int) -> dict[str, Any] | None:
        """Begin the task and return its page, or None where the window shows another."""
        return self._page(
            "if (typeof core === 'undefined') return null; heed.begin(arguments[0], arguments[1]); "
            f"if (!heed.ready()) return {{loading: true}}; heed.advance({self._milliseconds});",
            page_seed,
            self._data_mode,
            loading="heed.advance(20); if (!heed.ready()) return {loading: true};",
        )

    def _done(self, action: WebAction) -> dict[str, Any] | None:
        """Do an action, let time pass, and return the page; None where the page has gone."""
        advance = f"heed.advance({self._milliseconds});"
        if action.what in ("click", "choose"):
            return self._page(
                f"heed.act(arguments[0], arguments[1], arguments[2]); {advance}",
                action.what,
                action.ref,
                action.index,
            )
        if action.what == "type":
            self._shown.run("heed.act('mark', arguments[0]);", action.ref)
            self._shown.type(action.typed)
        elif action.what == "press":
            self._shown.press(action.typed)
        return self._page(f"if (typeof heed !== 'undefined') {advance}")

    def _page(self, before: str, *arguments: Any, loading: str = "") -> dict[str, Any] | None:
        """Run `before` in the page and return what it then shows; while that loads, run `loading`."""
        look = "return typeof heed === 'undefined' ? null : heed.observe();"
        until = time.monotonic() + LOADING_SECONDS
        try:
            page: dict[str, Any] | None = self._shown.run(f"{before} {look}", *arguments)
            while page is not None and page.get("loading"):  # pictures, and frames that were led elsewhere
                if time.monotonic() > until:
                    return None
                time.sleep(0.002)
                page = self._shown.run(f"{loading} {look}")
        except PageGoneError:
            return None
        return page

    def _typed(self, fields: list[list[Any]] | None) -> tuple[str, ...]:
        if self._typing == "words":
            return words_to_type(self._instruction)
        if fields is not None:  # the page names them itself
            return typed_texts(self._instruction, [(name, str(value)) for name, value in fields])
        try:
            return typed_texts(self._instruction, get_field_extractor(self.subdomain)(self._instruction))
        except (KeyError, ValueError):  # the library does not know this task's, or this sentence
            return typed_texts(self._instruction, [])

    def _words(self, page: dict[str, Any]) -> LanguageObservation:
        things = things_on(page["dom"])
        self._actions = actions_on(things, self._instruction, self._texts, most=self._most, wait=self._wait)
        return self._observation(describe(things, self._max_length))

    def _observation(self, words: str) -> LanguageObservation:
        observation: dict[str, Any] = {
            "instruction": self._instruction,
            "observation": words,
            "actions": tuple(action.text for action in self._actions),
        }
        if self._image:
            observation["image"] = self._picture()
        return observation  # type: ignore[return-value]

    def _picture(self) -> NDArray[np.uint8]:
        """Return the page's own part of the window, shape (height, width, 3)."""
        width, height = self._size
        with Image.open(io.BytesIO(base64.b64decode(self._shown.picture(width, height)))) as picture:
            return np.asarray(picture.convert("RGB").resize((width, height)), dtype=np.uint8)


def _url_of(subdomain: str) -> str:
    if subdomain.startswith("flight."):  # these load parts of themselves, which a file may not
        return f"{_server()}{subdomain.replace('.', '/')}/wrapper.html"
    return (PAGES / "miniwob" / f"{subdomain}.html").as_uri()


@functools.lru_cache(maxsize=1)
def _server() -> str:
    """Start the server of the library's pages, once in a process, and return its address."""
    server = ThreadingHTTPServer(("localhost", 0), functools.partial(_QuietHandler, directory=str(PAGES)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://localhost:{server.server_address[1]}/"


class _QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and tells nobody."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Keep silent."""


def register() -> None:
    """Let the library's ids make a `WebTask` each."""
    if not any(env_id.startswith(NAMESPACE) for env_id in gymnasium.registry):
        miniwob.register_miniwob_envs()
    for env_id, spec in list(gymnasium.registry.items()):
        if env_id.startswith(NAMESPACE) and isinstance(spec.entry_point, str) and __name__ not in spec.entry_point:
            lasting = spec.nondeterministic or spec.name in RELOADED
            kwargs = {"task": spec.entry_point, "reload": lasting}
            gymnasium.registry[env_id] = EnvSpec(id=env_id, entry_point=f"{__name__}:WebTask", kwargs=kwargs)


register()
