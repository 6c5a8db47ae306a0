"""`kinpay`: run it, set it up, look after it. Every command explains itself with `--help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

import asyncpg

from kinpay.cli import auditing, backing_up, biometrics, month, reconciling, running, setting_up
from kinpay.cli.demo import run as demo
from kinpay.cli.doctor import examine as doctor
from kinpay.database.migrate import SchemaMismatch
from kinpay.primitives.errors import Busy, KinpayError
from kinpay.server.problems import WORDS
from kinpay.server.settings import SettingsWrong, read_settings, unknown_names
from kinpay_postgres import ClusterError

GROUPS: Final = (running, setting_up, month, doctor, auditing, reconciling, backing_up, biometrics, demo)

EXAMPLES = """\
examples:
  KINPAY_DEMO=1 KINPAY_CODE_CHANNEL=file:/tmp/codes kinpay serve     try it; nothing has to be installed
  kinpay demo                                                        watch a circle's story, from the first scan on
  kinpay operator create "Canteens Ltd" --time-zone Asia/Shanghai \\
      --account boss --name "Wang Li" --phone +8613800000000          the first operator and its owner
  kinpay config                                                      what is configured, and what could be
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks. 0: done; 1: it did not work, and why is on standard error; 2: wrongly asked."""
    asked = parser().parse_args(arguments)
    try:
        if not getattr(asked, "reads_settings", True):
            result: int = asked.run(asked, None)  # The doctor, to whom wrong settings are one finding among others.
            return result
        for sentence in unknown_names(os.environ):
            print(f"kinpay: {sentence}", file=sys.stderr)
        result = asked.run(asked, read_settings(os.environ))
    except SettingsWrong as error:
        return _complain(*error.problems)
    except SchemaMismatch:
        return _complain("The database's schema is not this program's: run `kinpay migrate` with the newer of the two.")
    except Busy:
        return _complain("The database cannot be reached, or is busy; nothing was changed.")
    except KinpayError as error:
        return _complain(_words(error))
    except asyncpg.PostgresError as error:
        # Not its text: that may quote a row.
        return _complain(f"PostgreSQL refused: {type(error).__name__} ({error.sqlstate}); nothing was changed.")
    except (ClusterError, OSError) as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return 130
    return result


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="kinpay",
        description="One person spends from another's account, within limits. Self-hosted.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in GROUPS:
        group.add_to(commands)
    return root


def _words(error: KinpayError) -> str:
    words = WORDS.get(error.code)
    facts = ", ".join(f"{name} {value}" for name, value in error.detail.items() if value not in ("", None))
    return (words.en if words is not None else error.code) + (f" ({facts})" if facts else "")


def _complain(*sentences: str) -> int:
    for sentence in sentences:
        print(f"kinpay: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
