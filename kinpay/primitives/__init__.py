"""What everything stands on: money, time, ids, life cycles, errors, secrets. No I/O below this line."""
