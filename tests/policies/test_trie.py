"""Tries of action texts: worked out by hand."""

from __future__ import annotations

import pytest
import torch

from heed.policies.heads.trie import ActionTrie, Tries, close_prefixes

ACTIONS = [[7, 8], [7, 9], [7, 9, 11], [12]]


def test_a_trie_merges_what_begins_alike() -> None:
    trie = ActionTrie.build(ACTIONS)
    # Inner nodes: 7, and 7 9 (for 11). 8, 9-as-an-end, 11 and 12 are read, never forwarded.
    assert trie.paths == ((7,), (7, 9))
    assert trie.node_tokens == (7, 9)
    assert trie.node_depths == (1, 2)
    assert trie.contexts == ((0, 1), (0, 1), (0, 1, 2), (0,))
    assert trie.ancestors == ((True, False), (True, True))
    assert trie.branches == ((7, 9),)
    assert trie.siblings == ((7, 12), (8, 9), (11,))


def test_tries_of_several_prompts_are_padded_to_the_largest() -> None:
    tries = Tries([ActionTrie.build(ACTIONS), ActionTrie.build([[3, 4], [5, 6]])])
    assert (tries.count, tries.n_actions, tries.n_nodes, tries.depth) == (2, 4, 2, 2)
    assert tries.node_tokens.tolist() == [[7, 9], [3, 5]]
    assert tries.node_depths.tolist() == [[1, 2], [1, 1]]
    assert tries.ancestors.tolist() == [[[True, False], [True, True]], [[True, False], [False, True]]]
    assert tries.lengths.tolist() == [[2, 2, 3, 1], [2, 2, 0, 0]]
    assert tries.contexts[1].tolist() == [[0, 1, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert tries.siblings.tolist() == [[[7, 12], [8, 9], [11, -1]], [[3, 5], [4, -1], [6, -1]]]
    assert tries.branches.tolist() == [[[7, 9], [0, 0]], [[3, 0], [5, 0]]]
    assert tries.node_places.tolist() == [[0, 1], [0, 2]]
    second = tries.rows(torch.tensor([1, 1]))
    assert second.count == 2
    assert second.node_tokens.tolist() == [[3, 5], [3, 5]]
    assert not tries.state_dict(), "they follow from the action texts: a checkpoint need not hold them"


def test_actions_of_one_token_have_no_inner_nodes() -> None:
    tries = Tries([ActionTrie.build([[1], [2]])])
    assert (tries.n_nodes, tries.depth) == (0, 0)
    assert tries.siblings.tolist() == [[[1, 2]]]


@pytest.mark.parametrize(
    ("actions", "sentence"),
    [([[1, 2], []], "no tokens"), ([[1, 2], [3], [1, 2]], "become the same tokens"), ([], "no actions")],
)
def test_actions_that_cannot_be_told_apart_are_refused(actions: list[list[int]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ActionTrie.build(actions)


def test_an_action_that_another_goes_on_from_is_closed() -> None:
    assert close_prefixes([[7], [7, 9], [8]], end=2) == [[7, 2], [7, 9], [8]]
    assert close_prefixes([[7], [8]], end=None) == [[7], [8]]
    with pytest.raises(ValueError, match="the beginning of another"):
        close_prefixes([[7], [7, 9]], end=None)
