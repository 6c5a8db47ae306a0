"""How fast is it, beside what everybody knows? `python -m bench` measures kinpay, pgbench TPC-B and a naive implementation of
the same rules in turns, on one private PostgreSQL with production settings; it writes `build/bench.json` and a table in
`docs/performance.md`.

Read in this order: `plan` says what a round consists of; `ground` and `circles` make what is charged; `drive` is the stop
watch; `tpcb`, `inprocess`, `naive` and `through_http` are the parties; `history` makes a million past charges; `ratios`
compares; `page` writes.
"""
