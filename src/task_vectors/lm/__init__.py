"""A pretrained language model: read, changed, scored, tuned."""
