"""A change of weights is noticed, whoever made it: nothing that was computed before is used after it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import polyak_update
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from heed.envs.contract import TextActions
from heed.policies.caches import weights_watch
from heed.policies.caches.weights_watch import WeightsWatch
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel
from heed.policies.models.loading import load_language_model
from heed.policies.networks.choosing import make_network
from heed.policies.networks.prompt_network import PromptNetwork
from heed.policies.prompts.prompt import PromptEncoder
from tests.small_encoders import save_encoder

Write = Callable[[nn.Module], Any]


class HomeMade(torch.optim.Optimizer):
    """Gradient descent that writes through NumPy, as an optimizer with a kernel of its own writes through a pointer."""

    def __init__(self, weights: Any, lr: float):
        super().__init__(weights, {"lr": lr})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # takes none
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    values = weight.detach().numpy()
                    values -= group["lr"] * weight.grad.numpy()


def step_of(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> Write:
    def write(module: nn.Module) -> None:
        weights = list(module.parameters())
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        make(weights).step()

    return write


def optimizer(kind: Any, **settings: Any) -> Write:
    return step_of(lambda weights: kind(weights, lr=1e-2, **settings))


def largest(module: nn.Module) -> nn.Parameter:
    return max(module.parameters(), key=lambda weight: weight.numel())


def other_parameters(module: Any) -> None:
    module.load_state_dict({name: weight + 0.01 for name, weight in module.state_dict().items()}, assign=True)


def another_parameter(module: Any) -> None:
    first = next(child for child in module.modules() if isinstance(getattr(child, "weight", None), nn.Parameter))
    first.weight = nn.Parameter(first.weight.detach() + 0.01)


def another_module(module: Any) -> None:
    name, child = next((name, child) for name, child in module.named_modules() if name and not list(child.children()))
    replaced = copy.deepcopy(child)
    for weight in replaced.parameters():
        weight.data.add_(0.01)
    module.set_submodule(name, replaced)


def one_number(weight: Tensor) -> None:
    weight.data.view(-1)[weight.numel() // 2 + 1] += 0.01


def through_numpy(module: nn.Module) -> None:
    values = largest(module).detach().numpy()
    values[...] = np.roll(values, 1)


def move_towards(module: nn.Module) -> None:
    others = [weight.detach() + 1 for weight in module.parameters()]
    polyak_update(others, list(module.parameters()), 0.01)


WRITES: dict[str, Write] = {
    **{f"fused {kind.__name__}": optimizer(kind, fused=True) for kind in (torch.optim.Adam, torch.optim.AdamW)},
    "fused SGD": optimizer(torch.optim.SGD, fused=True),
    "fused Adagrad": optimizer(torch.optim.Adagrad, fused=True),
    "foreach Adam": optimizer(torch.optim.Adam, foreach=True),
    "plain Adam": optimizer(torch.optim.Adam, foreach=False),
    "a home-made optimizer": optimizer(HomeMade),
    "load_state_dict": lambda m: m.load_state_dict({name: weight + 0.01 for name, weight in m.state_dict().items()}),
    "load_state_dict, assigned": other_parameters,
    "another parameter": another_parameter,
    "another module": another_module,
    ".data.copy_": lambda m: largest(m).data.copy_(largest(m).detach().roll(1)),
    ".data = ": lambda m: setattr(largest(m), "data", largest(m).detach() + 0.01),
    ".data, one number": lambda m: one_number(largest(m)),
    ".data, negated": lambda m: largest(m).data.neg_(),
    ".data, in another order": lambda m: largest(m).data.copy_(largest(m).detach().flip(0).clone()),
    "NumPy": through_numpy,
    "vector_to_parameters": lambda m: vector_to_parameters(parameters_to_vector(m.parameters()) + 0.01, m.parameters()),
    "Polyak": move_towards,
    "in place": lambda m: nn.init.normal_(largest(m)),
}


class Block(nn.Module):
    """A little of everything: tied, odd-sized, without elements, transposed, of other types."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(200, 33)
        self.head = nn.Linear(33, 200)
        self.head.weight = self.embedding.weight
        self.scale = nn.Parameter(torch.ones(()))
        self.none = nn.Parameter(torch.ones(0, 3))
        self.turned = nn.Parameter(torch.randn(7, 5).t())
        self.short = nn.Parameter(torch.randn(5).bfloat16())


@pytest.mark.parametrize("name", WRITES)
def test_whoever_writes_is_noticed(name: str) -> None:
    module = nn.Sequential(nn.Linear(40, 60), nn.LayerNorm(60), nn.Linear(60, 2))
    watch = WeightsWatch(module)
    assert watch.changed(), "at first"
    for _ in range(2):
        assert not watch.changed()
        WRITES[name](module)
        assert watch.changed()
    assert not watch.changed()


@pytest.mark.parametrize("name", WRITES)
def test_of_a_large_model_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_watch, "READ_WHOLE_BYTES", 0)
    module = nn.Sequential(nn.Linear(40, 60), nn.LayerNorm(60), nn.Linear(60, 2))
    watch = WeightsWatch(module)
    watch.changed()
    assert not watch.changed()
    WRITES[name](module)
    # A single number among many is noticed as soon as the weights are read whole.
    looks = weights_watch.READ_WHOLE_EVERY if name == ".data, one number" else 1
    assert any(watch.changed() for _ in range(looks))
    assert not watch.changed()


@pytest.mark.parametrize("place", [name for name, weight in Block().named_parameters() if weight.numel()])
def test_each_kind_of_weight_is_read(place: str) -> None:
    module = Block()
    watch = WeightsWatch(module)
    watch.changed()
    assert not watch.changed()
    weight = module.get_parameter(place)
    weight.data[(-1,) * weight.dim()] += 1
    assert watch.changed()
    assert not watch.changed()


def test_what_is_left_out_may_change() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    watch = WeightsWatch(module, skip=["1.weight"])
    watch.changed()
    module.get_parameter("1.weight").data.add_(1)
    assert not watch.changed()
    module.get_parameter("0.weight").data.add_(1)
    assert watch.changed()


def test_a_step_without_a_gradient_changes_nothing() -> None:
    module = nn.Linear(3, 3)
    watch = WeightsWatch(module)
    watch.changed()
    torch.optim.Adam(module.parameters(), fused=True).step()
    assert not watch.changed()


def test_a_watch_is_copied_with_its_module_and_begins_anew() -> None:
    module: Any = nn.Linear(200, 200)
    module.watch = WeightsWatch(module)
    module.watch.changed()
    copied = copy.deepcopy(module)
    assert copied.watch.changed()
    assert not copied.watch.changed()
    module.weight.data.add_(1)
    assert not copied.watch.changed()
    assert module.watch.changed()


# -- what is kept of prompts ---------------------------------------------------------------------------------------

ACTIONS = TextActions(("turn left", "go forward"))
TRANSCRIPT = "red ball 1 ahead; wall 2 left; then blue key 3 ahead"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = save_encoder("bert", tmp_path_factory.mktemp("encoders") / "bert")
    return load_language_model(str(folder))


KINDS: dict[str, dict[str, Any]] = {
    "readings": {},
    "readings of a frozen model": {"train_layers": 0},
    "frozen layers": {"train_layers": 1},
    "prefixes": {},
    "an encoder's": {"encoder": True},
    "a frozen encoder's, with each action": {"encoder": True, "train_layers": 0},
    "segments": {"encoder": True, "train_layers": 0, "segments": True},
}


def network_of(
    language_model: LanguageModel, *, segments: bool = False, train_layers: int | None = None
) -> tuple[PromptNetwork, PromptEncoder]:
    encoder = language_model.encoder(max_tokens=80, segments=segments)
    torch.manual_seed(0)
    options = ModelOptions(head="linear" if segments else "score", train_layers=train_layers)
    actions = spaces.Discrete(2) if segments else ACTIONS
    return make_network(language_model.copy(), actions, options, encoder=encoder), encoder


def read(network: PromptNetwork, encoder: PromptEncoder, words: int) -> Tensor:
    observation = " ".join(TRANSCRIPT.split()[:words])
    prompts = torch.as_tensor(encoder({"instruction": ["go to the red ball"], "observation": [observation]}))
    with torch.no_grad():
        features, scores = network(prompts)
    return features if scores is None else torch.cat([features, scores], dim=1)


@pytest.mark.parametrize("write", ["fused Adam", "a home-made optimizer", "load_state_dict", ".data.copy_", "NumPy"])
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_read_with_the_weights_there_are(kind: str, write: str, bert: LanguageModel) -> None:
    options = dict(KINDS[kind])
    language_model = bert if options.pop("encoder", False) else load_language_model("heed-tiny")
    network, encoder = network_of(language_model, **options)
    network.train(False)
    words = len(TRANSCRIPT.split())
    for fewer in (3, 2, 1, 0):  # as a transcript grows
        before = read(network, encoder, words - fewer)
    assert network.memory is not None
    assert len(network.memory)
    if kind == "frozen layers":
        assert network.frozen is not None
        assert len(network.frozen.memory)
    if kind == "prefixes":  # what is read next goes on from these
        assert network.prefixes is not None
        assert network.prefixes._filled.any()
        network.memory = None
    WRITES[write](network.model)
    after = read(network, encoder, words)
    with network.reading_anew():
        expected = read(network, encoder, words)
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)
    assert (after - before).abs().max() > 1e-2
