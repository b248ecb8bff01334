"""`lenssteer selfcheck`: whether a model's hooks do what lenssteer says they do."""

import typer

from lenssteer.cli.options import (
    Backend,
    BackendOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelName,
    emit,
    friendly,
    load,
)


@friendly
def selfcheck(
    model: ModelName,
    backend: BackendOption = Backend.hooked,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Check every claim lenssteer makes about a model on a backend, and print what was measured."""
    from dataclasses import asdict

    from lenssteer.models import selfcheck as check

    lens = load(model, backend, device, dtype, None, check=False)
    claims = check(lens)
    if as_json:
        emit({"model": asdict(lens.card), "claims": [asdict(claim) for claim in claims]})
    for claim in claims if not as_json else ():
        mark, colour = ("ok", typer.colors.GREEN) if claim.holds else ("FAILS", typer.colors.RED)
        typer.echo(f"{typer.style(f'{mark:5}', fg=colour)} {claim.name:10} {claim.measured}")
    if not all(claim.holds for claim in claims):
        raise typer.Exit(1)
