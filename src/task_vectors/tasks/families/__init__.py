"""The two task families of Han et al. (2025): six tasks each on the same inputs, and Null."""
