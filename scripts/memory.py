"""`heed memory`: estimate what a training needs, before it begins, without loading any weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heed.training.command_line.parsing import parse
from heed.training.errors import ConfigurationError, as_sentence
from heed.training.model_file import use_model_file
from heed.training.options import TrainConfig

if TYPE_CHECKING:
    from rich.console import Console

    from heed.training.memory.estimate import Estimate

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(TrainConfig):
    """Estimate the memory that `heed train` needs with the same options; no weights are loaded."""

    prompt_tokens: int | None = None
    """Reckon with different prompts of just so many tokens (default: those that random actions come by)."""
    smaller: bool = True
    """Try out what would take less."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        super().__post_init__()
        if self.prompt_tokens is not None and self.prompt_tokens < 1:
            raise ConfigurationError(f"--prompt-tokens is {self.prompt_tokens}, but must be at least 1.")


def memory(config: MemoryConfig) -> Estimate:
    """Estimate, and print a table of it.

    Raises:
        DeviceError: if --device names no device.
        ConfigurationError: if the agent has no language model, or options do not go together.
        LanguageModelError: if there is no such model.
        UnknownEnvironmentError, ContractError: if the environment cannot be used.
    """
    from rich.console import Console

    from heed.agents.device import AUTO, named_device
    from heed.training.memory.estimate import estimate_memory
    from heed.training.memory.machine import free_memory
    from heed.training.memory.telling import told

    if config.device != AUTO:
        named_device(config.device)  # which need not be there: the estimate may be for another machine
    console = Console(highlight=False)
    with console.status("estimating"):
        estimate = estimate_memory(config, prompt_tokens=config.prompt_tokens)
    _show(config, estimate, console)
    free = free_memory(estimate.device)
    if free is not None:
        fits = estimate.new <= free
        console.print(
            f"{told(free)} are free on {estimate.device}: it {'fits' if fits else '[bold]does not fit[/bold]'}."
        )
    if config.smaller:
        for option, size in _smaller(config, estimate):
            console.print(f"  with {option}: {told(size)}", markup=False)
    return estimate


def _show(config: MemoryConfig, estimate: Estimate, console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"{config.agent} with {config.model} on {config.env}, {estimate.device}", title_justify="left")
    table.add_column("what")
    table.add_column("MiB", justify="right")
    table.add_column("")
    on_gpu = estimate.device.type == "cuda"
    for part in estimate.parts:
        place = " (main memory)" if on_gpu and part.place == "host" else ""
        table.add_row(part.name + place, f"{part.size / MIB:,.1f}", part.note)
    table.add_section()
    table.add_row("together", f"{estimate.total('device') / MIB:,.1f}", f"on {estimate.device}" if on_gpu else "")
    if on_gpu:
        table.add_row("in main memory", f"{estimate.total('host') / MIB:,.1f}", "")
    console.print(table)
    prompts, tokens = estimate.minibatch
    console.print(
        f"A minibatch has about {prompts} different prompts of up to {estimate.prompt_tokens} tokens, {tokens} "
        f"{estimate.unit} in all."
    )


def _smaller(config: MemoryConfig, estimate: Estimate) -> Iterator[tuple[str, int]]:
    """Yield options that would make it smaller, and what it would be with each."""
    from heed.training.memory.estimate import estimate_memory

    for option, changed in _options(config, estimate):
        less = estimate_memory(changed, prompt_tokens=config.prompt_tokens).new
        if less < estimate.new:  # the process grows while it estimates
            yield option, estimate.total("device") - estimate.new + less


def _options(config: MemoryConfig, estimate: Estimate) -> Iterator[tuple[str, MemoryConfig]]:
    if not estimate.trainable:
        return
    trains = config.train_layers != 0
    tokens = estimate.part_tokens // 4
    if trains and tokens > estimate.prompt_tokens:
        yield f"--micro-batch-tokens {tokens}", dataclasses.replace(config, micro_batch_tokens=tokens)
    if trains and not config.activation_checkpointing and not config.compiled:
        yield "--activation-checkpointing", dataclasses.replace(config, activation_checkpointing=True)
    if config.adapter is None and config.train_layers is None:
        yield "--adapter lora", dataclasses.replace(config, adapter="lora")
    elif config.weights == "float32" and (config.adapter is not None or not trains):
        yield "--weights bfloat16", dataclasses.replace(config, weights="bfloat16", precision="auto")


def main(arguments: list[str] | None = None) -> None:
    """Run `heed memory` with the command line's arguments."""
    with as_sentence():
        config = parse(MemoryConfig, arguments, command="heed memory")
        use_model_file(config.model)
        memory(config)


if __name__ == "__main__":
    main()
