"""Records `kinpay/server/examples.json` from the application itself: `python -m tests.api.examples` (`make examples`).

What is asked stands in `recital.py`. Of everything that was heard the fullest exchange is taken for each operation, status and
variant, and told in made-up terms (`fictitious.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import kinpay_postgres
from kinpay.database.migrate import migrate
from kinpay.server.journal import open_journal
from kinpay_postgres.folder import Folder
from tests.api.asking import URL
from tests.api.fictitious import TODAY, Fiction
from tests.api.recital import recite
from tests.api.schema import operations
from tests.api.standing import standing_bank, standing_town
from tests.api.town import Family, Town
from tests.flow.recorder import Recorder, Said

FILE: Final = Path(__file__).parents[2] / "kinpay" / "server" / "examples.json"
HOT: Final = "POST /v1/charges"
SHOWN: Final = ("held", "succeeded", "refused", "submitted")
"""The states of a charge that are shown; the others are told by its description."""
QUERY: Final[Mapping[str, Any]] = {
    "limit": 20,
    "before": TODAY.isoformat(),
    "unread": True,
    "open_only": True,
    "wait_s": 20,
    "again": False,
    "role": "payer",
    "currency": "CNY",
    "state": "open",
}
"""What stands in a query; ids are those of the thing."""
KEY: Final = "Idempotency-Key"
"""The parameter that everybody makes up; its example is part of its description."""
IDS: Final = frozenset({"provider_account_id", "last-event-id"})
"""Parameters that are ids, though their schemas take anything: who asks is answered all the same."""
_FEW: Final = 3
_ALIKE: Final = 2

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer at an operation; `parts`: the parameters in its path, `number`: when it was said."""

    operation: str
    parts: Mapping[str, str]
    said: Said
    number: int

    @property
    def variant(self) -> str:
        """What it is an example of, among those of its operation and status."""
        asked, answer = self.said.asked or {}, self.said.answer
        state = answer.get("state") if isinstance(answer, dict) else None
        if self.operation == HOT:
            return f"{'phone' if 'payment_code' in asked.get('presented', {}) else 'till'}_{state}"
        if self.operation.startswith(f"{HOT}/"):
            return str(state)
        return f"order_{asked['binding_order'].lower()}" if "binding_order" in asked else "usual"

    @property
    def fullness(self) -> tuple[int, int]:
        """How many names it has a value for; then the earlier, the better."""
        return len(full_places([self.said.asked, self.said.answer])) + min(len(self.said.text.splitlines()), _FEW), -self.number


# -------------------------------------------------------------------------------------------------------- what is taken


def places(value: Any, at: str = "") -> set[str]:
    """Every name, with where it stands; items of a list stand in one place."""
    if isinstance(value, dict):
        return {found for name, inner in value.items() for found in {f"{at}.{name}", *places(inner, f"{at}.{name}")}}
    return {found for inner in value for found in places(inner, f"{at}[]")} if isinstance(value, list) else set()


def full_places(value: Any, at: str = "") -> set[str]:
    """The same, without those where nothing stands."""
    if isinstance(value, dict):
        return {found for name, inner in value.items() for found in full_places(inner, f"{at}.{name}")}
    if isinstance(value, list):
        return {found for inner in value for found in full_places(inner, f"{at}[]")}
    return set() if value is None else {at}


def shortened(value: Any) -> Any:
    """Of a list of objects the first, and those that show something new; of a long list of anything else only the first."""
    if isinstance(value, dict):
        return {name: shortened(inner) for name, inner in value.items()}
    if not isinstance(value, list):
        return value
    kept: list[Any] = []
    for inner in value:
        if not isinstance(inner, dict | list):
            kept += [inner] if len(kept) < 2 * _FEW else []
        elif len(kept) < _ALIKE or not full_places([inner]) <= full_places(kept):
            kept.append(inner)
    return [shortened(inner) for inner in kept]


def exchanges(document: Mapping[str, Any], said: Iterable[Said]) -> Iterator[Exchange]:
    """What was said at operations of the document; elsewhere nothing is shown."""
    forms = [
        (method.upper(), path.count("{"), re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)), name)
        for name, method, path, _ in operations(document)
    ]
    for number, one in enumerate(said):
        found = [
            (braces, name, match.groupdict())
            for method, braces, form, name in forms
            if method == one.method and (match := form.fullmatch(one.path))
        ]
        if found:
            _, name, parts = min(found, key=lambda item: item[0])
            yield Exchange(name, parts, one, number)


def chosen(document: Mapping[str, Any], said: Iterable[Said]) -> dict[str, list[Exchange]]:
    """Operation → its fullest exchanges, one for each status and variant that is a success; in the document's order."""
    best: dict[tuple[str, int, str], Exchange] = {}
    for one in exchanges(document, said):
        key = (one.operation, one.said.status, one.variant)
        shown = one.operation != HOT or one.variant.endswith(SHOWN)
        if one.said.status < 300 and shown and (key not in best or one.fullness > best[key].fullness):
            best[key] = one
    found: dict[str, list[Exchange]] = {name: [] for name, *_ in operations(document)}
    for _, one in sorted(best.items()):
        found[one.operation].append(replace(one, said=replace(one.said, answer=shortened(one.said.answer))))
    return found


def problems(document: Mapping[str, Any], said: Iterable[Said]) -> tuple[dict[str, dict[str, list[str]]], dict[str, Found]]:
    """(operation → status → codes, code → the fullest document with it); a fault of ours is nothing to show."""
    by_operation: dict[str, dict[str, set[str]]] = {}
    documents: dict[str, Found] = {}
    for one in exchanges(document, said):
        told = one.said.answer
        if not 400 <= one.said.status < 500 or not isinstance(told, dict):
            continue
        by_operation.setdefault(one.operation, {}).setdefault(str(one.said.status), set()).add(told["code"])
        known = documents.get(told["code"])
        if known is None or len(full_places(told)) > len(full_places(known)):
            documents[told["code"]] = told
    listed = {
        operation: {status: sorted(codes) for status, codes in sorted(found.items())}
        for operation, found in by_operation.items()
    }
    return listed, dict(sorted(documents.items()))


# --------------------------------------------------------------------------------------------------------- how it is told


def told(document: Mapping[str, Any], said: list[Said], families: Mapping[str, Family]) -> Found:
    """The whole file."""
    fiction = Fiction(_things(families), datetime.now(UTC))
    listed, documents = problems(document, said)
    taken = chosen(document, said)
    shown = {}
    for name, _, _, operation in operations(document):
        found = {
            "parameters": _parameters(operation, taken[name], fiction),
            "requests": _requests(operation, taken[name], fiction),
            "answers": _answers(operation, taken[name], fiction),
            "problems": listed.get(name, {}),
        }
        shown[name] = {part: value for part, value in found.items() if value}
    return {"operations": shown, "problems": {code: fiction.told(one, f"problem {code}") for code, one in documents.items()}}


def _things(families: Mapping[str, Family]) -> dict[str, str]:
    """Real id → the thing; the first family's are called plainly."""
    return {
        value: thing if name == "A" else f"{name} {thing}"
        for name in reversed(families)
        for thing, value in families[name].at.items()
    }


def _parameters(operation: Mapping[str, Any], taken: list[Exchange], fiction: Fiction) -> Found:
    found: Found = {}
    parts = taken[0].parts if taken else {}
    for one in operation.get("parameters", []):
        name = one["name"]
        if one["in"] == "path":
            found[name] = fiction.text(parts[name], name) if name in parts else _in_query(one, fiction)
        elif name != KEY:
            found[name] = _in_query(one, fiction)
    return {name: value for name, value in found.items() if value is not None}


def _in_query(parameter: Mapping[str, Any], fiction: Fiction) -> Any:
    name, schema = parameter["name"], parameter["schema"]
    forms = schema.get("anyOf", [schema])
    if name in IDS or any("{32}" in form.get("pattern", "") for form in forms):
        return fiction.text(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), name)
    choices = [value for form in forms for value in form.get("enum", [])]
    return choices[0] if choices else QUERY.get(name)


def _requests(operation: Mapping[str, Any], taken: list[Exchange], fiction: Fiction) -> Found:
    found: Found = {}
    for one in taken if "requestBody" in operation else ():
        asked = fiction.told(one.said.asked, f"{one.operation} asked")
        if asked is not None and asked not in found.values():
            found.setdefault(one.variant, asked)
    return found


def _answers(operation: Mapping[str, Any], taken: list[Exchange], fiction: Fiction) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for one in taken:
        status = str(one.said.status)
        if operation["responses"].get(status, {}).get("content"):
            place = f"{one.operation} {status}"
            few = "".join(one.said.text.splitlines(keepends=True)[:_FEW])
            answer = fiction.text(few, place) if one.said.answer is None else fiction.told(one.said.answer, place)
            found.setdefault(status, {})[one.variant] = answer
    return found


# --------------------------------------------------------------------------------------------------------------- doing it


async def recorded(town: Town, recorder: Recorder) -> Found:
    """Asks for everything, and tells it."""
    document = (await town.http.get(f"{URL}/openapi.json")).json()
    await recite(town, recorder)
    return told(document, recorder.said, town.families)


async def record() -> Found:
    """The same in a town of its own."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-examples-", dir="/tmp"))
    quick = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB", "max_connections": "50"}
    recorder = Recorder()
    try:
        url = kinpay_postgres.create_database(kinpay_postgres.start(folder, settings=quick), "town")
        await migrate(url)
        with standing_bank() as bank:
            async with standing_town(url, bank, listen=recorder.listen) as town:
                return await recorded(town, recorder)
    finally:
        kinpay_postgres.stop(folder, mode="immediate")
        shutil.rmtree(Folder(folder).socket_dir, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def written(examples: Found) -> str:
    """The file's text."""
    return json.dumps(examples, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    open_journal("error")
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    target.write_text(written(asyncio.run(record())), encoding="utf-8")
