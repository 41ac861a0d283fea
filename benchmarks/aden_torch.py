"""The network of Table 2 written plainly in PyTorch, which is needed for this alone."""

from collections.abc import Callable
from typing import Any

import numpy as np


def network(torch: Any, width: int, blocks: int, heads: int, feedforward: int, hidden: int) -> Any:
    """Costs (B, S, K) from entities (B, S, 2) and centres (B, K, 2)."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
            self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
            self.feed = nn.Sequential(
                nn.Linear(width, feedforward),
                nn.GELU(approximate="tanh"),
                nn.Linear(feedforward, width),
            )

        def forward(self, entities: Any, centres: Any) -> Any:
            found = self.attention(entities, centres, centres, need_weights=False)[0]
            entities = self.first(entities + found)
            return self.second(entities + self.feed(entities))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.entities, self.centres = nn.Linear(2, width), nn.Linear(2, width)
            self.blocks = nn.ModuleList([Block() for _ in range(blocks)])
            self.head = nn.Sequential(
                nn.Linear(2 * width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, 1)
            )
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Any, y: Any) -> Any:
            entities, centres = self.entities(x), self.centres(y)
            for block in self.blocks:
                entities = block(entities, centres)
            shape = (*entities.shape[:2], centres.shape[1], entities.shape[2])
            pairs = torch.cat(
                [entities[:, :, None].expand(shape), centres[:, None].expand(shape)], dim=-1
            )
            base = ((x[:, :, None] - y[:, None]) ** 2).sum(dim=-1)
            deviation = self.scale * self.head(pairs)[..., 0]
            return nn.functional.leaky_relu(base + deviation, 0.01)

    return Network()


def steps(
    torch: Any, sizes: dict[str, int], x: np.ndarray, y: np.ndarray, told: np.ndarray,
    target: np.ndarray, data: np.ndarray, centres: np.ndarray, beta: float,
) -> tuple[Callable[[], Any], Callable[[], Any]]:  # fmt: skip
    """A step of the network on a batch, and one of the centres on all data."""
    torch.manual_seed(0)
    model = network(torch, **sizes)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-5)
    x, y, target, data = (torch.from_numpy(np.array(a)) for a in (x, y, target, data))
    told = torch.from_numpy(told.astype(np.int64))[..., None]
    place = torch.from_numpy(centres.copy()).requires_grad_(True)
    mover = torch.optim.Adam([place], lr=1e-3)

    def network_step() -> None:
        optimiser.zero_grad()
        found = torch.gather(model(x, y), 2, told)[..., 0]
        ((found - target) ** 2).mean().backward()
        optimiser.step()

    def centre_step() -> None:
        mover.zero_grad()
        costs = model(data[None], place[None])[0]
        (-torch.logsumexp(-beta * costs, dim=1).mean() / beta).backward()
        mover.step()

    return network_step, centre_step
