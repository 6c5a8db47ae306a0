"""Where faces are searched, and whether everything that this takes is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kinpay.biometrics.gallery_pgvector import available
from kinpay.biometrics.rotation import Rotations
from kinpay.cli.doctor.found import Found, ok, told, warning, wrong
from kinpay.database.sql import Sql
from kinpay.server.settings import Settings

# These read whole tables, as only the doctor may.
SCOPES = Sql("""
    WITH kept AS (
        SELECT t.person_id, t.model, v.dimension, v.pictures FROM template t JOIN template_vector v ON v.template_id = t.id
        WHERE t.destroyed_at IS NULL AND t.provisional_until IS NULL)
    SELECT count(*) AS size FROM kept k JOIN gallery_member m ON m.person_id = k.person_id
    GROUP BY m.site_id, k.model, k.dimension, k.pictures
    UNION ALL
    SELECT count(*) FROM kept k JOIN person p ON p.id = k.person_id GROUP BY p.operator_id, k.model, k.dimension, k.pictures
""")
SEEDS = Sql("""
    SELECT operator_id, version, retired_at IS NOT NULL AS retired FROM rotation WHERE forgotten_at IS NULL
    ORDER BY operator_id, version
""")


LOGGING = Sql("""
    SELECT current_setting('log_parameter_max_length') <> '0'
           AND (current_setting('log_statement') = 'all' OR current_setting('log_min_duration_statement') <> '-1'
                OR current_setting('log_min_duration_sample') <> '-1') AS logs_parameters
""")


async def look_at_galleries(conn: Any, settings: Settings) -> list[Found]:
    """Which engine searches what, and whether every rotation's seed is in the keyring."""
    sizes = [row["size"] for row in await SCOPES.rows(conn)]
    seeds = [(row["operator_id"], row["version"], row["retired"]) for row in await SEEDS.rows(conn)]
    there = Rotations.kept_in(settings.keyring)
    missing = [seed for seed in seeds if seed[:2] not in there]
    found = [judge_engine(settings, sizes, await available(conn)), *judge_seeds(len(seeds), missing)]
    if settings.gallery != "numpy" and await LOGGING.value(conn):
        do = "SET log_parameter_max_length = 0 for the server: what faces are searched by is a parameter"
        found.append(warning("galleries", "PostgreSQL logs statements with their parameters", do))
    return found


def judge_engine(settings: Settings, sizes: Sequence[int], pgvector: str | None) -> Found:
    """`sizes`: templates in each scope (a site, or a whole operator); `pgvector`: its version, if it can be used."""
    about, largest = "galleries", max(sizes, default=0)
    says = f"{len(sizes)} scopes, the largest has {largest} templates"
    if settings.gallery == "pgvector":
        if pgvector is None:
            return wrong(about, "KINPAY_GALLERY=pgvector, which this server does not have", "install it (0.7), or write auto")
        return ok(about, f"searched by pgvector {pgvector}, exactly; {says}")
    large = sum(size >= settings.gallery_large for size in sizes)
    if settings.gallery == "auto" and large and pgvector is not None:
        return ok(about, f"{large} searched by pgvector {pgvector}, the others by numpy in memory, exactly; {says}")
    if large:
        do = "KINPAY_GALLERY=auto with pgvector 0.7 holds large ones in the database"
        return told(about, f"searched by numpy in the memory of each server, exactly; {says}", do)
    return ok(about, f"searched by numpy in memory, exactly; {says}")


def judge_seeds(kept: int, missing: Sequence[tuple[str, int, bool]]) -> Iterator[Found]:
    """`missing`: operator, version, and whether it was retired, of each rotation without its seed."""
    needed = [f"{operator_id} version {version}" for operator_id, version, retired in missing if not retired]
    if needed:
        do = "mount the right KINPAY_KEYRING or restore its .seed files; without them everybody has to be captured again"
        yield wrong("rotations", f"no seed of {', '.join(needed)}", do)
    elif kept:
        yield ok("rotations", f"{kept} versions, and the seeds that are needed")
