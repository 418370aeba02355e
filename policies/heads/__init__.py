"""How actions come out of a language model: heads, tries of action texts, their scores, actions that change."""

# The two that ship with Heed register themselves.
from heed.policies.heads import linear as linear
from heed.policies.heads import text_scores as text_scores
