"""How much memory a training needs with an adapter, and without: `python -m examples.adapter_memory ppo lora`.

A language model of some hundred million random weights is made and saved; then an agent is made of it, which plays a
few steps and learns from them. PPO holds itself near the policy that it began with, so it has a reference policy; DQN
has a target network. What counts is this process's resident memory, less what it had before; beside it stands what
`heed memory` reckons with.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from pathlib import Path
from typing import Any

from transformers import Qwen2Config, Qwen2ForCausalLM

from heed.agents import DQN, PPO
from heed.envs import make
from heed.policies import Adapter, load_language_model
from heed.scripts.memory import MemoryConfig
from heed.training.memory.estimate import PROCESS, estimate_memory
from heed.training.tracking.system import MIB, resident_memory

LEVEL = "BabyAI-GoToRedBallNoDists-v0"
OPTIONS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "reference_coef": 0.1},
    "dqn": {"learning_starts": 16, "buffer_size": 100, "batch_size": 8},
}


def resident() -> float:
    """Return this process's resident memory in MiB, on Linux."""
    gc.collect()
    taken = resident_memory()
    assert taken is not None, "this system does not tell what a process takes up"
    return taken / MIB


def measure(kind: str, method: str, width: int, layers: int) -> dict[str, float]:
    """Return the MiB of the base, of the agent when it is made and when it has learned, estimated, and of its policy.

    Args:
        kind: `ppo` or `dqn`.
        method: of the adapter, or `full` for none.
        width: of the language model's hidden state, a multiple of 64.
        layers: of the language model.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        tokenizer = load_language_model("heed-tiny").tokenizer
        heads = width // 64
        config = Qwen2Config(
            vocab_size=32_000,
            hidden_size=width,
            intermediate_size=8 * width // 3,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
        )
        Qwen2ForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        expected = estimated(kind, method, folder)
        environments = make(LEVEL, n_envs=4, seed=0)
        before = resident()
        adapter = None if method == "full" else Adapter(method=method)  # type: ignore[arg-type]  # it is checked
        agent_class: Any = {"ppo": PPO, "dqn": DQN}[kind]
        kwargs = {"model": str(folder), "adapter": adapter}
        agent = agent_class(env=environments, policy_kwargs=kwargs, seed=0, **OPTIONS[kind])
        made = resident() - before
        agent.learn(48)
        learned = resident() - before
        agent.save(Path(name) / "agent")
        environments.close()
        return {
            "base": (folder / "model.safetensors").stat().st_size / MIB,
            "made": made,
            "learned": learned,
            "estimated": expected,
            "saved": (Path(name) / "agent" / "policy.safetensors").stat().st_size / MIB,
        }


def estimated(kind: str, method: str, folder: Path) -> float:
    """Return the MiB that `heed memory` reckons with, beyond the process itself and a replay buffer."""
    options: dict[str, Any] = {"batch_size": OPTIONS[kind]["batch_size"]}
    if kind == "ppo":
        options |= {"rollout_steps": OPTIONS[kind]["n_steps"], "epochs": 1, "reference_coef": 0.1}
    adapter: Any = None if method == "full" else method
    agent: Any = kind
    config = MemoryConfig(env=LEVEL, agent=agent, model=str(folder), adapter=adapter, n_envs=4, device="cpu", **options)
    parts = estimate_memory(config).parts
    return sum(part.size for part in parts if part.name not in (PROCESS, "replay buffer")) / MIB


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(OPTIONS))
    parser.add_argument("method", help="lora, rslora, dora, adalora, ia3, prompt, prefix, or full for no adapter")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    options = parser.parse_args()
    measured = measure(options.kind, options.method, options.width, options.layers)
    print(", ".join(f"{name} {mib:.0f} MiB" for name, mib in measured.items()))


if __name__ == "__main__":
    main()
