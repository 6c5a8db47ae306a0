"""What an operator settles with its merchants: each day's captures and refunds, closed for good, and whether it was paid."""
