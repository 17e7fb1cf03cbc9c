"""Mixtures of in-context regressions (Han et al. 2025): data, optimal predictors, small models and their training."""
