"""`kinpay demo`: the story of a circle, played by real processes over HTTP, from the first scan to the month's total."""
