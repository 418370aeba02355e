"""Language policies: a language model reads a prompt and answers with a distribution over actions."""

if __name__ != "heed.policies":
    # A bare `policies` would collide with other people's packages of that name.
    raise ImportError("This folder is Heed's `heed.policies` package: import `heed.policies`, not `policies`.")

from heed.policies.actor_critic import LanguageActorCriticPolicy
from heed.policies.adapters.adapters import Adapter, AdapterError
from heed.policies.adapters.parameter_groups import LearningRates
from heed.policies.heads.zero_shot import score_action_texts
from heed.policies.modalities.modality import Modality, register_modality
from heed.policies.model_options import ModelOptions
from heed.policies.models.language_model import LanguageModel, LanguageModelError
from heed.policies.models.loading import load_language_model
from heed.policies.models.registry import register_language_model
from heed.policies.prompts.prompt import PromptEncoder, PromptSpace, PromptVecEnv
from heed.policies.prompts.template import Chat, PromptTemplate, TemplateError
from heed.policies.q_network import LanguageQPolicy

__all__ = [
    "Adapter",
    "AdapterError",
    "Chat",
    "LanguageActorCriticPolicy",
    "LanguageModel",
    "LanguageModelError",
    "LanguageQPolicy",
    "LearningRates",
    "Modality",
    "ModelOptions",
    "PromptEncoder",
    "PromptSpace",
    "PromptTemplate",
    "PromptVecEnv",
    "TemplateError",
    "load_language_model",
    "register_language_model",
    "register_modality",
    "score_action_texts",
]
