"""People leave by the clock when images stop, and at once when the node is deactivated. Needs ROS."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sf_ros.msgs.topics import DETECTIONS, TOPICS
from tests.ros.rig import Rig, resources, stamp_ns, until

pytestmark = pytest.mark.ros
ARRAYS = [f"/sf_ros/{key}" for key, topic in TOPICS.items() if topic.type == DETECTIONS]
LISTS = [f"/humans/{name}/tracked" for name in ("faces", "bodies", "persons")] + ["/humans/persons/known"]
LINKS = [f"/humans/persons/p00001/{name}_id" for name in ("face", "body")]


def listen(rig: Rig) -> None:
    """Subscribe to every list and to the links of the first person."""
    for topic in ARRAYS:
        rig.listen(topic, DETECTIONS)
    for topic in LISTS:
        rig.listen(topic, "hri_msgs/msg/IdsList", "latched" if "persons" in topic else "stream")
    for topic in LINKS:
        rig.listen(topic, "std_msgs/msg/String", "latched")


def everybody_left(rig: Rig) -> bool:
    newest = [rig.received[topic][-1:] for topic in (*ARRAYS, *LISTS, *LINKS)]
    return all(messages and not content(messages[0]) for messages in newest)


def content(message: object) -> object:
    """What a list has in it, or the id of a link."""
    for field in ("detections", "ids", "data"):
        if hasattr(message, field):
            return getattr(message, field)
    raise AssertionError(message)


def per_id_topics(rig: Rig) -> list[str]:
    """Topics of faces, bodies and persons that the node has."""
    return [name for name in resources(rig.node) if any(f"/{kind}0000" in name for kind in ("f", "b", "p"))]


def film(rig: Rig, images: list[np.ndarray], first_s: int = 100) -> list[int]:
    """Show images until the links of the first person have arrived."""
    camera = rig.camera()
    listen(rig)
    time.sleep(0.5)  # discovery
    stamps = rig.show(camera, images, first_s=first_s)
    assert until(lambda: all(rig.received[topic] and content(rig.received[topic][-1]) for topic in (*LISTS, *LINKS)))
    assert per_id_topics(rig)
    return stamps


def test_people_leave_when_images_stop(active: Rig, images: list[np.ndarray]) -> None:
    last = film(active, images[:10])[-1]
    assert until(lambda: everybody_left(active))
    assert until(lambda: not per_id_topics(active))
    # As late as the camera was silent.
    waited = (stamp_ns(active.received[ARRAYS[0]][-1]) - last) * 1e-9
    assert 2.0 < waited < 60.0
    count = len(active.received[ARRAYS[0]])
    time.sleep(0.5)
    assert len(active.received[ARRAYS[0]]) == count  # said once

    active.show(active.camera(), images[:5], first_s=300)
    assert until(lambda: active.received[ARRAYS[0]][-1].detections and active.received[LISTS[-1]][-1].ids)


def test_people_leave_when_every_image_is_broken(active: Rig, images: list[np.ndarray]) -> None:
    from tests.ros.rig import image_message

    film(active, images[:5])
    broken = image_message(images[0], 200 * 10**9)
    broken.step = 7
    camera = active.camera()
    assert until(lambda: camera.publish(broken) or time.sleep(0.1) or everybody_left(active))


def test_people_leave_when_the_node_is_deactivated(active: Rig, images: list[np.ndarray]) -> None:
    film(active, images[:5])
    assert active.go("deactivate")
    assert until(lambda: everybody_left(active), 1.5)  # sooner than by the clock
    assert not per_id_topics(active)
    assert active.go("activate")  # as the fixture expects it
