"""Scores of action texts from the vectors of a prompt's segments: each action is a query into them.

What an action's score depends on is the prompt and its own text alone, never which other actions there are: so sets of
actions that change from prompt to prompt need nothing of their own, and an action that no training had is scored as
well as its vector lies.

An action comes in with what it means (its vector), with what its similarities tell, and with the state that the reader
of the segments made of the prompt (`heed.policies.networks.segment_reader`):

- how near it is to the instruction: as a cosine, and as deviations from the cosines that the segments in view have with
  the instruction. The latter tell the same whether the instruction is worded as in the training or otherwise, which
  lowers all cosines alike;
- how near the nearest segment is to it;
- how near those segments are to the instruction that are near to it.

Then it looks at the segments as the reader does: one head begins at those that are near to the action, one at those
near to the instruction, one at those near to both, and one looks at everything alike.

Shapes: B prompts, G prompts or 1 where all have the same actions, A actions, N different texts of actions, S segments
without the instruction, E numbers of an encoder's vector, D of the features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from heed.policies.networks.segment_reader import DEVIATION, SHARPNESS, WIDTH, Look, Round, deviation_of

FIRST_LOOKS = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0))
"""How sharply each head begins to look, by the segments' similarity to the action and to the instruction."""


class ActionReader(nn.Module):
    """Scores actions.

    Args:
        vector_width: E.
        width: D.
    """

    def __init__(self, vector_width: int, *, width: int = WIDTH):
        super().__init__()
        self.content = nn.Linear(vector_width, width)
        self.similarity = nn.Linear(4, width, bias=False)
        self.state = nn.Linear(width, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.round = Round(width, FIRST_LOOKS, inner=1)  # there are many times as many actions as prompts
        self.last_norm = nn.LayerNorm(width)
        # One number more for all actions changes nothing.
        self.score = nn.Linear(width, 1, bias=False)
        nn.init.orthogonal_(self.score.weight, gain=0.01)  # an almost uniform first policy

    def contents(self, vectors: Tensor) -> Tensor:
        """Return what different texts mean here, (N, D), given their vectors, (N, E)."""
        scale = vectors.shape[-1] ** 0.5  # numbers of about 1
        content: Tensor = self.content(functional.normalize(vectors, dim=-1) * scale)
        return content

    def forward(self, vectors: Tensor, index: Tensor, look: Look) -> Tensor:
        """Return the scores of actions, (B, A); -inf where there is none.

        Args:
            vectors: of different action texts, (N, E).
            index: which of them each action is, (G, A), -1 where there is none.
            look: what was seen in the prompts.
        """
        rows = index.clamp(min=0)
        actions = functional.normalize(vectors, dim=-1)[rows]  # (G, A, E)
        near = actions @ look.seen.transpose(1, 2)  # (B, A, S)
        told = look.cosines[:, None, :]  # (B, 1, S)
        marks = self._marks(actions @ look.instruction[:, :, None], near, look)
        state = self.contents(vectors)[rows] + self.similarity(marks) + self.state(look.features)[:, None]
        state = self.norm(state + self.hidden(functional.gelu(state)))
        nearness = torch.stack([near, told.expand_as(near)], dim=1)  # (B, 2, A, S)
        state = self.last_norm(self.round(state, look.segments, nearness, look.real))
        scores: Tensor = self.score(state)[..., 0]
        return scores.masked_fill(index < 0, -torch.inf)

    def _marks(self, meant: Tensor, near: Tensor, look: Look) -> Tensor:
        """Return what similarities tell of actions, (B, A, 4), given theirs to instruction (B, A, 1) and segments."""
        mean, deviation = deviation_of(look.cosines, look.real)  # (B, 1) each
        above = (meant - mean[:, None]) / (deviation[:, None] + DEVIATION)
        if not near.shape[2]:
            nothing = torch.zeros_like(meant)
            return torch.cat([meant, above, nothing, nothing], dim=2)
        absent = ~look.real[:, None, :]
        weights = (SHARPNESS * near).masked_fill(absent, -1e9).softmax(dim=2) * look.real[:, None, :]
        nearest = near.masked_fill(absent, -1.0).amax(dim=2, keepdim=True)
        through = (weights * look.deviations[:, None, :]).sum(dim=2, keepdim=True)
        return torch.cat([meant, above, nearest, through], dim=2)
