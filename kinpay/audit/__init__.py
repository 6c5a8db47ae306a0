"""The books and the history checked against each other: what must always be true, and whether anybody changed it by hand."""
