"""Topics, QoS, ids and the interface definitions."""

from __future__ import annotations

from sf_ros.core.cues import CUES, TAKEN_TOPICS
from sf_ros.msgs import topics
from sf_ros.msgs.typestore import definitions
from tests.msgs.frames import HUMBLE, JAZZY


def test_definitions_have_the_type_hashes_of_the_released_packages():
    """Golden values: the type hashes of ros2-gbp/hri_msgs-release 2.3.2 and vision_msgs 4.1.1's own files."""
    golden = {
        "hri_msgs/msg/EngagementLevel": "275391f46d2e6cc0d21085f8e02dce6a",
        "hri_msgs/msg/Expression": "411b88e0604397d44775d8ec6a4bc693",
        "hri_msgs/msg/Gaze": "e8c46fafadbeca4367ca1987944b5486",
        "hri_msgs/msg/Gesture": "06e95e9d3a204e075adfa05b9d737e48",
        "hri_msgs/msg/Group": "8a5322be10347f118545806061283201",
        "hri_msgs/msg/IdsList": "7e0812d1ac945c98fd3e393568d581ad",
        "hri_msgs/msg/IdsMatch": "1c649d4a87ca2d4fe5f606395e83a863",
        "hri_msgs/msg/NormalizedPointOfInterest2DStamped": "df6a2ae5ef6385c1f30077bcd89ae871",
        "hri_msgs/msg/NormalizedRegionOfInterest2D": "2e50c93f1ca166ee77af9a5424dc951a",
        "vision_msgs/msg/Detection2DArray": "214274120007f4a683866481336b7031",
        "vision_msgs/msg/LabelInfo": "3d37df4015cdf660cc851c51897f2acd",
    }  # the first half of each
    assert {name: JAZZY.hash_rihs01(name)[7:39] for name in golden} == golden
    assert {name: HUMBLE.hash_rihs01(name)[7:39] for name in golden} == golden


def test_every_topic_has_an_existing_type_and_qos():
    for topic in topics.ALL_TOPICS.values():
        assert topic.type in JAZZY.types
        assert topic.qos in topics.QOS
    types = {topic.type for topic in topics.TOPICS.values() if not topic.type.startswith("std_msgs")}
    assert types <= set(definitions())


def test_every_cue_has_its_own_topic():
    names = [topic.name for topic in topics.ALL_TOPICS.values()]
    assert len(names) == len(set(names))
    others = set(topics.ALL_TOPICS) - {cue.topic for cue in CUES.values()}
    assert len(others) + len(CUES) == len(topics.ALL_TOPICS)  # no cue's topic hides another topic's key


def test_the_table_of_cues_refuses_every_other_topic():
    own = {key: topic for key, topic in topics.ALL_TOPICS.items() if key not in {cue.topic for cue in CUES.values()}}
    names = {topic.name.split("/")[1] for topic in own.values() if topic.name.startswith("{node}/")}
    assert {*own, *names, "transition_event"} == TAKEN_TOPICS


def test_published_topics_keep_their_names():
    fixed = topics.Names().fixed()
    assert {name for name in fixed if name.startswith("~")} == {
        *("~/persons", "~/gaze_targets", "~/looking_at_me", "~/expressions", "~/gestures", "~/relationships"),
        *(f"~/labels/{task}" for task in ("gesture", "expression", "looking_at_me", "domain", "relation")),
    }
    assert "/humans/interactions/gazing" in fixed
    assert not any("{" in name for name in fixed)


def test_topics_for_late_joiners_are_latched():
    latched = {key for key, topic in topics.TOPICS.items() if topics.QOS[topic.qos].durability == "transient_local"}
    persons = {key for key in topics.TOPICS if key.startswith(("persons_", "person_"))}
    assert latched == persons | {"groups", "labels"}
    assert all(topics.QOS[topic.qos].reliability == "reliable" for topic in topics.TOPICS.values())
