"""From a frame to the cues of the people in it."""
