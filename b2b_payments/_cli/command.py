"""What commands have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import click

Handler = Callable[..., None]
"""What carries a command out."""


class Command(click.Command):
    """A command that takes an option once, unless it is made to be repeated: click would take the last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments. Raises UsageError."""
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for parameter, times in Counter(given).items():
            if times > 1 and isinstance(parameter, click.Option) and not parameter.multiple:
                raise click.UsageError(f"{parameter.opts[0]} is given {times} times; give it once.", ctx)
        return super().parse_args(ctx, args)


def with_options(function: Handler, options: Sequence[Callable[[Handler], Handler]]) -> Handler:
    """Give a function options, in the order in which help is to list them."""
    for option in reversed(options):
        function = option(function)
    return function
