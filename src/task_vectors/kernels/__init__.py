"""The book's own operations: for each the formula in plain torch, a fast torch form, and a Triton kernel."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["knn_vote", "linear_attention", "saliency"])
