"""What turns a run into a page."""
