"""The Hugging Face hub: what must be there before an upload, and the upload."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError

# Public names that it imports in a way that type checkers do not see; HTTPError is of the library that it speaks with
# the hub through, which differs from version to version.
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # isort: skip
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # isort: skip

from heed.training.errors import ConfigurationError


def require_hub(repository: str) -> None:
    """Refuse what cannot be uploaded, without asking the hub.

    Raises:
        ConfigurationError: if `repository` is no OWNER/NAME, nobody is logged in, or the hub is switched off.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigurationError(f"--push-to-hub {repository} cannot be a repository: {error}") from None
    if repository.count("/") != 1:
        raise ConfigurationError(f"--push-to-hub is {repository!r}, but must be OWNER/NAME.")
    if constants.HF_HUB_OFFLINE:
        raise ConfigurationError("--push-to-hub needs the network, but HF_HUB_OFFLINE is set: unset it.")
    if get_token() is None:
        raise ConfigurationError("--push-to-hub needs a token of the hub: run `hf auth login`, or set HF_TOKEN.")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder; a repository that is there already gets another commit.

    Returns:
        The repository's address.

    Raises:
        ConfigurationError: if the hub does not take it; the folder stays.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Upload an agent of Heed")
    except (OSError, HTTPError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigurationError(
            f"{folder} is written, but {repository} on the hub did not take it: {reason} Try again with: "
            f"hf upload {repository} {folder}"
        ) from error
    return str(address)
