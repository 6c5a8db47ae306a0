"""Spending on someone's account [0032]: decide, reserve, debit, book, give back."""
