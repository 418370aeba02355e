"""Shared agents: they act as they did, transformers loads their language model, and nothing of them runs code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from heed.agents import DQN, PPO, CheckpointError, QLearning, export, load
from heed.agents.exploration import Thompson
from heed.agents.persistence.checkpoint import write_checkpoint
from heed.agents.persistence.export import shared_name
from heed.agents.persistence.saved_policy import HEADS, heads_of, language_model_of
from heed.agents.persistence.saving import SHARED
from heed.policies.models.language_model import LanguageModelError
from heed.policies.models.loading import load_language_model
from heed.policies.models.tiny import TEMPLATE
from tests.buttons import make_buttons
from tests.doors import make_doors
from tests.small_models import BUILDERS, ENCODER_DECODERS

WORDS = {"instruction": ["press the blue button", "press the red button"], "observation": ["three buttons"] * 2}
STEPS = 64
OPTIONS: dict[type[PPO | DQN], dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 32, "n_epochs": 2},
    DQN: {"learning_starts": 48, "buffer_size": 128, "batch_size": 16, "gradient_steps": 1},
}


def trained(kind: type[PPO | DQN], model: str = "heed-tiny", head: str = "score", **options: Any) -> PPO | DQN:
    policy_kwargs = {"max_prompt_tokens": 64, "model": model, "head": head}
    agent = kind(env=make_buttons(4), seed=0, policy_kwargs=policy_kwargs, **{**OPTIONS[kind], **options})
    agent.learn(STEPS)
    return agent


def saved_model(family: str, folder: Path) -> str:
    """Save a small random model of a real architecture to disk, with heed-tiny's tokenizer, as people have theirs."""
    tokenizer = load_language_model("heed-tiny").tokenizer
    torch.manual_seed(0)
    model = BUILDERS[family]() if family in BUILDERS else ENCODER_DECODERS[family]()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def agent() -> PPO | DQN:
    return trained(PPO)


@pytest.fixture(scope="module")
def shared(agent: PPO | DQN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "out"
    export(agent, folder)
    return folder


@pytest.mark.parametrize(
    ("family", "head", "kind"),
    [
        ("gpt2", "score", DQN),  # its input and output embeddings are one
        ("llama", "linear", PPO),
        ("smollm", "score", PPO),
        ("qwen3", "score", PPO),
        ("t5", "score", PPO),
        ("flan-t5", "linear", DQN),
    ],
)
def test_a_shared_agent_acts_as_it_did_and_transformers_loads_its_language_model(
    family: str, head: str, kind: type[PPO | DQN], tmp_path: Path
) -> None:
    model = saved_model(family, tmp_path / "model")
    untrained = load_language_model(model).model.state_dict()
    agent = trained(kind, model, head)
    export(agent, tmp_path / "out")
    shutil.rmtree(tmp_path / "model")  # what was exported stands alone

    loaded = load(tmp_path / "out")
    assert type(loaded) is kind
    assert loaded.num_timesteps == STEPS
    assert np.array_equal(loaded.action_probabilities(WORDS), agent.action_probabilities(WORDS))
    assert np.array_equal(loaded.action_preferences(WORDS), agent.action_preferences(WORDS))

    auto_class: Any = AutoModelForSeq2SeqLM if family in ENCODER_DECODERS else AutoModelForCausalLM
    plain = auto_class.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    tokens = tokenizer("press the red button", return_tensors="pt").input_ids
    more = {"decoder_input_ids": tokens} if family in ENCODER_DECODERS else {}
    own = language_model_of(agent.language_policy)
    with torch.no_grad():
        assert torch.equal(plain(tokens, **more).logits, own.model(tokens, **more).logits)
    again = load_language_model(str(tmp_path / "out"))
    weights = again.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in own.model.state_dict().items())
    assert any(not torch.equal(weights[name], tensor) for name, tensor in untrained.items())  # it was the trained one


def test_the_template_stays_with_the_model(shared: Path, tmp_path: Path) -> None:
    assert load_language_model(str(shared)).template == TEMPLATE  # and not the one of any other folder
    # Others tune the language model further and save it with transformers alone.
    AutoModelForCausalLM.from_pretrained(shared).save_pretrained(tmp_path / "tuned")
    AutoTokenizer.from_pretrained(shared).save_pretrained(tmp_path / "tuned")
    assert load_language_model(str(tmp_path / "tuned")).template == TEMPLATE
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    (tmp_path / "tuned" / "config.json").write_text(json.dumps({**config, "heed_template": 5}))
    with pytest.raises(LanguageModelError, match=r"heed_template .* cannot be used: .*, not 5"):
        load_language_model(str(tmp_path / "tuned"))


def test_heads_stand_in_a_file_of_their_own_and_nothing_is_pickled(agent: PPO | DQN, shared: Path) -> None:
    files = [path for path in shared.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        assert not path.read_bytes().startswith((b"PK", b"\x80")), f"{path} is a zip or a pickle"
    heads, model = load_file(shared / SHARED / HEADS), load_file(shared / "model.safetensors")
    assert sorted({name.split(".")[0] for name in heads}) == ["mlp_extractor", "value_net"]
    assert len(heads) + len(model) == len(agent.policy.state_dict())  # each weight once: heed-tiny ties nothing
    assert set(heads) == set(heads_of(agent.language_policy))


def test_dqn_shares_one_network_and_what_its_exploration_knows(tmp_path: Path) -> None:
    agent = trained(DQN, exploration=Thompson())
    export(agent, tmp_path / "out")
    assert not [name for name in load_file(tmp_path / "out" / SHARED / HEADS) if "target" in name]
    loaded: Any = load(tmp_path / "out")
    assert np.array_equal(loaded.action_probabilities(WORDS), agent.action_probabilities(WORDS))
    target = loaded.policy.q_net_target.state_dict()
    for name, tensor in loaded.policy.q_net.state_dict().items():
        assert torch.equal(target[name], tensor), name


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_a_training_may_go_on_from_a_shared_agent(kind: type[PPO | DQN], tmp_path: Path) -> None:
    more: dict[str, Any] = {"reference_coef": 0.1} if kind is PPO else {}
    export(trained(kind, **more), tmp_path / "out")
    agent = load(tmp_path / "out", env=make_buttons(4))
    if isinstance(agent, PPO):
        assert agent.reference is not None
        for name, tensor in agent.policy.state_dict().items():
            assert torch.equal(agent.reference.state_dict()[name], tensor), name
    before = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
    agent.learn(STEPS, reset_num_timesteps=False)
    assert agent.num_timesteps == 2 * STEPS
    assert any(not torch.equal(before[name], tensor) for name, tensor in agent.policy.state_dict().items())


def test_what_is_there_is_left_alone_and_what_fails_leaves_nothing(agent: PPO | DQN, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("taken", "file", "link"):
        with pytest.raises(FileExistsError, match="is not an empty folder: it is left as it is"):
            export(agent, tmp_path / name)
    before = sorted(tmp_path.rglob("*"))

    def full(folder: Path) -> None:
        raise OSError("No space left on device")

    for more in ({"add_to_model": full}, {"add_to_agent": full}):
        with pytest.raises(OSError, match="No space left"):
            export(agent, tmp_path / "out", **more)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    export(agent, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_modalities_and_changing_actions_are_shared_too(tmp_path: Path) -> None:
    policy_kwargs = {"max_prompt_tokens": 64}
    agent = PPO(env=make_doors(4, numbers=True), seed=0, policy_kwargs=policy_kwargs, **OPTIONS[PPO])
    agent.learn(STEPS)
    export(agent, tmp_path / "out")
    assert "network.auxiliary.networks.numbers.5.weight" in load_file(tmp_path / "out" / SHARED / HEADS)
    seen = {
        "instruction": ["go through the red door"] * 2,
        "observation": ["room 1"] * 2,
        "actions": [("open the red door", "wait"), ("wait", "open the blue door")],
        "numbers": np.array([[1.0, 2.0], [3.0, 2.0]], dtype=np.float32),
    }
    loaded = load(tmp_path / "out")
    assert np.array_equal(loaded.action_probabilities(seen), agent.action_probabilities(seen))


def test_a_table_has_no_language_model_to_share(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="QLearning has no language model"):
        export(QLearning(env=make_buttons(2)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_folder_is_refused_and_a_pickle_in_it_is_not_read(shared: Path, tmp_path: Path) -> None:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(shared, tmp_path / name))

    folder = copied("heads")
    file = folder / SHARED / HEADS
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"heads.safetensors is cut off"):
        load(folder)
    folder = copied("model")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="holds no whole language model"):
        load(folder)
    file.unlink()
    torch.save({"weights": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(
        CheckpointError, match=r"has no weights as safetensors\. Pickled ones \(pytorch_model\.bin\) can run code"
    ):
        load(folder)
    # The card, and what a download adds, may be changed; the agent's own files may not.
    folder = copied("card")
    (folder / "README.md").write_text("mine")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    assert load(folder).num_timesteps == STEPS
    (folder / SHARED / "more.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"more.json does not belong"):
        load(folder)


def test_heads_of_another_agent_are_refused(shared: Path, tmp_path: Path) -> None:
    heads = load_file(shared / SHARED / HEADS)

    def with_heads(name: str, changed: dict[str, torch.Tensor]) -> Path:
        folder = Path(shutil.copytree(shared, tmp_path / name))

        def fill(home: Path) -> None:
            shutil.copyfile(shared / SHARED / "agent.json", home / "agent.json")
            save_file(changed, home / HEADS)

        write_checkpoint(folder / SHARED, fill)
        return folder

    assert load(with_heads("same", heads)).num_timesteps == STEPS
    wider = {**heads, "value_net.weight": torch.zeros(1, 3)}
    language_model = {**heads, "network.model.lm_head.weight": torch.zeros(471, 64)}
    fewer = {name: tensor for name, tensor in heads.items() if name != "value_net.bias"}
    for name, changed in (("wider", wider), ("more", language_model), ("fewer", fewer)):
        with pytest.raises(CheckpointError, match=r"heads.safetensors does not fit the agent"):
            load(with_heads(name, changed))


def test_a_shared_name_tells_no_folders(tmp_path: Path) -> None:
    assert shared_name("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
    assert shared_name("heed-tiny") == "heed-tiny"
    assert shared_name(str(tmp_path / "my-model")) == "my-model"
    assert shared_name("./models/mine") == "mine"
    assert shared_name("~/mine") == "mine"
