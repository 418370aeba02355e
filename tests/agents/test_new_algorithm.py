"""A new algorithm is one file and one line: this one, which trains, is saved, loaded, resumed, and estimated.

It is advantage-weighted regression (Peng et al. 2019, arXiv 1910.00177) on what has just been played.
"""

from __future__ import annotations

import shutil
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heed.agents import ALGORITHMS, PPO, Algorithm, load, registry
from heed.agents.policy_gradient import Measures
from heed.agents.rollouts.sample import RolloutBatch, Sample
from heed.policies.decision import Evaluation
from heed.scripts import check_agent as check_agent_module
from heed.scripts import memory as memory_module
from heed.scripts import train as train_module
from heed.training.errors import ConfigurationError
from heed.training.memory.estimate import PROCESS, estimate_memory
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder

# -- the file ----------------------------------------------------------------------------------------------------------

BETA = 0.5
"""How much an advantage weighs: the smaller, the more the best steps alone count."""
MOST = 20.0
"""Weights are clipped to this, as in the paper."""


class AdvantageWeighted(PPO):
    """Clones what was done, the more the better it came out."""

    def objective(self, sample: Sample) -> tuple[Tensor, Measures]:
        """Return -exp(A / beta) log pi(a), the critic's error and the entropy bonus."""
        weights = (sample.batch.advantages / BETA).exp().clamp(max=MOST)
        policy_loss = -(weights * sample.evaluation.log_probability).mean()
        loss = policy_loss + self.entropy_weight * sample.entropy_loss + self.vf_coef * sample.value_loss
        return loss, {"policy_gradient_loss": policy_loss, "value_loss": sample.value_loss}


# -- the line ----------------------------------------------------------------------------------------------------------

LINE = {"awr": Algorithm(place=f"{__name__}:AdvantageWeighted")}
OF_A_PACKAGE = LINE["awr"]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "awr", LINE["awr"])


# -- what comes of it --------------------------------------------------------------------------------------------------

FEW = ["--agent", "awr", "--env", "BabyAI-GoToRedBallNoDists-v0", "--device", "cpu", "--eval-episodes", "0"]
OF_PPO = ["--n-envs", "4", "--rollout-steps", "16", "--batch-size", "32", "--epochs", "2", "--reference-coef", "0.1"]


def weights_of(run_dir: Path) -> dict[str, Tensor]:
    agent: Any = load(RunFolder(run_dir).latest_checkpoint())
    assert type(agent).__name__ == "AdvantageWeighted"
    weights: dict[str, Tensor] = agent.policy.state_dict()
    return weights


def test_a_package_has_one_and_a_broken_package_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("awr", f"{__name__}:OF_A_PACKAGE", "heed.agents"),
        EntryPoint("broken", "no_such_package:ALGORITHM", "heed.agents"),
        EntryPoint("wrong", f"{__name__}:AdvantageWeighted", "heed.agents"),
        EntryPoint("ppo", f"{__name__}:OF_A_PACKAGE", "heed.agents"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == "heed.agents" else [])
    found = registry.Algorithms({"ppo": ALGORITHMS["ppo"]})
    assert found["ppo"] is ALGORITHMS["ppo"]
    with pytest.warns(UserWarning, match="of an installed package cannot be used") as told:
        assert list(found) == ["ppo", "awr"]
    assert "'broken'" in str(told[0].message)
    assert "must be a heed.agents.Algorithm" in str(told[1].message)
    assert (found["awr"].agent_class, found["ppo"]) == (AdvantageWeighted, ALGORITHMS["ppo"])  # Heed's own names stay
    with pytest.raises(KeyError):
        found["broken"]


def test_the_objective_is_the_hand_worked_one() -> None:
    zeros = torch.zeros(2)
    log_probability = torch.tensor([0.5, 0.25]).log()
    batch = RolloutBatch(zeros[:, None], zeros[:, None], zeros, zeros, torch.tensor([0.5, 9.0]), zeros, zeros, zeros)
    evaluation = Evaluation(log_probability=log_probability, entropy=zeros, values=torch.tensor([[1.0], [3.0]]))
    agent: Any = AdvantageWeighted.__new__(AdvantageWeighted)
    agent.ent_coef, agent.vf_coef = 0.0, 0.5
    loss, measures = agent.objective(Sample(batch=batch, evaluation=evaluation, actions=zeros))
    expected = -(torch.tensor([1.0]).exp() * log_probability[0] + 20 * log_probability[1]) / 2
    torch.testing.assert_close(measures["policy_gradient_loss"], expected.squeeze())
    torch.testing.assert_close(loss, expected.squeeze() + 0.5 * (1.0 + 9.0) / 2)


def test_it_trains_is_saved_loaded_and_resumed_by_the_command_line(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train_module.main([*FEW, *OF_PPO, "--steps", "192", "--save-every", "64", "--run-dir", str(whole)])
    curve = RunFolder(whole).read_curve()
    assert "train/reference_kl" in curve[-1]
    shutil.copytree(whole, stopped)
    shutil.rmtree(RunFolder(stopped).latest_checkpoint())
    assert load(RunFolder(stopped).latest_checkpoint()).num_timesteps == 128
    train_module.main(["--run-dir", str(stopped), "--resume"])
    assert RunFolder(stopped).read_curve() == curve
    theirs = weights_of(stopped)
    assert all(tensor.equal(theirs[name]) for name, tensor in weights_of(whole).items())


def test_its_memory_is_estimated(capsys: pytest.CaptureFixture[str]) -> None:
    memory_module.main([*FEW, *OF_PPO, "--no-smaller", "--prompt-tokens", "20"])
    assert "awr with heed-words" in capsys.readouterr().out
    options: dict[str, Any] = {"env": FEW[3], "device": "cpu", "n_envs": 4, "rollout_steps": 16, "batch_size": 32}
    ours, theirs = (
        estimate_memory(TrainConfig(agent=agent, **options), prompt_tokens=20).parts for agent in ("awr", "ppo")
    )
    assert [part for part in ours if part.name != PROCESS] == [part for part in theirs if part.name != PROCESS]


def test_it_has_the_options_of_what_it_is() -> None:
    assert TrainConfig(agent="awr").resolved().steps == 150_000
    with pytest.raises(ConfigurationError, match="--hindsight is an option of dqn, not of awr"):
        TrainConfig(agent="awr", hindsight=1)
    with pytest.raises(ConfigurationError, match="--group-size is an option of grpo, not of awr"):
        TrainConfig(agent="awr", group_size=4)
    with pytest.raises(ConfigurationError, match=r"must be one of ppo, .*, awr"):
        TrainConfig(agent="awl")


def test_it_is_put_to_the_probes() -> None:
    [result] = check_agent_module.run(
        check_agent_module.CheckAgentConfig(agent="awr", probes=("action",), device="cpu")
    )
    assert result.outcome == "passed"
