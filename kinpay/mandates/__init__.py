"""What a payer allows a spender: limits and conditions, versions, what counts against them, the agreements that fund it."""
