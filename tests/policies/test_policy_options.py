"""How a policy uses its language model is one value: checked when it is made, and the same in every part."""

from typing import Any

import pytest
from stable_baselines3.common.utils import ConstantSchedule

from heed.envs.contract import TextActions
from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.adapters.adapters import Adapter
from heed.policies.model_options import ModelOptions
from heed.policies.models.loading import load_language_model
from heed.policies.q_network import LanguageQPolicy
from heed.training.agent_arguments import POLICY_OPTIONS
from heed.training.options import TrainConfig

KINDS: list[Any] = [LanguageActorCriticPolicy, LanguageQPolicy]


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_takes_each_option_by_its_name(kind: Any) -> None:
    model = load_language_model("heed-tiny-random")
    space = model.encoder(max_tokens=32).space
    given: dict[str, Any] = {"head": "linear", "train_layers": 1, "precision": "float32", "freeze_embeddings": True}
    policy = kind(space, TextActions(("a", "b")), ConstantSchedule(1e-3), model=model, **given)
    assert policy.options == ModelOptions(**given)
    assert policy.reader.precision == "float32"
    assert policy.reader.n_scores == 0
    with pytest.raises(TypeError, match="unexpected keyword argument 'hed'"):
        kind(space, TextActions(("a", "b")), ConstantSchedule(1e-3), model=model, hed="linear")


def test_options_are_found_among_other_arguments() -> None:
    assert ModelOptions.among({"model": "x", "temperature": 2.0, "train_layers": 0}) == ModelOptions(train_layers=0)


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="small steps would be lost"):
        ModelOptions(weights="bfloat16")
    ModelOptions(weights="bfloat16", train_layers=0)
    ModelOptions(weights="bfloat16", adapter=Adapter(method="lora"))


def test_a_training_has_an_option_for_each_of_the_same_default() -> None:
    config, own = TrainConfig(), ModelOptions()
    names = [name for name in POLICY_OPTIONS if hasattr(own, name)]
    assert len(names) == 8  # all but the adapter and the learning rates, which are made of several
    assert all(getattr(config, name) == getattr(own, name) for name in names)
