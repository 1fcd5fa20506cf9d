"""FrameCues -> ROS messages: a pure function over message classes, rclpy's or those of a rosbags typestore."""

from __future__ import annotations

from collections.abc import Mapping

from sf_ros.core.types import FrameCues
from sf_ros.msgs.arrays import CueArrays
from sf_ros.msgs.builder import MessageBuilder, MessageSettings, MessageTypes, StampOf, TopicMessage
from sf_ros.msgs.hri import PublisherState, hri_messages, next_state
from sf_ros.msgs.spatial import spatial_messages

DEFAULTS = MessageSettings()
FIRST_FRAME = PublisherState()


def to_nanoseconds(seconds: float) -> int:
    """The stamp in nanoseconds of a frame whose time is its image's stamp in seconds."""
    return round(seconds * 1e9)


def messages(
    cues: FrameCues,
    types: MessageTypes,
    settings: MessageSettings = DEFAULTS,
    state: PublisherState = FIRST_FRAME,
    *,
    stamp_of: StampOf = to_nanoseconds,
    person_ids: Mapping[int, str] | None = None,
) -> tuple[list[TopicMessage], PublisherState]:
    """All messages of one frame except images, and the state to pass with the next frame.

    `stamp_of` gives the stamps of the images' headers exactly; `cues.stamp` (float seconds) is exact to about 0.2 us.
    `person_ids` maps track ids to person ids where `settings.persons` is external.
    """
    builder = MessageBuilder(cues, types, settings, stamp_of, person_ids or {})
    after, arrays = next_state(builder, state), CueArrays(builder)
    items = [*hri_messages(builder, state, after), *arrays.messages(), *spatial_messages(builder)]
    if not state.labels_sent:
        items += arrays.labels()
    return items, after


def departure(
    stamp_ns: int, frame_id: str, types: MessageTypes, settings: MessageSettings, state: PublisherState
) -> tuple[list[TopicMessage], PublisherState]:
    """The messages that say that everybody has left, without an image: empty lists, ids and groups; and the state."""
    nobody = FrameCues(0.0, 0, 1, 1, frame_id=frame_id)
    builder = MessageBuilder(nobody, types, settings, lambda _: stamp_ns, {})
    left = PublisherState(links=dict.fromkeys(state.links, ("", "")), labels_sent=state.labels_sent)
    items = [*hri_messages(builder, state, left), *CueArrays(builder).messages()]
    return items, PublisherState(labels_sent=state.labels_sent)
