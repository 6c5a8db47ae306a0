"""`kinpay demo`: sets the stage, has the story played, and leaves it standing until Ctrl-C, or cleans up at once."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from typing import Final

from kinpay.cli.command import Commands, command
from kinpay.cli.demo.play import Play, zone_of_today
from kinpay.cli.demo.stage import Stage, StageBroken, new_home, set_stage
from kinpay.cli.demo.story import tell
from kinpay.cli.demo.told import Lang, Teller
from kinpay.cli.demo.world import open_world
from kinpay.server.settings import Settings

INTERRUPTED: Final = 130


def add_to(commands: Commands) -> None:
    """Enters the command."""
    made = command(
        commands,
        "demo",
        _demo,
        summary="play a circle's story on a server and a bank of its own, from the first scan to the month's total",
        example="kinpay demo --lang zh",
    )
    made.add_argument("--once", action="store_true", help="end by itself; status 0 only if every step and the audit held")
    made.add_argument(
        "--lang", choices=("zh", "en"), default=_language(), help="the story's language; otherwise that of this machine"
    )
    made.add_argument("--port", type=int, default=0, metavar="N", help="the server's port; 0 takes a free one (%(default)s)")


def _language() -> Lang:
    wanted = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if wanted.startswith("zh") else "en"


def _demo(asked: argparse.Namespace, settings: Settings) -> int:
    """0: everything held; 1: something did not, and what is said; 130: interrupted before the end."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, too: whoever starts us in the background ignores it for us.
        signal.signal(number, signal.default_int_handler)
    teller = Teller(asked.lang)
    teller.title(
        "kinpay 演示 · 林家的一天：从第一次扫码到本月总账",
        "kinpay demo · A day of the Lins: from the first scan to the month's total",
    )
    operator_id = None
    try:
        with new_home(settings.home) as home:
            teller.line(teller.say("正在启动数据库、服务器和银行……", "Starting database, server and bank …"), "dim")
            with set_stage(home, port=asked.port) as stage:
                _addresses(teller, stage)
                operator_id = _played(teller, stage)
                if operator_id is not None and not asked.once:
                    _stand(teller, stage, operator_id)
    except KeyboardInterrupt:
        teller.line()
        teller.line(
            teller.say("已停止，演示的进程和目录都已清除。", "Stopped; the demo's processes and folders are gone."), "dim"
        )
        return INTERRUPTED if operator_id is None else 0
    except StageBroken as broken:
        teller.broken(str(broken))
    return 1 if operator_id is None else 0


def _addresses(teller: Teller, stage: Stage) -> None:
    teller.line(f"kinpay {stage.server.url} · {teller.say('沙盒银行', 'sandbox bank')} {stage.bank.url}", "dim")


def _played(teller: Teller, stage: Stage) -> str | None:
    """The operator's id if the whole story held; otherwise None, and what did not hold is said."""
    began = time.monotonic()
    try:
        operator_id = asyncio.run(_play(teller, stage))
    except Exception as error:  # Whatever goes wrong in a play is told, and the stage is cleared all the same.
        teller.broken(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        for process in (stage.server, stage.bank):
            teller.line(f"{process.log.name}:\n{process.complaints()}", "dim")
        return None
    teller.line()
    took = time.monotonic() - began
    teller.line(
        teller.say(f"全部步骤与对账均成立（{took:.0f} 秒）。", f"Every step and the audit held ({took:.0f} s)."), "bold green"
    )
    return operator_id


async def _play(teller: Teller, stage: Stage) -> str:
    async with open_world(
        stage.environment,
        url=stage.server.url,
        bank_url=stage.bank.url,
        codes=stage.codes,
        name=teller.say("上海校园服务", "Shanghai School Services"),
        owner_name=teller.say("王立", "Wang Li"),
        locale=teller.lang,
    ) as world:
        await tell(Play(world, teller, zone_of_today()), stage)
        return world.operator_id


def _stand(teller: Teller, stage: Stage, operator_id: str) -> None:
    """Says where everything is, and how a program finds it (docs/getting-started.md); waits for Ctrl-C."""
    say = teller.say
    teller.line()
    teller.table(
        (say("仍在运行，Ctrl-C 结束", "still running, Ctrl-C ends it"), ""),
        (
            (say("服务器", "server"), stage.server.url),
            (say("接口文档", "API document"), f"{stage.server.url}/openapi.json"),
            (say("银行（客户页面 /my）", "bank (customers' page /my)"), f"{stage.bank.url}/my"),
            (say("登录账号", "accounts"), "owner, lin.mei, zhang.wei, xiaoyu, wu.hao"),
            (say("银行密码", "passwords at the bank"), "“demo lin.mei”, “demo zhang.wei”, “demo wu.hao”"),
            (say("一次性验证码", "one-time codes"), str(stage.codes)),
            (say("服务器日志", "server's log"), str(stage.server.log)),
            (say("银行日志", "bank's log"), str(stage.bank.log)),
            (say("命令行", "commands"), f"KINPAY_HOME={stage.home} kinpay audit"),
        ),
    )
    teller.line()
    teller.line(
        say("在另一个终端里动手试试（docs/getting-started.md）：", "To go on in another shell (docs/getting-started.md):")
    )
    found = (("URL", stage.server.url), ("OPERATOR", operator_id), ("CODES", stage.codes), ("HOME", stage.home))
    for name, value in found:
        print(f"export KINPAY_{name}={value}", flush=True)  # Plain, and on one line each, so that it can be copied.
    while stage.server.process.poll() is None and stage.bank.process.poll() is None:
        time.sleep(0.5)
    raise StageBroken(say("有进程自行结束了。", "A process ended by itself."))
