"""Options of `heed train` for language models: templates, embeddings, quantized weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heed.agents import load
from heed.policies.prompts.template import Chat, PromptTemplate, TemplateError
from heed.scripts import train as train_module
from heed.training.agent_arguments import agent_arguments
from heed.training.options import TrainConfig
from heed.training.run_folder import RunFolder

LEVEL = "BabyAI-GoToRedBallNoDists-v0"


def policy_kwargs(**options: Any) -> dict[str, Any]:
    given: dict[str, Any] = agent_arguments(TrainConfig(env=LEVEL, **options).resolved())["policy_kwargs"]
    return given


def test_options_become_arguments(tmp_path: Path) -> None:
    file = tmp_path / "prompt.j2"
    file.write_text("{{ observation }} {{ instruction }}:\n", encoding="utf-8")
    assert policy_kwargs(template=str(file))["template"] == PromptTemplate(
        "{{ observation }} {{ instruction }}:", "jinja"
    )
    assert policy_kwargs(template="chat", system_prompt="Move.")["template"] == Chat(system="Move.")
    assert "template" not in policy_kwargs()
    assert policy_kwargs(freeze_embeddings=True)["freeze_embeddings"] is True
    assert policy_kwargs(quantize="4bit", adapter="lora")["quantize"] == "4bit"


def test_a_template_that_cannot_be_used_ends_the_command_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("{instruction} only\n", encoding="utf-8")
    for template, sentence in ((str(file), "needs {instruction} and {observation}"), ("chat", "has no chat template")):
        with pytest.raises(SystemExit) as left:
            train_module.main(["--env", LEVEL, "--template", template, "--run-dir", str(tmp_path / "run")])
        assert left.value.code == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
    with pytest.raises(TemplateError, match="cannot be read"):
        policy_kwargs(template="no-such-file.j2")


def test_a_run_keeps_the_text_of_its_template(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(" {observation}\n {instruction}\n do:\n", encoding="utf-8")
    few = ["--env", LEVEL, "--model", "heed-tiny", "--n-envs", "4", "--steps", "128", "--rollout-steps", "16"]
    few += ["--eval-episodes", "0"]
    run_dir = tmp_path / "run"
    train_module.main([*few, "--device", "cpu", "--template", str(file), "--run-dir", str(run_dir)])
    file.unlink()
    agent: Any = load(RunFolder(run_dir).latest_checkpoint())
    assert agent.language_policy.encoder.template == PromptTemplate(" {observation}\n {instruction}\n do:")
