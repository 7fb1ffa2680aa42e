"""How a run gets its name and, with ``--register``, an entry in a discovery directory."""

from __future__ import annotations

from pathlib import Path

from rl_exporter.discovery.identity import Discovery
from rl_exporter.identity import Identity, identify
from rl_exporter.server.http import MetricsServer
from rl_training.config import BadInputError, Settings


def take_identity(settings: Settings, former: str | None, rank: int) -> Identity:
    """The name of a run: the given ``run_id``, else that of the resumed run (``former``), else a generated one.

    Only rank 0 registers it. Raises BadInputError when the name is taken, or the directory cannot be written.
    """
    try:
        return identify(settings.run.run_id or former, None if rank else _discovery(settings))
    except ValueError as error:
        raise BadInputError(str(error)) from error


def _discovery(settings: Settings) -> Discovery | None:
    output, unique = settings.output, settings.run.run_id_unique
    if output.register is not None:
        return Discovery(output.register, output.label, output.advertise, unique=unique)
    given = {"--label": output.label, "--advertise": output.advertise, "--run-id-unique": unique}
    for option, value in given.items():
        if value:
            raise ValueError(f"{option} needs the directory to register the run in; give --register DIR")
    return None


def listening(identity: Identity, server: MetricsServer, directory: Path | None) -> str:
    """Register the address; returns the text that says where others find the run. Raises BadInputError."""
    try:
        found_at = identity.listening(server.address, server.scheme)
    except ValueError as error:
        raise BadInputError(str(error)) from error
    server.reached_at(found_at)
    if directory is None:
        return ""
    local = found_at.startswith(("127.", "[::1]", "localhost:"))
    return f", registered in {directory} as {found_at}{', for this machine only' if local else ''}"
