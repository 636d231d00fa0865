"""The answer to asking for an encoder that this version does not have."""

from typing import NoReturn

from svc.errors import UserError


def unavailable(name: str) -> NoReturn:
    """Stands as the `_target_` of a content option that is planned.

    Args:
        name: the option, as it was asked for.

    Raises:
        UserError: always; it names the encoders to use instead.
    """
    raise UserError(
        f"content={name} is not available in this version. Use content=whisper (the encoder of a "
        f"Whisper model; content.model is its folder or name) or content=mfcc (needs no weights)."
    )
