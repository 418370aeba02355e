"""Action texts that change from prompt to prompt, each with a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class ActionTexts:
    """Every action text that a prompt has named, each with a number: its place in `texts`."""

    def __init__(self, texts: Sequence[str] = ()):
        self.texts = list(texts)
        self._numbers = {text: number for number, text in enumerate(self.texts)}
        self._readable: set[str] = set()

    def numbers_of(self, texts: Sequence[str]) -> list[int]:
        """Return the numbers of texts; one that is new gets the next."""
        numbers = []
        for text in texts:
            number = self._numbers.setdefault(text, len(self.texts))
            if number == len(self.texts):
                self.texts.append(text)
            numbers.append(number)
        return numbers

    def require(self, texts: Sequence[str], require_one: Callable[[str], None]) -> None:
        """Check texts, each once for good.

        Args:
            texts: of the actions of one prompt.
            require_one: raises what is wrong with one.
        """
        for text in texts:
            if text not in self._readable:
                require_one(text)
                self._readable.add(text)
