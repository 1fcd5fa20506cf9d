"""One person: state, appearance, poses of arms and hands, and drawing."""
