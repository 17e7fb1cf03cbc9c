"""An LSTM with the small GPT's interface, for the claim that task vectors need no attention."""

import torch
from torch import Tensor, nn


class LSTM(nn.Module):
    """Stacked LSTM layers; the state after a layer is its output."""

    def __init__(self, entries: int, n_layers: int, width: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.LSTM(width if i else entries, width, batch_first=True) for i in range(n_layers))
        self.read_out = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predictions [B, T] for tokens [B, T, entries]."""
        return self.finish(self.embed(tokens))

    def embed(self, tokens: Tensor) -> Tensor:
        """What the first layer reads: the tokens."""
        return tokens

    def finish(self, states: Tensor, after: int = 0) -> Tensor:
        """Predictions [B, T] from the states [B, T, d] after so many layers."""
        for layer in self.layers[after:]:
            states = layer(states)[0]
        return self.read_out(states)[..., 0]

    def states(self, tokens: Tensor) -> Tensor:
        """The output of each layer: [B, T, L, d]."""
        states, found = tokens, []
        for layer in self.layers:
            states = layer(states)[0]
            found.append(states)
        return torch.stack(found, 2)
