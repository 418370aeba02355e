"""Options of `heed train` that cannot be, or do not go together: told in a sentence, before anything is written."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from heed.scripts import train as train_module
from tests.sampling import sampled

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
FEW = ["--env", LEVEL, "--n-envs", "4", "--save-every", "256", "--eval-episodes", "0", "--device", "cpu"]

NUMBERS = [
    ("--steps -5", "--steps is -5, but must be at least 1"),
    ("--steps 0", "--steps is 0, but must be at least 1"),
    ("--n-envs 0", "--n-envs is 0, but must be at least 1"),
    ("--learning-rate -1", "--learning-rate is -1.0, but must be positive"),
    ("--gamma 1.5", "--gamma is 1.5, but must be at most 1"),
    ("--layer-decay 2", "--layer-decay is 2.0, but must be at most 1"),
    ("--warmup-steps 600 --steps 512", "must leave something of the 512 steps"),
    ("--history -1", "--history is -1, but must be at least 0"),
    ("--max-prompt-tokens 0", "--max-prompt-tokens is 0, but must be at least 8"),
    ("--model heed-tiny --max-prompt-tokens 5000", "takes at most 1024 tokens"),
    ("--max-episode-steps 0", "--max-episode-steps is 0, but must be at least 1"),
    ("--max-steps 0", "--max-steps is 0, but must be at least 1"),
    ("--threads 0", "--threads is 0, but must be at least 1"),
    ("--instruction-changes 20-5", "--instruction-changes is '20-5', but must be a range of steps from 1 on"),
    ("--augment parafrase", "--augment cannot be 'parafrase': there are paraphrase, synonyms, words, typos,"),
    ("--augment longer,no", "--augment cannot be 'no'"),
    ("--instruction-changes soon", "--instruction-changes is 'soon'"),
    ("--sub-instruction-reward -0.5", "--sub-instruction-reward is -0.5, but must be positive"),
    ("--batch-tokens 0", "--batch-tokens is 0, but must be at least 1"),
    ("--agent dqn --micro-batch-tokens 0", "--micro-batch-tokens is 0, but must be at least 1"),
    ("--agent grpo --group-size 1", "--group-size is 1, but must be at least 2"),
    ("--agent grpo --group-size 3", "--n-envs is 4, but must be a multiple of --group-size 3"),
    ("--agent dqn --exploration-end -0.1", "--exploration-end is -0.1, but must be at least 0"),
    ("--agent dqn --exploration-start 1.5", "Epsilon is a probability"),
    ("--intrinsic rnd --intrinsic-coef -1", "--intrinsic-coef is -1.0, but must be at least 0"),
    ("--demonstrations some.jsonl --clone-epochs 0", "--clone-epochs is 0, but must be at least 1"),
    ("--demonstrations some.jsonl --clone-learning-rate 0", "--clone-learning-rate is 0.0, but must be positive"),
]

OF_OTHER_AGENTS = [
    ("--agent dqn --target-kl 0.1", "--target-kl is an option of policy gradients, not of dqn"),
    ("--agent a2c --target-kl 0.1", "with n_epochs=1 there is only one"),
    ("--group-size 4", "--group-size is an option of grpo, not of ppo"),
    ("--agent a2c --batch-tokens 100", "--batch-tokens is an option of ppo and grpo"),
    ("--hindsight 1", "--hindsight is an option of dqn"),
    ("--pretraining-updates 1 --demonstrations some.jsonl", "--pretraining-updates is an option of dqn"),
    ("--value-warmup-steps 5 --agent dqn", "--value-warmup-steps is an option of policy gradients"),
    ("--agent grpo --value-learning-rate 0.1", "grpo has none"),
    ("--agent dqn --no-dueling --value-learning-rate 0.1", "dqn with --no-dueling has none"),
    ("--exploration ucb", "--exploration is an option of dqn and q-learning, not of ppo"),
    ("--exploration-end 0.1", "--exploration-end is an option of dqn and q-learning, not of ppo"),
    ("--agent q-learning --head linear", "--head is an option of language models"),
    ("--agent q-learning --template chat", "--template is an option of language models"),
    ("--agent q-learning --micro-batch-tokens 10", "--micro-batch-tokens is an option of language models"),
]

WITHOUT_ANOTHER = [
    ("--adapter-rank 4", "--adapter-rank is an option of --adapter, which is not given"),
    ("--adapter ia3 --adapter-rank 4", "--adapter-rank is an option of the adapters lora, rslora"),
    ("--quantize 8bit", "give an --adapter"),
    ("--weights bfloat16", "small steps would be lost"),
    ("--weights bfloat16 --train-layers 2", "small steps would be lost"),
    ("--system-prompt Move.", "--system-prompt is an option of --template chat"),
    ("--intrinsic-coef 1", "--intrinsic-coef is the weight of --intrinsic"),
    ("--margin-coef 1 --agent dqn", "--margin-coef needs --demonstrations"),
    ("--clone-epochs 3", "--clone-epochs is of no use without --demonstrations or --dagger-rounds"),
    ("--clone-learning-rate 0.1", "--clone-learning-rate is of no use"),
    ("--dagger-episodes 7 --demonstrations some.jsonl", "--dagger-episodes is of no use without --dagger"),
]

BESIDE_ANOTHER = [
    ("--adapter lora --train-layers 0", "With --train-layers 0 no layer would get the --adapter"),
    ("--adapter lora --freeze-embeddings", "leave --freeze-embeddings out"),
    ("--train-layers 1 --freeze-embeddings", "leave --freeze-embeddings out"),
    ("--weights bfloat16 --adapter lora --precision float32", "leave --precision float32 out"),
    ("--activation-checkpointing --compiled", "leave --compiled out"),
    ("--activation-checkpointing --train-layers 0", "nothing of the language model has a gradient"),
    ("--layer-decay 0.9 --train-layers 0", "no layer trains"),
    ("--head linear --normalization sum", "--normalization says how the likelihoods"),
    ("--batch-tokens 100 --batch-size 100", "leave one of them out"),
]

NOT_THERE = [
    ("--env BabyAI-GoToLocl-v0", "Did you mean BabyAI-GoToLocal-v0"),
    ("--env no_such_module:X-v0", "no_such_module"),
    (f"--env {LEVEL}+", "has nothing beside a `+`"),
    ("--model ./no/model", "There is no model folder"),
    ("--model nobody/nothing", "is the name right, and is there a network"),
    ("--adapter lora --adapter-targets no_such", "WordsModel takes no lora adapter"),
    ("--template chat", "has no chat template"),
    ("--demonstrations nowhere.jsonl", "There is no file nowhere.jsonl"),
    ("--device abacus", "abacus"),
    ("--hold-out 'purpel key'", f"instructions of {LEVEL} names 'purpel key'"),
]

ENVIRONMENTS = [
    (f"--env {LEVEL}+Pendulum-v1", "The levels of a mixture must have the same actions"),
    ("--env Pendulum-v1", "head='score' chooses among actions that have names"),
    ("--env Pendulum-v1 --head linear --agent dqn", "only supports"),
    ("--env tests.scripts.broken_envs:TooFewTexts-v0", "There are 2 action texts for 3 actions"),
    ("--env tests.scripts.broken_envs:SameTexts-v0", "Two actions share the text"),
    ("--env tests.scripts.broken_envs:NoTexts-v0", "names no `action_texts`"),
    ("--env BabyAI-GoToLocal-v0 --curriculum failures", "There is nothing to make a curriculum of"),
    ("--env CartPole-v1 --augment synonyms", "--augment synonyms is of no use in CartPole-v1"),
    ("--env CartPole-v1 --augment impossible", "does not tell what cannot be done in an episode's world"),
    ("--env examples.boxes:Boxes-v0 --instruction-changes 3", "does not tell what else can be done"),
    ("--env examples.boxes:Boxes-v0 --sub-instruction-reward 1", "does not tell which parts"),
]

# Each check of a number or of two options is one of several alike; what is not there is told in many ways.
REFUSED = [
    *sampled(NUMBERS, 12),
    *sampled(OF_OTHER_AGENTS, 7),
    *sampled(WITHOUT_ANOTHER, 6),
    *sampled(BESIDE_ANOTHER, 5),
    *NOT_THERE,
    *ENVIRONMENTS,
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED)
def test_what_cannot_be_is_told_in_a_sentence_before_anything_is_written(
    arguments: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        train_module.main([*FEW, "--run-dir", str(folder), *shlex.split(arguments)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert sentence in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error
    assert not folder.exists()
