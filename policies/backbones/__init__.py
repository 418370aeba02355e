"""What is computed with each kind of language model: its facts, hidden states, features and action scores."""

# The kinds that ship with Heed register themselves; what is of no other is causal, so that is asked last.
from heed.policies.backbones import causal as causal
from heed.policies.backbones import encoder as encoder
from heed.policies.backbones import encoder_decoder as encoder_decoder
from heed.policies.backbones import open_vocabulary as open_vocabulary
