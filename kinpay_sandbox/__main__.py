"""`python -m kinpay_sandbox serve --data DIR --port N`: one sandbox bank, with its own key and its own database cluster."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop

import kinpay_postgres
from kinpay_sandbox.app import make_app, open_bank
from kinpay_sandbox.connections import CuttableProtocol

DATABASE = "sandbox_bank"


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process before the cluster is stopped.

    `listening` is set once requests are answered.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets=sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to `_serve`."""
        yield


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kinpay_sandbox", description="The sandbox bank (docs/sandbox-bank.md).")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve one bank until it is told to stop (SIGTERM, Ctrl-C)")
    serve.add_argument("--data", type=Path, required=True, help="folder of the bank's key and database cluster")
    serve.add_argument("--port", type=int, required=True, help="port to listen on; 0 picks a free one")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--public-url", help="how people's browsers reach the bank (default: http://HOST:PORT)")
    serve.add_argument("--database-url", help="a PostgreSQL database to use instead of an own cluster under DIR")
    return parser.parse_args()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


async def _serve(listener: socket.socket, *, data: Path, database_url: str, base_url: str, stopping: asyncio.Event) -> None:
    """Serve until a signal comes; prints the ready line once requests are answered."""
    async with open_bank(database_url=database_url, data=data, base_url=base_url) as bank:
        config = uvicorn.Config(
            make_app(bank),
            http=CuttableProtocol,
            log_level="warning",
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.listening.wait()
        print(f"sandbox bank ready on {base_url}", flush=True)
        await stopping.wait()
        server.should_exit = True
        await serving


async def _run(arguments: argparse.Namespace) -> None:
    """Start what is needed, serve, and stop what was started, whatever signal comes and whenever it does."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    data: Path = arguments.data
    listener = _listen(arguments.host, arguments.port)
    port = listener.getsockname()[1]
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    base_url = (arguments.public_url or f"http://{host}:{port}").rstrip("/")
    if arguments.database_url:
        await _serve(listener, data=data, database_url=arguments.database_url, base_url=base_url, stopping=stopping)
        return
    cluster = await asyncio.to_thread(kinpay_postgres.start, data / "cluster")
    try:
        url = await asyncio.to_thread(kinpay_postgres.create_database, cluster, DATABASE, exist_ok=True)
        await _serve(listener, data=data, database_url=url, base_url=base_url, stopping=stopping)
    finally:
        await asyncio.to_thread(kinpay_postgres.stop, cluster)


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    arguments = _read_arguments()
    arguments.data = arguments.data.absolute()
    arguments.data.mkdir(parents=True, exist_ok=True)
    try:
        uvloop.run(_run(arguments))
    except (kinpay_postgres.ClusterError, OSError) as error:
        sys.exit(f"sandbox bank: {error}")


if __name__ == "__main__":
    main()
