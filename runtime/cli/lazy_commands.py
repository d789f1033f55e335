"""Commands by name that are loaded when they are called: listing them for ``--help`` or a shell's completion loads none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is: ``module``, and its ``attribute`` there, a function or a ``typer.Typer`` with commands below it.

    ``help`` is what the list of commands says of it: the same as the function's docstring or the Typer's help (a test holds it so).
    ``context`` are click's context settings; a command that has some is given ``help`` for its own.
    """

    module: str
    attribute: str
    help: str
    context: Mapping[str, Any] = field(default_factory=dict)

    def listed(self, name: str) -> Any:
        """A stand-in under ``name`` that knows its help and nothing else."""
        return TyperCommand(name, help=self.help)

    def loaded(self, name: str) -> Any:
        """The command itself."""
        found = getattr(import_module(self.module), self.attribute)
        if isinstance(found, typer.Typer):
            group = get_group(found)
            group.name = name
            return group
        one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        if self.context:
            one.command(name=name, context_settings=dict(self.context), help=self.help)(found)
        else:
            one.command(name=name)(found)
        return get_command(one)


class LazyGroup(TyperGroup):
    """A group whose subclass names its commands in ``LAZY``, in the order of the list."""

    LAZY: ClassVar[Mapping[str, LazyCommand]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # What is listed, completed, and looked through for what somebody may have meant when he mistyped.
        self.commands = {name: lazy.listed(name) for name, lazy in self.LAZY.items()}

    def resolve_command(self, ctx: Any, args: Sequence[str]) -> Any:
        """The command that is called, loaded now."""
        name, _, rest = super().resolve_command(ctx, list(args))
        return name, None if name is None else self.LAZY[name].loaded(name), rest
