"""`python -m kinpay_postgres start|stop|status|url DATA_DIR`: the supervisor by hand."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from kinpay_postgres.cluster import Cluster, start, status, stop
from kinpay_postgres.errors import ClusterError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; 0 is success, 1 an error, 3 "not running" (as in the LSB's `status`)."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return _act(asked)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1


def _act(asked: argparse.Namespace) -> int:
    if asked.verb == "start":
        settings = dict(text.split("=", 1) for text in asked.set)
        _show(start(asked.data_dir, binaries=asked.binaries, settings=settings))
        return 0
    if asked.verb == "stop":
        stop(asked.data_dir, mode=asked.mode)
        return 0
    cluster = status(asked.data_dir)
    if cluster is None:
        print("not running", file=sys.stderr)
        return 3
    if asked.verb == "url":
        print(cluster.url(asked.database))
    else:
        _show(cluster)
    return 0


def _show(cluster: Cluster) -> None:
    print(f"PostgreSQL {cluster.version}, process {cluster.pid}, socket in {cluster.socket_dir}")


def _setting(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError("write NAME=VALUE")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kinpay_postgres", description="A private PostgreSQL in a folder.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    starting = verbs.add_parser("start", help="start the cluster, after making it if the folder is empty")
    starting.add_argument("--binaries", type=Path, help="another PostgreSQL's bin folder than the embedded one")
    starting.add_argument("--set", action="append", default=[], type=_setting, metavar="NAME=VALUE", help="a setting")
    stopping = verbs.add_parser("stop", help="stop it")
    stopping.add_argument("--mode", choices=("fast", "immediate"), default="fast")
    verbs.add_parser("status", help="say whether it runs; exit status 3 if not")
    url = verbs.add_parser("url", help="print the connection URL, password included")
    url.add_argument("--database", default="postgres")
    for verb in verbs.choices.values():
        verb.add_argument("data_dir", type=Path, metavar="DATA_DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
