"""Those who hold the payer's money. One port (`contract.py`), one folder a provider; none knows rows, pages or another."""
