"""The benchmark compares like with like, and writes what it says. No test asserts a speed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import ConstantSchedule

from heed.envs.make import speaking
from heed.envs.words.verbalize import VerbalizedEnv
from heed.policies.backbones import hidden_states
from heed.policies.caches.batching import CHUNK_TOKENS, Inputs
from heed.policies.heads.scoring import naive_scores
from heed.policies.networks import text_network as network
from heed.policies.prompts.layout import PADDING
from heed.training.errors import ConfigurationError
from heed.training.memory.peak import LiveBytes, peak_bytes
from tests.small_models import VOCABULARY, build
from tools.benchmark import (
    building,
    comparison,
    processes,
    ranks,
    reuse,
    savings,
    scoring,
    shortcuts,
    training,
    verbalizing,
)
from tools.benchmark.command import SECTIONS, BenchmarkConfig, benchmark, main
from tools.benchmark.drawing import draw
from tools.benchmark.references import LastHiddenState, ScoringPolicy, score_action, trimmed
from tools.benchmark.timing import Timing, exponent, time_in_turn

ACTIONS = [[1, 2, 3], [1, 4], [6]]


def smallest(**options: Any) -> BenchmarkConfig:
    sizes: dict[str, Any] = {
        "device": "cpu",
        "repeats": 1,
        "rounds": 1,
        "rollouts": 1,
        "hidden": 16,
        "layers": 2,
        "vocabulary": 100,
        "batch": 2,
        "prompts": (8,),
        "actions": (3,),
        "n_envs": 2,
        "n_steps": 8,
        "larger_steps": 4,
        "naive_steps": 2,
        "growth_prompts": (8, 12),
        "growth_actions": (2, 5),
        "growth_hidden": (8, 16),
        "growth_layers": (1,),
        "growth_envs": (2, 4),
        "history": 2,
        "history_steps": 8,
        "verbalizing_envs": ("FrozenLake-v1",),
        "verbalizing_steps": 20,
        "processes": (1,),
        "slow_envs": 2,
        "slow_milliseconds": 1.0,
        "slow_steps": 3,
        "threads": 1,
        "gpu_models": ("heed-tiny",),
        "gpu_envs": 2,
        "gpu_steps": 4,
        "gpu_batch": 4,
        "gpu_product": 64,
    }
    return BenchmarkConfig(**{**sizes, **options})


def ragged_prompts() -> torch.Tensor:
    prompts = torch.randint(0, VOCABULARY, (4, 9), generator=torch.Generator().manual_seed(0))
    for row, length in enumerate((9, 3, 1, 6)):
        prompts[row, length:] = PADDING
    return prompts


# -- the references ------------------------------------------------------------------------------------------


def test_scoring_one_by_one_computes_the_definition_on_ragged_prompts() -> None:
    model, prompts = build("llama"), ragged_prompts()
    with torch.no_grad():
        read = [score_action(model, prompts, action) for action in ACTIONS]
        expected = naive_scores(model, prompts, ACTIONS)
        torch.testing.assert_close(torch.stack([score for _, score in read], dim=1), expected, atol=1e-9, rtol=0)
        for hidden, _ in read:
            torch.testing.assert_close(hidden, last_hidden_states(model, prompts), atol=1e-9, rtol=0)


def last_hidden_states(model: Any, prompts: torch.Tensor) -> torch.Tensor:
    alone = [model.base_model(input_ids=row[row != PADDING][None]).last_hidden_state[0, -1] for row in prompts]
    return torch.stack(alone)


def test_the_features_are_the_last_hidden_state_of_each_prompt_alone() -> None:
    model, prompts = build("llama"), ragged_prompts()
    extractor = LastHiddenState(spaces.Box(-1, VOCABULARY, shape=(9,), dtype=np.int16), model)
    assert extractor.train().model.training is False
    padded = torch.nn.functional.pad(prompts, (0, 5), value=PADDING)
    with torch.no_grad():
        features = extractor(padded.float())  # as SB3 hands ids to an extractor
        torch.testing.assert_close(features, last_hidden_states(model, prompts), atol=1e-9, rtol=0)
    assert trimmed(padded).shape == prompts.shape


def test_the_scoring_policy_chooses_by_those_scores() -> None:
    model, prompts = build("llama").float(), ragged_prompts()
    space = spaces.Box(-1, VOCABULARY, shape=(9,), dtype=np.int16)
    policy = ScoringPolicy(space, spaces.Discrete(3), ConstantSchedule(1e-3), model=model, actions=ACTIONS)
    chosen = torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        expected = torch.log_softmax(naive_scores(model, prompts, ACTIONS), dim=1)[torch.arange(4), chosen]
        values, log_probabilities, entropy = policy.evaluate_actions(prompts, chosen)
        torch.testing.assert_close(log_probabilities, expected)
        torch.testing.assert_close(values, policy.predict_values(prompts))
        actions, again, _ = policy(prompts, deterministic=True)
    assert entropy is not None
    assert actions.shape == entropy.shape == (4,)
    torch.testing.assert_close(again, values)


def test_agents_that_are_compared_have_the_same_settings_and_weights() -> None:
    config = smallest()
    model = building.language_models(config)["heed-tiny"]
    agents = comparison.new_agents(config, model, n_steps=4)
    first = agents.pop("heed score")
    for agent in agents.values():
        for name in ("learning_rate", "n_epochs", "gamma", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm"):
            assert getattr(agent, name) == getattr(first, name)
        assert agent.clip_range(1.0) == first.clip_range(1.0)
        assert type(agent.policy.optimizer) is type(first.policy.optimizer)
        assert agent.policy.optimizer.defaults == first.policy.optimizer.defaults
        assert str(agent.policy.value_net) == str(first.policy.value_net)
        assert str(agent.policy.mlp_extractor) == str(first.policy.mlp_extractor)
    ours = agents["heed linear"].policy.network.model.state_dict()
    theirs = agents["sb3 linear"].policy.features_extractor.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# -- how it is measured --------------------------------------------------------------------------------------


def test_medians_and_quartiles() -> None:
    assert Timing.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Timing(median=3.0, low=2.0, high=4.0, repeats=5)
    assert Timing.of([7.0]) == Timing(median=7.0, low=7.0, high=7.0, repeats=1)
    assert Timing.of([2.0]).per_second(10) == {"median": 5.0, "low": 5.0, "high": 5.0}


def test_ways_take_turns_and_a_slow_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    cost = {"quick": iter([9.0, 1.0, 2.0]), "slow": iter([100.0, 100.0])}
    ways: dict[str, Callable[[], object]] = {"quick": lambda: done.append("quick"), "slow": lambda: done.append("slow")}

    def spend(way: Callable[[], object]) -> float:
        way()
        return next(cost[done[-1]])

    monkeypatch.setattr("tools.benchmark.timing.seconds_of", spend)
    timings = time_in_turn(ways, repeats=2, patience={"slow": 50.0})
    assert done == ["quick", "slow", "quick", "quick"]
    assert timings["quick"].median == 1.5  # the first run does not count
    assert timings["slow"] == Timing.of([100.0])  # the only one does


def test_the_exponent_of_a_power() -> None:
    assert exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
    assert exponent([3, 3], [1, 2]) is None


def test_live_bytes_are_those_alive_together() -> None:
    with LiveBytes() as live:
        first = torch.ones(256)  # 1 KiB
        second = first + 1
        second.mul_(2).view(16, 16)  # neither makes a tensor of its own
        del first, second
        assert live.now == 0
        third = torch.ones(300)
    assert live.peak == 2048
    assert live.now == 1200
    del third
    assert live.now == 0


@pytest.mark.parametrize(("way", "backward"), [("naive", False), ("naive", True), ("packed", False), ("cached", True)])
def test_memory_without_computing_is_that_of_computing(way: str, backward: bool) -> None:
    config = smallest(layers=1)

    def prepare() -> Callable[[], object]:
        problem = scoring.Scoring(config, 12, 4)
        return lambda: problem.run(problem.ways()[way], backward)

    work = prepare()
    with LiveBytes() as live:
        work()
    assert peak_bytes(prepare, "cpu") == pytest.approx(live.peak, rel=0.05)


def test_memory_of_many_actions_follows_from_that_of_few() -> None:
    config = smallest(layers=1)

    def prepare() -> Callable[[], object]:
        problem = scoring.Scoring(config, 12, 5)
        return lambda: problem.run(problem.naive, True)

    assert scoring.peak_of(config, "naive", 12, 5, True) == pytest.approx(peak_bytes(prepare, "cpu"), rel=0.01)


def test_all_ways_to_score_give_the_same_scores_and_gradients() -> None:
    problem = scoring.Scoring(smallest(), 12, 6)
    model: Any = problem.model.double()  # transformers normalises in float32 all the same
    naive = problem.naive()
    for way in scoring.OURS:
        torch.testing.assert_close(problem.ours(way), naive, atol=1e-6, rtol=0)
    assert problem.ideal().shape == (2, 1 + problem.tries.n_nodes, 100)
    gradients = []
    runs: list[Callable[[], None]] = [
        lambda: problem.run(problem.naive, True),
        problem.run_naive_backward,
        lambda: problem.run(lambda: problem.ours("packed"), True),
    ]
    for run in runs:
        run()
        gradients.append(model.lm_head.weight.grad.clone())
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=1e-6, rtol=0)


# -- the sections --------------------------------------------------------------------------------------------


def require_sane(result: Any) -> None:
    """Refuse anything but finite numbers above zero, texts and yes or no."""
    if isinstance(result, dict):
        for value in result.values():
            require_sane(value)
    elif isinstance(result, list):
        for value in result:
            require_sane(value)
    elif isinstance(result, int | float) and not isinstance(result, bool):
        assert math.isfinite(result)
        assert result >= 0


def test_it_writes_every_section_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What it is in truth takes seconds, and is tested above.
    monkeypatch.setattr(scoring, "peak_bytes", lambda prepare, device: 1000)
    # Processes of their own take seconds to start.
    monkeypatch.setattr(ranks, "_seconds_of", lambda config, count: [6.0 / count, 4.0 / count])
    sections = tuple(section for section in SECTIONS if section != "savings")  # that needs a package's model
    config = smallest(out=tmp_path, sections=sections)
    results = benchmark(config)
    assert tuple(results) == sections
    for section, result in results.items():
        written = json.loads((tmp_path / f"{section}.json").read_text())
        assert written["result"] == json.loads(json.dumps(result))
        assert written["options"]["hidden"] == 16
        if section != "growth":  # an exponent may be negative
            require_sane(result)
    picture = (tmp_path / "benchmark.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000
    printed = capsys.readouterr().out
    for words in ("steps/s", "x naive", "sb3 linear", "environment step", "recomputed", "words alone"):
        assert words in printed

    rows = results["scoring"]["rows"]
    assert len(rows) == 2
    for row in rows:
        seconds = {name: timing["median"] for name, timing in row["seconds"].items()}
        assert row["speed_up_over_naive"] == pytest.approx(seconds["naive"] / seconds[row["heed"]])
        assert row["percent_of_ideal"] == pytest.approx(100 * seconds["ideal"] / seconds[row["heed"]])
        assert row["naive_memory_over_ours"] == row["peak_bytes"]["naive"] / row["peak_bytes"][row["heed"]]

    percent = results["training"]["percent"]
    assert sum(percent.values()) == pytest.approx(100)
    phases = {"environment", "verbalise", "tokenise", "look-ups", "buffers", "rest", *training.LANGUAGE_MODEL}
    assert set(percent) == phases
    arithmetic = sum(percent[name] for name in training.LANGUAGE_MODEL)
    assert results["training"]["not_language_model_percent"] == pytest.approx(100 - arithmetic)

    for model, steps in {"heed-tiny": 16, "2 layers of 16": 8}.items():
        compared = results["comparison"][model]
        assert compared["steps"] == {"heed score": steps, "heed linear": steps, "sb3 linear": steps, "sb3 score": 4}
        assert set(compared["ratios"]) == set(comparison.RATIOS)

    sizes = {name: [point["size"] for point in grown["points"]] for name, grown in results["growth"].items()}
    assert len(sizes.pop("weights")) == 2
    assert sizes == {"prompt tokens": [8, 12], "actions": [2, 5], "environments": [2, 4]}
    assert results["reuse"]["history"]["tokens_ratio"] > 1
    assert set(results["reuse"]["frozen"]) == set(results["reuse"]["partly frozen"]) == set(results["comparison"])
    assert set(results["shortcuts"]) == {"all", *shortcuts.WITHOUT}
    assert all(way["same_actions"] for way in results["shortcuts"].values())
    for kind in processes.KINDS:
        measured = results["processes"][kind]
        assert measured["times_one"] == {"1": 1.0}
        assert 0 < measured["steps_per_second"]["1"]["median"] < 1000  # each step takes a millisecond at least
    assert results["ranks"]["times_one"] == {"1": 1.0, "2": 2.0}
    steps = config.n_envs * config.n_steps * config.rollouts
    assert results["ranks"]["steps_per_second"]["2"]["median"] == pytest.approx(steps / 2.5)


def test_what_each_saving_gives_is_measured_one_at_a_time(tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    config = smallest(out=tmp_path, savings_model="heed-tiny", savings_layers=1, savings_envs=2, savings_steps=4)
    with pytest.MonkeyPatch.context() as patch:

        def new_agent(*arguments: Any, **options: Any) -> Any:
            agent = building.new_agent(*arguments, **options)
            made[list(savings.WITHOUT)[len(made)]] = building.network_of(agent)
            return agent

        patch.setattr("tools.benchmark.savings.new_agent", new_agent)
        result = savings.measure(config)
    assert set(result) == set(savings.WITHOUT) == set(made)
    assert all(way["steps_per_second"]["median"] > 0 for way in result.values())
    assert result["all"]["times_as_long"] == 1
    # Each does without one thing, and has the others.
    assert made["without bfloat16"].precision == "float32"
    assert made["without bfloat16"].model.dtype == torch.float32
    for name, reader in made.items():
        assert (reader.frozen is None) == (name == "without frozen layers kept")
        assert reader.frozen is None or (reader.frozen.prefixes is None) == (name == "without prefixes")
        assert (reader.memory is None) == (name == "without readings kept")
        assert (reader.model.dtype == torch.bfloat16) == (name != "without bfloat16")
    assert list(savings.report(result))


def test_one_of_the_processes_that_train_together_times_its_rounds(tmp_path: Path) -> None:
    given, found = tmp_path / "options.json", tmp_path / "seconds.json"
    options = dataclasses.asdict(smallest(out=tmp_path, rounds=2))
    given.write_text(json.dumps({**options, "out": str(tmp_path)}))
    ranks._train(given, found)
    seconds = json.loads(found.read_text())
    assert len(seconds) == 2
    assert min(seconds) > 0
    with pytest.raises(ConfigurationError, match="--n-envs is 3, but must be a multiple of --ranks 2"):
        ranks.measure(smallest(out=tmp_path, n_envs=3))


@pytest.mark.parametrize("name", sorted(shortcuts.WITHOUT))
def test_doing_without_a_short_cut_undoes_it_for_its_turn_only(name: str) -> None:
    before = network.LanguageNetwork._remember, hidden_states.computes_last_layer_in_part, dict(CHUNK_TOKENS)
    prompts = ragged_prompts()[[0, 1, 0]]
    with shortcuts.WITHOUT[name]():
        read = Inputs.of(prompts)
        assert len(read.keys) == (3 if "equal prompts" in name else 2)
        assert torch.equal(read.prompts[read.inverse], prompts)
        now = network.LanguageNetwork._remember, hidden_states.computes_last_layer_in_part, dict(CHUNK_TOKENS)
        changes = ("equal prompts", "layers of our own", "chunks")
        assert (now != before) == any(change in name for change in changes)
    after = network.LanguageNetwork._remember, hidden_states.computes_last_layer_in_part, dict(CHUNK_TOKENS)
    assert after == before


def test_words_are_timed_call_by_call_over_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("time.thread_time", lambda: next(ticks) / 1e6)  # each look takes a microsecond
    env = speaking(gymnasium.make("Taxi-v4"))
    assert isinstance(env, VerbalizedEnv)
    timer = verbalizing.WordTimer(env)
    timer.start(timed=True)
    # Two looks at the clock for the words of each of the 250 steps, and four for two episodes of up to 200 steps; the
    # two resets' words are counted, and lie outside the episodes' time.
    assert verbalizing.play(env, 250, 0) == pytest.approx((2 * 250 + 2) / 250 / 1e6)
    assert timer.calls == 252
    assert timer.seconds == pytest.approx(252 / 1e6)
    timer.start(timed=False)
    assert verbalizing.play(env, 250, 0) == pytest.approx(2 / 250 / 1e6)
    assert timer.calls == 0


def test_an_environment_that_speaks_has_no_words_to_measure() -> None:
    with pytest.raises(ConfigurationError, match="Heed/DeepSea-v0 speaks itself"):
        verbalizing.measure(smallest(verbalizing_envs=("Heed/DeepSea-v0",)))


def test_a_section_alone_leaves_the_others_results(tmp_path: Path) -> None:
    earlier = {"result": {"heed-tiny": {"ratios": {"heed linear / sb3 linear": 4.0}}}}
    (tmp_path / "comparison.json").write_text(json.dumps(earlier))
    options = {"--out": tmp_path, "--sections": "training", "--n-envs": 2, "--n-steps": 4, "--rollouts": 1}
    main([str(word) for option in options.items() for word in option])
    assert {path.name for path in tmp_path.iterdir()} == {"training.json", "comparison.json", "benchmark.png"}
    assert json.loads((tmp_path / "comparison.json").read_text()) == earlier


def test_a_plot_of_nothing_is_empty(tmp_path: Path) -> None:
    draw({"scoring": None}, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").exists()


def test_the_memory_of_prefixes_changes_no_step_of_the_rollout() -> None:
    config = smallest()
    actions = []
    for without in (False, True):
        env = building.new_env(config, history=2)
        agent = building.new_agent(env, config, n_steps=8, max_prompt_tokens=256)
        if without:
            building.network_of(agent).prefixes = None
        reuse.rollout_of(agent)()
        actions.append(agent.rollout_buffer.actions.copy())
    assert (actions[0] == actions[1]).all()


def test_what_cannot_be_measured_is_refused() -> None:
    for option, value, message in (
        ("hidden", 13, "--hidden is 13, but must be a multiple of 8"),
        ("growth_hidden", (16, 4), "multiple of 8"),
        ("actions", (1,), "at least 2"),
        ("growth_layers", (), "at least 1"),
        ("n_envs", 0, "--n-envs is 0, but must be at least 1"),
        ("vocabulary", 50, "at least 100"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            smallest(**{option: value})
