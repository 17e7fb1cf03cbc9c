"""What a page makes of an experiment's records: loops over them, into arrays and tables."""
