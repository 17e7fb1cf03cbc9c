"""The book's own operations: for each the formula in plain torch, a fast torch form, and a Triton kernel."""
