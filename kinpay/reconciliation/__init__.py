"""What a provider says of each day against what is in our books: every difference has a name, an owner and a resolution."""
