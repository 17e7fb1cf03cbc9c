"""How recorded results are kept, found and trusted."""
