"""The robot without ROS: pictures in, social cues out."""
