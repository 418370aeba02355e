"""From prompts to scenes, and how alike their words are, against a scene worked out by hand."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from heed.policies.words import building
from heed.policies.words.building import SceneBuilder
from heed.policies.words.scene import Scene, likeness_of
from heed.policies.words.vectors import MEANING, WIDTH, WordVectors

MEANINGS: dict[str, list[float]] = {"take": [1, 0, 0], "lamp": [0, 1, 0], "light": [0, 0.8, 0.6], "door": [0, 0, 1]}
NO_ACTIONS = np.zeros((1, 0), dtype=np.int64)


class Spelt(WordVectors):
    """Vectors of four words: meanings as above, and nobody is spelled like anybody else."""

    def of(self, words: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors = np.zeros((len(words), WIDTH), dtype=np.float32)
        for row, word in enumerate(words):
            vectors[row, :3] = MEANINGS.get(word, [0, 0, 0])
            vectors[row, MEANING + (list(MEANINGS).index(word) if word in MEANINGS else 50 + row)] = 1
        return vectors

    def of_phrases(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        """Of length 1: the sum of their words."""
        sums = np.array([self.of(phrase.split())[:, :MEANING].sum(axis=0) for phrase in phrases])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        units: npt.NDArray[np.float32] = (sums / np.maximum(lengths, 1e-6)).astype(np.float32)
        return units


@pytest.fixture
def builder() -> SceneBuilder:
    return SceneBuilder(Spelt(np.zeros(MEANING, dtype=np.float32)))


def scene_of(builder: SceneBuilder, prompts: Sequence[str], actions: Sequence[str] = ()) -> Scene:
    listed = np.tile(np.arange(len(actions), dtype=np.int64), (len(prompts), 1))
    return builder.build(builder.split(prompts), actions, listed)


def test_words_stand_where_they_stand_in_the_prompt(builder: SceneBuilder) -> None:
    scene = scene_of(builder, ["take lamp\nlight door; lamp", "door\n"], ["take door", "lamp"])
    assert scene.words.tolist() == [[0, 1, 2, 3, 1], [3, 0, 0, 0, 0]]
    assert scene.real.tolist() == [[True] * 5, [True, False, False, False, False]]
    assert scene.part[0].tolist() == [0, 0, 1, 1, 1]
    assert scene.segment[0].tolist() == [0, 0, 1, 1, 2]
    assert scene.place[0].tolist() == [0, 1, 0, 1, 0]
    assert scene.action_words.tolist() == [[0, 3], [1, 0]]
    assert scene.action_real.tolist() == [[True, True], [True, False]]
    assert len(scene.vectors) == 4
    (split,) = builder.split(["take lamp\nlight door; lamp"])
    assert split.starts.tolist() == [0, 5, 10, 16, 22]


def test_actions_that_differ_from_prompt_to_prompt(builder: SceneBuilder) -> None:
    prompts = builder.split(["take\nlamp", "take\ndoor"])
    scene = builder.build(prompts, ["a", "take lamp", "b", "take door"], np.array([[3, 1], [1, -1]]))
    assert scene.listed.tolist() == [[1, 0], [0, -1]]
    assert scene.action_words.tolist() == [[0, 1], [0, 2]], "only those that are listed"


def test_nothing_told_and_nothing_seen(builder: SceneBuilder) -> None:
    scene = scene_of(builder, ["", "\n", "take\n", "\nlamp"], [" "])
    assert scene.real.sum(dim=1).tolist() == [1, 1, 1, 2]
    assert scene.action_real.tolist() == [[True]], "where there are no words one stands for them"
    likeness = likeness_of(scene)
    assert all(bool(part.isfinite().all()) for part in likeness)


def test_likeness_by_hand(builder: SceneBuilder) -> None:
    scene = scene_of(builder, ["take lamp\nlight; door"], ["take light"])
    likeness = likeness_of(scene)
    # lamp is alike to light by 0.8, and to nothing else that is seen; spellings are all different.
    nearest, to_the_fourth, spelt, _, wanted, wants, near, standard = likeness.word[0].T
    torch.testing.assert_close(nearest, torch.tensor([0, 0.8, 0.8, 0]))
    torch.testing.assert_close(to_the_fourth, nearest**4)
    assert spelt.tolist() == [0] * 4
    # Softmax of 15 times the likeness over the two words of the other part.
    sharp = float(torch.tensor([12.0, 0.0]).softmax(dim=0)[0])
    torch.testing.assert_close(wants, torch.tensor([0.5, sharp, sharp, 0.5]))
    torch.testing.assert_close(wanted, torch.tensor([0.5, sharp, sharp, 0.5]), atol=1e-4, rtol=0)
    # "take lamp" is (1, 1, 0) / sqrt(2): its cosine with light is 0.8 / sqrt(2), with door 0.
    cosine = 0.8 / 2**0.5
    torch.testing.assert_close(near, torch.tensor([0, 0, cosine, 0]))
    # The mean of both is half of it, so is the deviation, to which 0.05 squared is added.
    deviations = (cosine / 2) / ((cosine / 2) ** 2 + 0.05**2) ** 0.5
    torch.testing.assert_close(standard, torch.tensor([0, 0, deviations, -deviations]))
    # Alike by 0.8 is surely bound; take is so by the action.
    torch.testing.assert_close(likeness.bound, torch.tensor([[1.0, 1, 1, 0]]))
    torch.testing.assert_close(likeness.action_bound, torch.tensor([[[1.0, 1]]]))
    means = [[0, 0, 0, 0], [0, 0, 0.8, 0], [0, 0.8, 0, 0.6], [0, 0, 0.6, 0]]
    torch.testing.assert_close(likeness.pair[0, 0], torch.tensor(means))
    together, follows, precedes, next_segment, last_segment, other = (likeness.pair[0, row] for row in range(2, 8))
    assert together.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert follows.nonzero().tolist() == [[0, 1]]
    assert precedes.nonzero().tolist() == [[1, 0]]
    assert next_segment.nonzero().tolist() == [[2, 3]], "the instruction is no neighbour of the first"
    assert last_segment.nonzero().tolist() == [[3, 2]]
    assert other.nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3], [2, 0], [2, 1], [3, 0], [3, 1]]
    # The state sees what is told; the action what its words mean: take, and light.
    assert likeness.query[0, :, 0].tolist() == [
        [0] * 4,
        [0] * 4,
        [1, 1, 0, 0],
        [0] * 4,
        standard.tolist(),
    ]
    torch.testing.assert_close(likeness.query[0, 0, 1], torch.tensor([1, 0.8, 1, 0.6]))
    assert likeness.query[0, 1, 1].tolist() == [1, 0, 1, 0]
    # Told: at most 1 (take) and on the average (1 + 0.8) / 2; seen: 1 (light) and (0 + 1) / 2; then spelt.
    torch.testing.assert_close(likeness.action[0, 0], torch.tensor([1, 0.9, 1, 0.5, 1, 0.5, 1, 0.5]))


def test_an_action_that_is_not_listed_binds_nothing(builder: SceneBuilder) -> None:
    """Behind the last action of a prompt stands padding, which is no action of any other prompt."""
    prompts = builder.split(["take\nlamp", "take\nlamp"])
    listed = np.array([[0, 1], [1, -1]])
    together = likeness_of(builder.build(prompts, ["take", "door"], listed)).bound
    alone = likeness_of(builder.build(prompts[1:], ["take", "door"], listed[1:])).bound
    assert together.tolist() == [[1, 0], [0, 0]]
    assert alone.tolist() == [[0, 0]]


def test_what_was_split_is_kept_within_bounds(builder: SceneBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MOST_NUMBERED", 20)
    monkeypatch.setattr(building, "MOST_SPLIT", 60)
    for number in range(0, 300, 3):
        texts = [f"take {number}\nlamp {number + 1}; door", "take lamp\ndoor"]
        scene = scene_of(builder, texts, ["take", "lamp"])
        assert [int(count) for count in scene.real.sum(dim=1)] == [5, 3]
        assert len(scene.vectors) == 5
        assert len(builder._words) <= 20 + 5
        assert builder._split_words <= 60 + 8


def test_long_actions_are_cut_and_prompts_are_not(builder: SceneBuilder) -> None:
    scene = scene_of(builder, ["take\n" + "lamp " * 300], ["door " * 40])
    assert scene.words.shape == (1, 301)
    assert scene.action_words.shape == (1, building.MOST_ACTION_WORDS)
