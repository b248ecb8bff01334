"""The command line; every command is a thin file of this folder and imports what it needs when it runs."""

import sys
from typing import Annotated

import typer

from lenssteer.cli.auto import auto
from lenssteer.cli.bench import bench
from lenssteer.cli.calibrate import calibrate
from lenssteer.cli.compare import compare
from lenssteer.cli.converse import converse
from lenssteer.cli.demo import demo
from lenssteer.cli.doctor import doctor
from lenssteer.cli.eval import evaluate
from lenssteer.cli.export import export
from lenssteer.cli.generate import generate
from lenssteer.cli.import_ import import_
from lenssteer.cli.judge_agreement import judge_agreement
from lenssteer.cli.layers import layers
from lenssteer.cli.methods import methods
from lenssteer.cli.orthogonalise import orthogonalise
from lenssteer.cli.play import play
from lenssteer.cli.refusal import refusal
from lenssteer.cli.report import report
from lenssteer.cli.reproduce import reproduce
from lenssteer.cli.rerun import rerun
from lenssteer.cli.runs import runs
from lenssteer.cli.search import search
from lenssteer.cli.select import select
from lenssteer.cli.selfcheck import selfcheck
from lenssteer.cli.serve import serve
from lenssteer.cli.sweep import sweep

app = typer.Typer(
    name="lenssteer",
    help="Steer language models through their activations.",
    epilog="Start with: lenssteer demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = {
    "Start": (demo, auto, play, doctor, runs),
    "Find": (calibrate, refusal, layers, select, selfcheck),
    "Steer": (methods, generate, converse, serve, orthogonalise, export, import_),
    "Measure": (sweep, search, compare, evaluate, judge_agreement, reproduce, report, rerun,
                bench),
}
"""Every command, in the panels of --help."""
INTERRUPTED = 130
NAMES = {"evaluate": "eval", "import_": "import"}
"""Commands whose names Python keeps for itself."""

for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(NAMES.get(command.__name__), rich_help_panel=panel)(command)


def _version(wanted: bool | None) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("lenssteer"))
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool | None, typer.Option("--version", callback=_version, is_eager=True,
                                                      help="Print the version.")] = None) -> None:
    """Steer language models through their activations."""


def main() -> None:
    """Entry point of `lenssteer` and `python -m lenssteer`; without a command it says what to do next."""
    if len(sys.argv) == 1:
        from lenssteer.cli.welcome import welcome

        welcome()
    else:
        try:
            app()
        except KeyboardInterrupt:  # before a command began, while its modules were imported
            sys.exit(INTERRUPTED)
