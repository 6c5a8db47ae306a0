"""What a payer allows a spender: limits and conditions, their versions, what counts against them, and the agreements that fund it."""
