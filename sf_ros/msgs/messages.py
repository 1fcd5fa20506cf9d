"""FrameCues -> ROS messages: a pure function over message classes, rclpy's or those of a rosbags typestore."""

from __future__ import annotations

from collections.abc import Mapping

from sf_ros.core.types import FrameCues
from sf_ros.msgs.arrays import CueArrays
from sf_ros.msgs.builder import MessageBuilder, MessageSettings, MessageTypes, TopicMessage
from sf_ros.msgs.hri import PublisherState, hri_messages, next_state
from sf_ros.msgs.spatial import spatial_messages

DEFAULTS = MessageSettings()
FIRST_FRAME = PublisherState()


def messages(
    cues: FrameCues,
    types: MessageTypes,
    settings: MessageSettings = DEFAULTS,
    state: PublisherState = FIRST_FRAME,
    *,
    stamp_ns: int | None = None,
    person_ids: Mapping[int, str] | None = None,
) -> tuple[list[TopicMessage], PublisherState]:
    """All messages of one frame except images, and the state to pass with the next frame.

    `stamp_ns` is the exact time of the image's header; `cues.stamp` (float seconds) rounds it to about 0.2 us.
    `person_ids` maps track ids to person ids where `settings.persons` is external.
    """
    stamp_ns = round(cues.stamp * 1e9) if stamp_ns is None else stamp_ns
    builder = MessageBuilder(cues, types, settings, stamp_ns, person_ids or {})
    after, arrays = next_state(builder, state), CueArrays(builder)
    items = [*hri_messages(builder, state, after), *arrays.messages(), *spatial_messages(builder)]
    if not state.labels_sent:
        items += arrays.labels()
    return items, after
