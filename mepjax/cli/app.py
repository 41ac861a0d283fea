"""Arguments in, exit code out: the typer layer of the command."""

from collections.abc import Sequence
from typing import Annotated

import typer

import mepjax as mj

from .commands.aggregate import aggregate
from .commands.cluster import cluster
from .commands.how_many import how_many
from .commands.learn import learn
from .commands.plan import plan
from .commands.regress import regress
from .commands.reproduce import reproduce
from .commands.route import route
from .commands.steer import steer
from .commands.track import track
from .console import Group, guarded, say
from .options.groups import spread


def run(arguments: Sequence[str]) -> int:
    """Run the command; the exit code is returned. Only bugs raise, under MEPJAX_DEBUG."""
    return guarded(lambda: typer.main.get_command(app)(list(arguments), standalone_mode=False))


app = typer.Typer(cls=Group, add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"mepjax {mj.__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Optimisation by the maximum-entropy principle."""
    if context.invoked_subcommand is None:
        say(context.get_help())


app.command()(spread(cluster))
app.command()(spread(route))
app.command()(spread(plan))
app.command()(spread(steer))
app.command()(spread(track))
app.command()(spread(learn))
app.command("how-many")(spread(how_many))
app.command()(spread(aggregate))
app.command()(spread(regress))
app.command()(spread(reproduce))
