"""Image topics: the overlay, and the cropped faces and bodies of REP-155."""

from __future__ import annotations

from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from sf_ros.core.types import Box, FrameCues
from sf_ros.core.views import resize
from sf_ros.io.draw import draw
from sf_ros.msgs.images import from_rgb, to_jpeg
from sf_ros.msgs.topics import IMAGE_TOPICS, Names, body_id, face_id
from sf_ros.ros.publishers import Publishers


def publish_images(
    outputs: Publishers, names: Names, header: Any, image: np.ndarray, cues: FrameCues, crop_size: int
) -> None:
    """Publish overlay and crops of one frame (RGB uint8), each only while somebody subscribes to it."""
    raw = outputs.wanted(names.topic("overlay"))
    jpeg = outputs.wanted(names.topic("overlay_compressed"))
    if raw is not None or jpeg is not None:
        overlay = draw(image, cues)
        if raw is not None:
            raw.publish(from_rgb(Image, header, overlay))
        if jpeg is not None:
            jpeg.publish(to_jpeg(CompressedImage, header, overlay))
    for person in cues.people:
        track = person.person.track_id
        for key, name, box in (
            ("face_cropped", face_id(track), person.person.face),
            ("body_cropped", body_id(track), person.person.body),
        ):
            topic = IMAGE_TOPICS[key]
            publisher = outputs.of(name, names.topic(key, name), topic.type, topic.qos) if box else None
            if publisher is not None and box is not None and publisher.get_subscription_count():
                publisher.publish(from_rgb(Image, header, letterbox(image, box, crop_size)))


def letterbox(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The part of an image (RGB uint8) inside a box, fitted into a (size, size) square and zero-padded (REP-155).

    core.views.crop is for models: it pads with grey, and with the surroundings of a region that is not square.
    """
    square = np.zeros((size, size, 3), np.uint8)
    inside = box.clipped(image.shape[1], image.shape[0])
    if inside is None:
        return square
    x1, y1, x2, y2 = (int(v) for v in inside.as_tuple())
    part = image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    scale = size / max(part.shape[:2])
    width, height = (max(round(side * scale), 1) for side in (part.shape[1], part.shape[0]))
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = resize(part, width, height)
    return square
