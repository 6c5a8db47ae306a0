"""Before the first scan: an operator with merchants and devices, people with phones, money at the bank."""

from __future__ import annotations

from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay.cli.demo.play import Play


async def open_doors(play: Play) -> None:
    """The operator enters its merchants and installs their devices, each with a key of its own."""
    say = play.say
    play.teller.act("开张：商户与终端", "Opening: merchants and terminals")
    owner = await Player.sign_in(play.world, play.world.owner_account)
    places = (
        ("canteen", say("一食堂", "Canteen"), "5814", "till", 60),
        ("bookshop", say("书店", "Bookshop"), "5942", "till", 60),
        ("pharmacy", say("药店", "Pharmacy"), "5912", "till", 60),
        ("vending", say("售货机", "Vending"), "5499", "vending", 5),
    )
    for key, name, mcc, kind, hold_s in places:
        merchant_id, site_id = await merchant(owner, name=name, mcc=mcc, site=say("学校路 8 号", "8 School Road"))
        play.merchants[key] = merchant_id
        play.devices[key] = await Device.install(
            owner, merchant_id=merchant_id, site_id=site_id, name=name, kind=kind, hold_s=hold_s
        )
    await play.step(
        "运营方登录，录入四家商户；四台终端各自生成密钥并完成安装，此后每个请求都带签名。",
        "The operator signs in and enters four merchants; four terminals make their own keys and are installed: "
        "every request of theirs is signed from now on.",
    )


async def gather(play: Play) -> None:
    """The family opens accounts; those who can pay are customers of the bank."""
    say = play.say
    wanted = (
        ("mother", "lin.mei", say("林梅", "Lin Mei"), "1985-03-02", 200_000),
        ("father", "zhang.wei", say("张伟", "Zhang Wei"), "1983-11-20", 150_000),
        ("child", "xiaoyu", say("小雨", "Xiaoyu"), "2017-05-01", None),
        ("colleague", "wu.hao", say("吴昊", "Wu Hao"), "1990-07-15", 30_000),
    )
    for key, account, name, born, balance_minor in wanted:
        player = await Player.join(play.world, account, name=name, born=born, locale=play.teller.lang)
        play.people[key] = player
        if balance_minor is not None:
            await play.open_bank_account(player, balance_minor)
    await play.step(
        "林梅、张伟、9 岁的小雨和同事吴昊开户，凭一次性验证码登录。银行余额：林梅 2,000.00，张伟 1,500.00，吴昊 300.00。",
        "Lin Mei, Zhang Wei, Xiaoyu (9) and a colleague, Wu Hao, open accounts and sign in by one-time codes. "
        "At the bank: Lin Mei 2,000.00, Zhang Wei 1,500.00, Wu Hao 300.00.",
    )
