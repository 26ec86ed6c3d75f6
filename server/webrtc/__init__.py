"""Rivulet over WebRTC: Opus and RTP on the sound's side, offers and data channels on the talk's."""
