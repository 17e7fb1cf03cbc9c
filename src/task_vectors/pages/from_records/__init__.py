"""What a page makes of an experiment's records: loops over them, into arrays, tables, and charts of one record."""
