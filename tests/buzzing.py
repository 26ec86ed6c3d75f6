"""Something that a voice activity network takes for speech, made on the spot."""

from models.rehearsal import talk

__all__ = ["talk"]
