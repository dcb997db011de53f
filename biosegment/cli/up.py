"""``biosegment up``, and what it shares with ``demo``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from biosegment.cli.console import console
from biosegment.log import configure_logging
from biosegment.settings import Settings
from biosegment.stack import USER, Stack, prepare
from biosegment.supervisor import Supervisor, running

Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Where Label Studio listens.")]
BackendPort = Annotated[
    int, typer.Option("--backend-port", min=1, max=65535, help="Where the backend listens.")
]


def up(
    port: Port = 8080,
    backend_port: BackendPort = 9090,
    tensorboard: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Also start TensorBoard, which listens there."),
    ] = None,
) -> None:
    """Start Label Studio, Redis, the ML backend and a worker on this machine's data folder."""
    with running_stack(port, backend_port, tensorboard) as (local, supervisor):
        introduce(local)
        supervisor.wait()


@contextmanager
def running_stack(
    port: int, backend_port: int, tensorboard_port: int | None = None
) -> Iterator[tuple[Stack, Supervisor]]:
    """Run the stack on this machine's data folder for as long as the block lasts."""
    settings = Settings.from_env()
    configure_logging(settings.log_level, settings.log_format)
    local = prepare(settings, port, backend_port, tensorboard_port)
    try:
        with running(local, console.print) as supervisor:
            yield local, supervisor
    except KeyboardInterrupt:
        console.print("Everything is stopped; the same command takes up where it stopped.")


def introduce(local: Stack) -> None:
    """Say where everything is."""
    data = Path(os.path.relpath(local.settings.data_root))
    port = local.tensorboard_port
    tensorboard = f"[bold]TensorBoard[/]   http://localhost:{port}\n" if port else ""
    console.print(
        f"\n[bold]Label Studio[/]  {local.settings.label_studio_url}\n"
        f"  log in with    {USER}\n"
        f"  password       {local.password}\n"
        f"[bold]Status page[/]   {local.settings.backend_url}\n"
        f"  log in with    {local.settings.basic_auth_user}\n"
        f"  password       {local.settings.basic_auth_pass}\n"
        f"{tensorboard}"
        f"Data and logs    {data}/ and {data}/stack/logs/\n"
        "Ctrl-C stops everything.\n",
        soft_wrap=True,
    )
