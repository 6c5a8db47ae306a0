"""Those who hold the payer's money. One port (`contract.py`), a folder for each; none knows rows, pages or another."""
