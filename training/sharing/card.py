"""The model card of a shared agent: what it is, how well it does what it is told, how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from heed.agents.policy_agent import LanguagePolicyAgent
from heed.evaluation.command_line import told_command
from heed.evaluation.names import TRUE
from heed.evaluation.report.data import EnvironmentData, EvaluationData, cell_of, main_policy, policy_names
from heed.evaluation.report.sentences import does_it_listen, how_well
from heed.policies.backbones.sentence_encoder import USE
from heed.policies.models.language_model import HUB_IDS, SHIPPED
from heed.policies.words.model import WordsModel
from heed.training.comparison.options import command_of

TEMPLATES = Path(__file__).parent
TASK = "reinforcement-learning"


def card_of(
    agent: LanguagePolicyAgent,
    config: dict[str, Any],
    evaluation: EvaluationData | None,
    *,
    name: str,
    repository: str | None,
    gifs: Sequence[str],
) -> ModelCard:
    """Return the card.

    Args:
        agent: that is shared.
        config: the run's, without its trainer's folders.
        evaluation: of this very agent, if there is one.
        name: of the agent.
        repository: on the hub, if it goes there.
        gifs: names of the files beside the card that show episodes.
    """
    language_model = agent.language_policy.language_model
    model = language_model.model
    environments = [] if evaluation is None else evaluation["environments"]
    body = (
        _templates()
        .get_template("model_card.md")
        .render(
            name=name,
            folder=repository or name,
            repository=repository,
            config=config,
            steps=agent.num_timesteps,
            trainable=language_model.backbone.trains,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            auto_class=language_model.backbone.auto_class,
            base=HUB_IDS.get(config["model"], config["model"]),
            adapter=None if language_model.adapter is None else language_model.adapter.method,
            shipped=config["model"] in SHIPPED,
            of_heed=isinstance(model, WordsModel),  # transformers has no such architecture
            prompt=agent.language_policy.encoder.template.text,
            evaluation=evaluation,
            environments=[
                {
                    "env": environment["env"],
                    "sentences": [told for told in (how_well(environment), *does_it_listen(environment)) if told],
                    "rows": list(_rows(environment)),
                    "following": _following(environment),
                }
                for environment in environments
            ],
            gifs=gifs,
            command=command_of(config, seeds=[config["seed"]]),
        )
    )
    return ModelCard(f"---\n{_data(config, environments, name).to_yaml()}\n---\n\n{body}")


def _data(config: dict[str, Any], environments: Sequence[EnvironmentData], name: str) -> ModelCardData:
    """Return the card's front matter, which the hub reads."""
    results = [result for environment in environments for result in _results(environment)]
    more: dict[str, Any] = {"eval_results": results, "model_name": name} if results else {}
    model = config["model"]
    if model in (*SHIPPED, USE):
        more["license"] = "apache-2.0"  # as Heed itself; what others' weights allow, their card says
    elif model in HUB_IDS:
        more |= {"license": "apache-2.0", "base_model": HUB_IDS[model]}
    elif model.count("/") == 1:
        more["base_model"] = model
    tags = ["heed", TASK, "language-model-agent", config["agent"], *config["env"].split("+")]
    return ModelCardData(library_name="heed", pipeline_tag=TASK, tags=list(dict.fromkeys(tags)), **more)


def _results(environment: EnvironmentData) -> Iterator[EvalResult]:
    env = environment["env"]
    common: dict[str, Any] = {"task_type": TASK, "dataset_type": env, "dataset_name": env}
    for policy in policy_names(environment):
        success = cell_of(environment, TRUE, policy).get("success")
        if success is not None and policy == main_policy(environment):
            yield EvalResult(
                **common,
                metric_type="success_rate",
                metric_name=f"success, actions {policy}",
                metric_value=round(success["value"], 4),
            )
    score = environment.get("following", {}).get("score")
    if score is not None:
        yield EvalResult(
            **common,
            metric_type="instruction_following_score",
            metric_name="instruction-following score",
            metric_value=round(score["value"], 4),
        )


def _rows(environment: EnvironmentData) -> Iterator[dict[str, str]]:
    """Yield a row of the table for each axis and policy, with figures as text."""
    order = policy_names(environment)
    for axis in environment["axes"]:
        for policy in sorted(axis["policies"], key=order.index):
            cell = axis["policies"][policy]
            low, high = cell["success"]["ci95"]
            told = cell.get("shown_success")
            yield {
                "axis": _plain(axis["axis"]),
                "policy": _plain(policy),
                "episodes": str(cell.get("episodes", "")),
                "success": f"{cell['success']['value']:.3f} ({low:.3f} to {high:.3f})",
                "shown": "" if told is None else f"{told['value']:.3f}",
                "episode_return": _number(cell, "episode_return", 2),
                "length": _number(cell, "length", 1),
            }


def _number(cell: Any, name: str, digits: int) -> str:
    return f"{cell[name]['value']:.{digits}f}" if name in cell else ""


def _following(environment: EnvironmentData) -> str:
    score = environment.get("following", {}).get("score")
    if score is None:
        return ""
    low, high = score["ci95"]
    return f"{score['value']:.3f} ({low:.3f} to {high:.3f})"


def _plain(text: str) -> str:
    """Return text that ends no cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


def _templates() -> jinja2.Environment:
    # Markdown, and no page: what would be escaped here are the card's own words.
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["quoted"] = told_command
    templates.filters["literal"] = json.dumps
    return templates
