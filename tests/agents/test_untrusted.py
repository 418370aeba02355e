"""A stranger's checkpoint never runs code, never writes outside, never asks for terabytes; and it is said why not."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from heed.agents import PPO, CheckpointError, load
from heed.agents.persistence.checkpoint import verify_checkpoint
from heed.envs import LanguageVecEnv
from heed.envs.faults import TooManyLostEpisodesError
from heed.policies.models.language_model import LanguageModelError
from heed.policies.models.loading import load_language_model, rebuild_language_model
from heed.policies.prompts.prompt import TEMPLATE
from tests.checkpoint_files import change_json, copy_of, put, sign, small_checkpoint
from tests.places import Places

HUGE = 2**50
MEMORY = 512 * 2**20
"""By how much a refusal may raise the memory of the process."""


class Evil:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def jinja(text: str) -> dict[str, str]:
    """Return a Jinja template as a checkpoint holds it."""
    return {"text": text, "syntax": "jinja"}


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """Yield a path that only run code makes, and see that nothing has."""
    path = tmp_path / "trap"
    yield path
    assert not path.exists()


@pytest.fixture(autouse=True)
def little_time_and_memory() -> Iterator[None]:
    """See that nothing large was made."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
    assert time.process_time() - began < 20


def test_the_trap_snaps_where_a_pickle_is_loaded(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "trap")))  # noqa: S301 - our own
    assert (tmp_path / "trap").is_dir()


# -- pickles, links, names ---------------------------------------------------------------------------------------------

OF_LANGUAGE_MODEL = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
FILES = (
    "agent.json",
    "exploration.json",
    "exploration.safetensors",
    *(f"language_model/{name}" for name in OF_LANGUAGE_MODEL),
    "manifest.json",
    "optimizer.safetensors",
    "policy.safetensors",
    "random.safetensors",
    "replay_buffer.json",
    "replay_buffer.safetensors",
)


def test_all_files_of_a_checkpoint_are_tried() -> None:
    folder = small_checkpoint("dqn")
    assert set(FILES) == {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_any_file_is_never_read(name: str, tmp_path: Path, trap: Path) -> None:
    folder = copy_of("dqn", tmp_path)
    (folder / name).write_bytes(pickle.dumps(Evil(trap)))
    if name != "manifest.json":
        sign(folder)
    with pytest.raises(CheckpointError, match=Path(name).name if "language_model" not in name else "dqn"):
        load(folder)


@pytest.mark.parametrize("protocol", range(6))
def test_weights_of_every_pickle_protocol_and_of_torch_are_told(protocol: int, tmp_path: Path, trap: Path) -> None:
    folder = copy_of("ppo", tmp_path)
    (folder / "policy.safetensors").write_bytes(pickle.dumps(Evil(trap), protocol=protocol))
    sign(folder)
    with pytest.raises(CheckpointError, match=r"holds a pickle" if protocol > 1 else r"policy\.safetensors is damaged"):
        load(folder)
    torch.save({"weight": torch.zeros(2)}, folder / "policy.safetensors")
    sign(folder)
    with pytest.raises(CheckpointError, match="zip archive, as of pickled weights"):
        load(folder)


@pytest.mark.parametrize(
    "name", ["policy.pt", "language_model/pytorch_model.bin", "language_model/modeling_evil.py", "policy.pkl", "run.so"]
)
def test_a_file_of_a_kind_that_can_run_code_is_refused(name: str, tmp_path: Path, trap: Path) -> None:
    folder = copy_of("ppo", tmp_path)
    (folder / name).write_bytes(pickle.dumps(Evil(trap)))
    sign(folder)
    with pytest.raises(CheckpointError, match=rf"{Path(name).name} does not belong to a checkpoint"):
        load(folder)


@pytest.mark.parametrize("name", ["../secret.json", "/etc/passwd", "a/../../secret.json", "..\\secret.json", "", "./x"])
def test_a_name_that_leads_out_of_the_checkpoint_is_refused(name: str, tmp_path: Path) -> None:
    folder = copy_of("ppo", tmp_path)
    (tmp_path / "secret.json").write_text("{}")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 2, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="is no file within the checkpoint"):
        load(folder)


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    elsewhere = copy_of("dqn", tmp_path)
    folder = copy_of("ppo", tmp_path)
    weights = folder / "policy.safetensors"
    weights.rename(tmp_path / "outside.safetensors")
    weights.symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(CheckpointError, match=r"policy\.safetensors is a symbolic link"):
        load(folder)
    weights.unlink()
    os.mkfifo(weights)  # to open it would wait for ever
    with pytest.raises(CheckpointError, match=r"policy\.safetensors is no plain file"):
        load(folder)
    weights.unlink()
    (tmp_path / "outside.safetensors").rename(weights)
    verify_checkpoint(folder)
    (folder / "language_model").rename(tmp_path / "language_model")
    (folder / "language_model").symlink_to(elsewhere / "language_model")
    with pytest.raises(CheckpointError, match="language_model is a symbolic link"):
        load(folder)


def test_saving_never_goes_through_a_link(tmp_path: Path) -> None:
    agent = load(small_checkpoint("ppo"))
    theirs = copy_of("dqn", tmp_path)
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(FileExistsError, match="is a symbolic link"):
        agent.save(tmp_path / "link")
    assert type(load(theirs)).__name__ == "DQN"


# -- what JSON asks for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        ("class", "os.system", r"unknown class 'os\.system'"),
        ("class", ["PPO"], "unknown class"),
        ("arguments/tensorboard_log", "{trap}", "'tensorboard_log' is no argument that a checkpoint has"),
        ("arguments/device", "cuda", "'device' is no argument"),
        ("arguments/policy", "os.system", "'policy' is no argument"),
        ("counters/tensorboard_log", "{trap}", "'tensorboard_log' is nothing that a checkpoint counts"),
        ("counters/__class__", 1, "'__class__' is nothing that a checkpoint counts"),
        ("counters/num_timesteps", "many", "which is no number"),
        ("arguments/learning_rate", {"os.system": ["mkdir {trap}"]}, "KeyError: 'os.system'"),
        ("arguments/learning_rate", {"exploration": {"name": "os.system", "schedule": {}}}, "os.system"),
        ("arguments/learning_rate", "os.system", "does not hold what an agent is made of"),
        ("policy/optimizer_class", "os.system", "does not hold what an agent is made of"),
        ("policy/optimizer_class", {"optimizer_class": "os.system"}, r"'os\.system', which this program does not know"),
        ("policy/optimizer_class", {"optimizer_class": "torch.optim.LBFGS"}, "LBFGS cannot train a policy"),
        ("policy/optimizer_kwargs", {"dict": {"params": []}}, "optimizer_kwargs has 'params'"),
        ("policy/optimizer_kwargs", {"dict": {"{trap}": 1}}, "unexpected keyword argument"),
        ("policy/optimizer_kwargs", {"dict": ["{trap}"]}, "does not hold what an agent is made of"),
        ("policy/optimizer_kwargs", {"eval": {}}, "KeyError: 'eval'"),
        ("policy/optimizer_kwargs", [1], "must be a dictionary"),
        ("policy", [], "its 'policy' are missing or no dict"),
        ("policy/model", "{trap}", None),  # the agent's own takes its place
        ("policy/features_extractor_class", "os.system", "does not hold what an agent is made of"),
        ("language_model/template", "{instruction.__class__} {observation}", "is not a plain instruction"),
        ("language_model/template", "{instruction} {observation:>1000000000000}", "is not a plain instruction"),
        ("language_model/template", "{instruction!r} {observation}", "is not a plain instruction"),
        ("language_model/template", jinja("{{ instruction.__class__ }} {{ observation }}"), "attribute '__class__'"),
        ("language_model/template", jinja("{{ instruction }} {{ observation * 10 ** 9 }}"), "the part 'mul'"),
        (
            "language_model/template",
            jinja("{{ instruction }}" + "{% for a in observation %}" * 9 + "{{ observation }}" + "{% endfor %}" * 9),
            "more than 1000 turns",
        ),
        ("language_model/template", {"text": "{instruction}{observation}", "before_action": "a"}, "a space or nothing"),
        ("language_model/template", 5, "A prompt template is a text"),
        ("language_model/tied", "{trap}", "is tied to something"),
        ("action_space/dtype", "O", "its actions are of type 'O'"),
        ("n_envs", HUGE, "n_envs is"),
        ("n_envs", -1, "n_envs is -1"),
        ("n_envs", "2", "n_envs is '2'"),
        ("arguments/n_steps", HUGE, "GiB of memory; this machine has"),
        ("max_prompt_tokens", HUGE, "max_prompt_tokens is"),
        ("modalities", [{"key": "numbers", "count": HUGE}], "columns is"),
        ("modalities", [{"key": "actions", "most": HUGE}], "columns is"),
        ("modalities", [{"key": "image", "height": 10**6, "width": 10**6, "channels": 3}], "columns is"),
        ("modalities", [{"key": "image", "height": -1, "width": 2, "channels": 3}], "positive whole numbers"),
        ("modalities", [{"key": "os.system"}], r"No modality reads the key 'os\.system'"),
        ("action_space", {"n": HUGE}, "actions is"),
        ("action_space", {"nvec": [HUGE]}, "actions is"),
        ("action_space", {"binary": HUGE}, "actions is"),
        ("policy/value_hidden", 2**28, "networks far larger than the tensors in it"),
        ("policy/value_hidden", HUGE, "does not hold what an agent is made of"),
        ("policy/value_hidden", 8, r"policy\.safetensors does not fit the agent"),
        ("episodes", [[{"r": "much"}], []], "return or length is no number"),
        ("random/numpy", ["os.system", [1], 0, 0, 0.0], "does not hold what an agent is made of"),
        ("log/train~loss", "nothing", "cannot be used"),
        ("log/train~loss", ["nothing", []], "the log's 'train~loss' is 'nothing'"),
        ("episode_starts", [True], "is not of each environment"),
        ("optimizer/groups", [], "does not hold what an agent is made of"),
        ("envs", {"episodes": [HUGE]}, "does not hold what an agent is made of"),
    ],
)
def test_what_agent_json_must_not_say_is_refused(
    where: str, value: Any, reason: str | None, tmp_path: Path, trap: Path
) -> None:
    folder = copy_of("ppo", tmp_path)
    told = json.loads(json.dumps(value).replace("{trap}", str(trap)))
    change_json(folder, "agent.json", put(where, told))
    before = sorted(tmp_path.iterdir())
    if reason is None:
        assert load(folder).num_timesteps == 32
    else:
        with pytest.raises(CheckpointError, match=reason):
            load(folder, env=LanguageVecEnv([Places] * 2, seed=0))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("kind", "where", "value", "reason"),
    [
        ("dqn", "arguments/buffer_size", HUGE, "GiB of memory; this machine has"),
        ("dqn", "arguments/exploration", {"exploration": {"name": "thompson", "heads": HUGE}}, "heads"),
        ("dqn", "arguments/exploration", {"exploration": {"name": "subprocess.run", "schedule": {}}}, "subprocess.run"),
        ("q-learning", "action_space", {"n": 2**19}, "does not fit .* states"),
        ("q-learning", "generator", {"bit_generator": "os.system"}, "does not hold what an agent is made of"),
    ],
)
def test_what_other_agents_must_not_ask_for(kind: str, where: str, value: Any, reason: str, tmp_path: Path) -> None:
    folder = copy_of(kind, tmp_path)
    change_json(folder, "agent.json", put(where, value))
    with pytest.raises(CheckpointError, match=reason):
        load(folder)


@pytest.mark.parametrize(
    ("file", "where", "value", "reason"),
    [
        ("config.json", "auto_map", {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}, "'auto_map'"),
        ("config.json", "trust_remote_code", True, "'trust_remote_code'"),
        ("config.json", "_attn_implementation", "stranger/kernel", "'_attn_implementation'"),
        ("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["evil.Tokenizer", None]}, "'auto_map'"),
        ("generation_config.json", "custom_generate", "stranger/decoding", "'custom_generate'"),
        ("config.json", "model_type", "os.system", "does not hold what an agent is made of"),
        ("config.json", "vocab_size", 2**28, "networks far larger than the tensors in it"),
        ("config.json", "vocab_size", HUGE, "is 1125899906842624"),
        ("config.json", "hidden_size", 2**20, "networks far larger|does not hold what an agent is made of"),
        ("config.json", "num_hidden_layers", 10**9, r"'num_hidden_layers' is 1000000000, but the checkpoint has \d+"),
        ("config.json", "num_hidden_layers", 2, "does not fit the agent"),
    ],
)
def test_what_a_language_model_must_not_ask_for(
    file: str, where: str, value: Any, reason: str, tmp_path: Path, trap: Path
) -> None:
    folder = copy_of("ppo", tmp_path)
    change_json(folder, f"language_model/{file}", put(where, value))
    with pytest.raises(CheckpointError, match=reason):
        load(folder)


def test_json_that_nothing_can_be_made_of_is_refused(tmp_path: Path) -> None:
    folder = copy_of("ppo", tmp_path)
    for content in ("[" * 100_000, "9" * 10_000, '{"a": NaN}', "[]", '{"class": "PPO"}', "", "\xff"):
        (folder / "agent.json").write_bytes(content.encode("latin-1"))
        sign(folder)
        with pytest.raises(CheckpointError, match=r"agent\.json"):
            PPO.load(folder)
    manifests: list[Any] = [[], {"format": 3}, {"format": 3, "files": {"agent.json": 3}}, {"format": "3"}]
    for manifest in manifests:
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(CheckpointError, match=r"manifest\.json"):
            load(folder)


# -- tensors -----------------------------------------------------------------------------------------------------------


def header(shape: list[int], end: int) -> bytes:
    """Return a safetensors file whose header promises more than it holds."""
    text = json.dumps({"weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(64)


@pytest.mark.parametrize(
    "content",
    [
        header([2**40, 2**20], 4 * 2**60),
        header([2**40, 2**20], 64),
        header([-1, 16], 64),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**31) + b"{}",
        b"",
    ],
)
@pytest.mark.parametrize("name", ["policy.safetensors", "optimizer.safetensors", "random.safetensors"])
def test_shapes_that_the_file_does_not_hold_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    folder = copy_of("ppo", tmp_path)
    (folder / name).write_bytes(content)
    sign(folder)
    with pytest.raises(CheckpointError, match=rf"{name} is damaged"):
        load(folder)


def as_integers(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    tensors[name] = tensors[name].to(torch.int32)


def transposed(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2 and len(set(tensor.shape)) == 2)
    tensors[name] = tensors[name].T.contiguous()


def one_more(tensors: dict[str, torch.Tensor]) -> None:
    tensors["99.evil"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, change) for name in ("policy", "optimizer") for change in (as_integers, transposed, one_more)),
        ("replay_buffer", as_integers),
        ("replay_buffer", transposed),
    ],
)
def test_tensors_of_wrong_types_shapes_or_names_are_refused(
    name: str, change: Callable[[Any], None], tmp_path: Path
) -> None:
    folder = copy_of("dqn", tmp_path)
    path = folder / f"{name}.safetensors"
    tensors = {key: tensor.clone() for key, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)
    sign(folder)
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors does not fit the agent"):
        load(folder)


def test_random_states_of_wrong_types_and_actions_that_there_are_not_are_refused(tmp_path: Path) -> None:
    folder = copy_of("dqn", tmp_path)
    path = folder / "replay_buffer.safetensors"
    tensors = {key: tensor.clone() for key, tensor in load_file(path).items()}
    tensors["actions"][0] = 3
    save_file(tensors, path)
    sign(folder)
    with pytest.raises(CheckpointError, match="holds actions that are not in"):
        load(folder)
    folder = copy_of("ppo", tmp_path)
    save_file({"torch": torch.zeros(5056)}, folder / "random.safetensors")
    sign(folder)
    with pytest.raises(CheckpointError, match="does not hold what an agent is made of"):
        load(folder)
    folder = copy_of("dqn", tmp_path / "again")
    change_json(folder, "replay_buffer.json", put("position", -5))
    with pytest.raises(CheckpointError, match="places are not in the buffer"):
        load(folder)


# -- chance ------------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_and_no_missing_end_gets_through(tmp_path: Path) -> None:
    folder = copy_of("ppo", tmp_path)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    draw = random.Random(0)
    for trial in range(200):
        path = draw.choice(files)
        content = path.read_bytes()
        damaged = bytearray(content)
        if trial % 2:
            damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del damaged[draw.randrange(len(content)) :]
        path.write_bytes(damaged)
        if path.name == "manifest.json":  # a space may be another space; but what it says must hold
            try:
                verify_checkpoint(folder)
            except CheckpointError:
                pass
            else:
                assert json.loads(damaged) == json.loads(content)
        else:
            with pytest.raises(CheckpointError, match=path.name):
                verify_checkpoint(folder)
        path.write_bytes(content)
    verify_checkpoint(folder)


@pytest.mark.filterwarnings("ignore::heed.envs.faults.LostEpisodeWarning")  # actions that there are not, played again
def test_whatever_is_wrong_in_a_stranger_s_json_comes_out_as_one_kind_of_error(tmp_path: Path) -> None:
    """Values of `agent.json` are replaced by chance, by others that JSON can hold."""
    folder = copy_of("q-learning", tmp_path)
    original = (folder / "agent.json").read_text()
    draw = random.Random(1)
    refused = 0
    for _ in range(150):
        content = json.loads(original)
        parent: Any = content
        key: Any = draw.choice(sorted(content))
        while isinstance(parent[key], dict | list) and parent[key] and draw.random() < 0.8:
            parent = parent[key]
            key = draw.choice(sorted(parent)) if isinstance(parent, dict) else draw.randrange(len(parent))
        parent[key] = draw.choice([None, -1, HUGE, 0.5, "os.system", [], {}, [[]], {"name": 1}, True])
        (folder / "agent.json").write_text(json.dumps(content))
        sign(folder)
        try:
            load(folder, env=LanguageVecEnv([Places] * 2, seed=0))
        except (CheckpointError, TooManyLostEpisodesError):
            refused += 1
    assert refused > 75


# -- language models of strangers --------------------------------------------------------------------------------------


def test_a_model_with_pickled_weights_only_or_code_of_its_own_is_refused(tmp_path: Path, trap: Path) -> None:
    folder = copy_of("ppo", tmp_path)
    model = folder / "language_model"
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(trap)))
    with pytest.raises(LanguageModelError, match=r"no weights as safetensors. Pickled ones .* can run code"):
        load_language_model(str(model))
    torch.save({"weight": torch.zeros(2)}, model / "pytorch_model.bin")
    with pytest.raises(LanguageModelError, match="no weights as safetensors"):
        load_language_model(str(model))
    (model / "evil.py").write_text(f"import os\nos.mkdir({str(trap)!r})\n")
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(LanguageModelError, match="needs code of its own, which heed does not run"):
        load_language_model(str(model))


def test_what_a_known_model_still_says_of_code_is_not_saved(tmp_path: Path) -> None:
    model = copy_of("ppo", tmp_path) / "language_model"
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "theirs.Config"}}))
    (tmp_path / "saved").mkdir()
    rebuild_language_model(model, "mine", TEMPLATE).save(tmp_path / "saved")
    assert "auto_map" not in (tmp_path / "saved" / "config.json").read_text()
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["hidden_size"] == config["hidden_size"]
