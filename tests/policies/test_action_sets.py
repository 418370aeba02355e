"""Actions that change from prompt to prompt: scored as each prompt's own list would be, and never chosen beyond it."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import ConstantSchedule

from heed.envs.contract import ChangingActions, TextActions
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.heads.action_sets import ActionSets
from heed.policies.heads.scoring import ActionScorer, naive_scores
from heed.policies.heads.trie import ActionTrie, Tries
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.action_texts import ActionTexts
from heed.policies.prompts.layout import Actions
from heed.policies.q_network import LanguageQPolicy
from tests.small_models import ENCODER_DECODERS, build

LISTS = (("open red door", "open blue door", "wait"), ("open blue door",), ("wait", "open the grey box"))


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return load_language_model("heed-tiny")


def observations(lists: Any = LISTS) -> dict[str, Any]:
    return {
        "instruction": ["open the blue door"] * len(lists),
        "observation": [f"room {index % 2}" for index in range(len(lists))],
        "actions": list(lists),
    }


@pytest.mark.parametrize("normalization", ["mean", "sum", "constrained"])
def test_each_prompt_scores_its_own_actions(tiny: LanguageModel, normalization: Any) -> None:
    encoder = tiny.encoder(max_tokens=32, modalities=(Actions(4),))
    policy = LanguageActorCriticPolicy(
        encoder.space, ChangingActions(4), ConstantSchedule(0.0), model=tiny, normalization=normalization
    )
    # The first prompt again at the end: it is read once, and so is nothing of another list.
    given = observations((*LISTS, LISTS[0], LISTS[1]))
    prompts, _ = policy.obs_to_tensor(given)
    with torch.no_grad():
        distribution: Any = policy.get_distribution(prompts).distribution
    probabilities = distribution.probs
    words = torch.as_tensor(tiny.encoder(max_tokens=32)(given)).long()
    for row, texts in enumerate(given["actions"]):
        trie = tiny.action_trie(texts, normalization)
        with torch.no_grad():
            scores = naive_scores(tiny.model, words[row : row + 1], trie.tokens, normalization)[0]
        expected = torch.zeros(4)
        expected[: len(texts)] = scores.softmax(dim=0)
        np.testing.assert_allclose(probabilities[row], expected, atol=1e-5)
        assert (probabilities[row, len(texts) :] == 0).all(), "exactly"


def test_entropy_and_gradients_are_those_of_the_actions_that_there_are(tiny: LanguageModel) -> None:
    encoder = tiny.encoder(max_tokens=32, modalities=(Actions(4),))
    policy = LanguageActorCriticPolicy(encoder.space, ChangingActions(4), ConstantSchedule(0.0), model=tiny)
    prompts, _ = policy.obs_to_tensor(observations())
    distribution = policy.get_distribution(prompts)
    entropy = distribution.entropy()
    assert entropy is not None
    with torch.no_grad():
        inside: Any = distribution.distribution
        shares = inside.probs
        expected = [-(row[row > 0] * row[row > 0].log()).sum() for row in shares]
    np.testing.assert_allclose(entropy.detach(), torch.stack(expected), atol=1e-5)
    assert float(entropy[1].detach()) == pytest.approx(0.0, abs=1e-6), "a choice of one"
    (entropy.sum() + distribution.log_prob(torch.tensor([2, 0, 1])).sum()).backward()
    gradients = [p.grad for p in policy.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_q_values_are_those_of_the_listed_actions(tiny: LanguageModel) -> None:
    encoder = tiny.encoder(max_tokens=32, modalities=(Actions(4),))
    changing = LanguageQPolicy(encoder.space, ChangingActions(4), ConstantSchedule(0.0), model=tiny)
    prompts, _ = changing.obs_to_tensor(observations())
    q_values = changing.q_net(prompts)
    for row, texts in enumerate(LISTS):
        fixed = LanguageQPolicy(
            tiny.encoder(max_tokens=32).space, TextActions(texts), ConstantSchedule(0.0), model=tiny
        )
        fixed.load_state_dict(changing.state_dict())
        words = {key: values[row : row + 1] for key, values in observations().items()}
        expected = fixed.q_net(fixed.obs_to_tensor(words)[0])
        np.testing.assert_allclose(q_values[row, : len(texts)].detach(), expected[0].detach(), atol=1e-5)
        assert (q_values[row, len(texts) :] == -torch.inf).all()
    q_values.gather(1, torch.tensor([[2], [0], [1]])).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in changing.q_net.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", [*ENCODER_DECODERS])
def test_an_encoder_decoder_scores_lists_of_its_own(family: str) -> None:
    model = build(family)
    texts = ActionTexts()
    tokens = {"a": [7, 8], "b": [7, 9, 11], "c": [12], "d": [7, 9, 5, 3]}

    class Tokens:
        """Gives each letter its tokens."""

        def action_trie(
            self, letters: tuple[str, ...], normalization: str, *, template: object, distinct: bool
        ) -> ActionTrie:
            return ActionTrie.build([tokens[letter] for letter in letters], distinct=distinct)

    sets = ActionSets(Tokens(), "mean", texts)  # type: ignore[arg-type]
    lists = (("a", "b", "c"), ("d",), ("c", "d"), ("a", "b", "c"))
    rows = np.full((len(lists), 3), -1)
    for target, letters in zip(rows, lists, strict=True):
        target[: len(letters)] = texts.numbers_of(letters)
    prompts = torch.tensor([[1, 2, 3], [4, 5, -1], [6, 7, 8], [9, -1, -1]])
    with torch.no_grad():
        scores = ActionScorer(("encoder-decoder",))(model, prompts, sets.tries_of(rows, torch.device("cpu")))[1]
        for row, letters in enumerate(lists):
            expected = naive_scores(model, prompts[row : row + 1], [tokens[letter] for letter in letters])
            np.testing.assert_allclose(scores[row, : len(letters)], expected[0], atol=1e-5)
            assert (scores[row, len(letters) :] == -torch.inf).all()


def test_joined_tries_are_those_built_at_once() -> None:
    tries = [
        ActionTrie.build(actions)
        for actions in ([[7, 8], [7, 9, 11], [12]], [[3]], [[5, 6, 7, 8], [5, 6, 1], [2, 4], [9]])
    ]
    joined, whole = Tries.join([Tries([trie]) for trie in tries]), Tries(tries)
    assert (joined.count, joined.n_actions, joined.n_nodes, joined.depth) == (3, 4, whole.n_nodes, whole.depth)
    for name, tensor in whole.named_buffers():
        assert torch.equal(getattr(joined, name), tensor), name


def test_texts_of_the_same_tokens_share_a_score() -> None:
    with pytest.raises(ValueError, match="same tokens"):
        ActionTrie.build([[7, 8], [7, 8]])
    trie = ActionTrie.build([[7, 8], [3], [7, 8]], distinct=False)
    assert trie.contexts[0] == trie.contexts[2]
    assert trie.tokens[0] == trie.tokens[2]


def test_a_linear_head_has_no_place_for_them(tiny: LanguageModel) -> None:
    encoder = tiny.encoder(max_tokens=32, modalities=(Actions(4),))
    with pytest.raises(ValueError, match="change from state to state"):
        LanguageActorCriticPolicy(encoder.space, ChangingActions(4), ConstantSchedule(0.0), model=tiny, head="linear")


@pytest.mark.parametrize(("head", "says"), [("linear", "change from state to state"), ("score", "room for no actions")])
def test_prompts_that_do_not_list_the_actions_are_refused(tiny: LanguageModel, head: str, says: str) -> None:
    encoder = tiny.encoder(max_tokens=32)
    with pytest.raises(ValueError, match=says):
        LanguageActorCriticPolicy(encoder.space, ChangingActions(4), ConstantSchedule(0.0), model=tiny, head=head)
