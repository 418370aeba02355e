"""A prompt's row of integers holds what it was made of, bit for bit."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from heed.envs.contract import ChangingActions, language_space
from heed.policies.modalities.modality import Modality, modalities_of, register_modality, unread_keys
from heed.policies.models.loading import load_language_model
from heed.policies.prompts.action_texts import ActionTexts
from heed.policies.prompts.layout import PADDING, Actions, Image, Numbers, PromptLayout, modalities_from_json
from heed.policies.prompts.prompt import PromptEncoder

NUMBERS = np.array([[0.1, -0.0, 3.4e38], [-3.4e38, -1e-40, 7.0]], dtype=np.float32)


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    modalities = (Actions(3), Numbers(3), Image(2, 3, 3))
    return load_language_model("heed-tiny").encoder(max_tokens=32, modalities=modalities)


def observations() -> dict[str, object]:
    pixels = np.random.default_rng(0).integers(256, size=(2, 2, 3, 3)).astype(np.uint8)
    return {
        "instruction": ["open the red door", "open the blue door"],
        "observation": ["room 1", "room 2"],
        "actions": [("open red door", "open blue door"), ("open blue door", "wait", "open red door")],
        "numbers": NUMBERS,
        "image": pixels,
    }


def test_what_goes_in_comes_out(encoder: PromptEncoder) -> None:
    given = observations()
    rows = encoder(given)
    assert rows.dtype == np.int32
    assert rows.shape == (2, 32 + 3 + 3 + 5), "18 bytes of a picture take five columns"
    assert encoder.space.contains(rows[0])
    parts = encoder.layout.split(torch.from_numpy(rows))
    tokens, actions, numbers, image = (
        parts.tokens,
        *(modality.unpack(parts.packed[modality.key]) for modality in encoder.layout.modalities),
    )
    words = load_language_model("heed-tiny").encoder(max_tokens=32)
    np.testing.assert_array_equal(tokens.numpy(), words(given))
    assert actions.tolist() == [[0, 1, PADDING], [1, 2, 0]]
    assert encoder.action_texts.texts == ["open red door", "open blue door", "wait"]
    assert numbers.numpy().tobytes() == NUMBERS.tobytes(), "the largest number and negative zero stay what they are"
    np.testing.assert_array_equal(image.numpy(), given["image"])
    assert encoder.layout.numbers_of_actions(rows).tolist() == [2, 3]  # type: ignore[union-attr]
    assert encoder.decode(rows[0]) == words.decode(words(given)[0])


def test_rows_differ_where_any_auxiliary_observation_does(encoder: PromptEncoder) -> None:
    given = observations()
    for key in ("actions", "numbers", "image"):
        other = {**given, key: given[key][::-1]}  # type: ignore[index]
        assert not np.array_equal(encoder(given), encoder(other)), key


def test_what_is_missing_is_named(encoder: PromptEncoder) -> None:
    given = observations()
    del given["numbers"], given["image"]
    with pytest.raises(ValueError, match="lack numbers, image"):
        encoder(given)


@pytest.mark.parametrize("actions", [(), ("a", "b", "c", "d")])
def test_a_list_of_actions_has_its_bounds(encoder: PromptEncoder, actions: tuple[str, ...]) -> None:
    given = {**observations(), "actions": [actions, ("a",)]}
    with pytest.raises(ValueError, match=f"choice of {len(actions)} actions.*1 to 3"):
        encoder(given)


def test_words_alone_are_what_they_were() -> None:
    encoder = load_language_model("heed-tiny").encoder(max_tokens=32)
    rows = encoder(observations())
    assert rows.dtype == np.int16
    assert rows.shape == (2, 32)
    assert encoder.layout == PromptLayout(32)
    cut = torch.from_numpy(rows[:, :5])
    assert encoder.layout.split(cut).tokens is cut
    assert encoder.layout.numbers_of_actions(rows) is None


def test_a_row_of_another_layout_is_refused(encoder: PromptEncoder) -> None:
    with pytest.raises(ValueError, match=r"43 columns.*42"):
        encoder.layout.split(torch.zeros(2, 42, dtype=torch.int32))


def test_spaces_say_which_modalities_there_are() -> None:
    image, numbers = spaces.Box(0, 255, (4, 5, 3), np.uint8), spaces.Box(-1, 1, (2, 3), np.float32)
    space = language_space(changing_actions=True, image=image, numbers=numbers)
    modalities = modalities_of(space, ChangingActions(7))
    assert modalities == (Actions(7), Numbers(6), Image(4, 5, 3))
    assert modalities_from_json(PromptLayout(8, modalities).as_json()) == modalities
    assert modalities_of(space, ChangingActions(7), words_only=True) == (Actions(7),)
    assert modalities_of(language_space(), spaces.Discrete(3)) == ()
    with pytest.raises(ValueError, match="Box of uint8"):
        modalities_of(language_space(image=numbers), spaces.Discrete(3))
    with pytest.raises(ValueError, match="Box of numbers"):
        modalities_of(language_space(numbers=spaces.Discrete(3)), spaces.Discrete(3))


def test_keys_that_nothing_reads_are_known() -> None:
    space = language_space(numbers=spaces.Box(-1, 1, (2,), np.float32), smell=spaces.Discrete(3))
    assert unread_keys(space) == ("smell",)


@pytest.mark.parametrize(
    ("saved", "says"),
    [
        ({"key": "smell"}, "No modality reads the key 'smell'"),
        ({"key": "numbers", "count": 0}, "positive whole numbers, not 0"),
        ({"key": "numbers", "count": "3"}, "positive whole numbers"),
        ({"key": "image", "height": 4, "width": 5}, r"\['channels', 'height', 'width'\], not"),
        ({"key": "numbers", "count": 3, "more": 1}, "has the sizes"),
    ],
)
def test_what_cannot_be_saved_is_refused(saved: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        modalities_from_json([saved])


def test_words_are_nobody_elses() -> None:
    class Words(Modality):
        key = "instruction"

    with pytest.raises(ValueError, match="holds words"):
        register_modality(Words)


def test_a_text_keeps_its_number() -> None:
    texts = ActionTexts(("wait",))
    assert texts.numbers_of(("go", "wait", "go")) == [1, 0, 1]
    assert ActionTexts(texts.texts).numbers_of(("go",)) == [1]
