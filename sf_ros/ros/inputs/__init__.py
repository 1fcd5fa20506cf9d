"""What the node receives: images and their time, camera_info, depth, persons of another node."""
