"""Topics, QoS, ids, the tables from class names to hri_msgs, and the interface definitions they rest on."""

from __future__ import annotations

from sf_ros.core.tasks import TASKS
from sf_ros.io.recorders import typestore
from sf_ros.msgs import definitions, topics

JAZZY, HUMBLE = typestore(), typestore(humble=True)


def test_interface_definitions_hash_like_those_upstream():
    """Golden values: the type hashes of ros2-gbp/hri_msgs-release 2.3.2, 2.1.0 and vision_msgs 4.1.1's own files."""
    golden = {
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
    assert HUMBLE.hash_rihs01("hri_msgs/msg/Gesture")[7:39] == "fbf9f3c4cb8a64e63a1cf819affbb09a"


def test_every_topic_has_a_type_that_exists_and_a_known_qos():
    for topic in topics.TOPICS.values():
        assert topic.type in JAZZY.types
        assert topic.qos in topics.QOS
    assert {name for t in topics.TOPICS.values() if not (name := t.type).startswith("std_msgs")} <= set(
        definitions.definitions()
    )


def test_mapping_tables_cover_every_label_and_name_constants_that_exist():
    assert tuple(topics.GESTURES) == TASKS["gesture"].labels
    assert tuple(topics.EXPRESSIONS) == TASKS["expression"].labels
    assert all(hasattr(JAZZY.types["hri_msgs/msg/Gesture"], constant) for constant in topics.GESTURES.values())
    constants = [constant for constant in topics.EXPRESSIONS.values() if constant]
    assert all(hasattr(JAZZY.types["hri_msgs/msg/Expression"], constant) for constant in constants)


def test_fixed_topics_are_those_without_an_id():
    fixed = topics.Names().fixed()
    assert {"~/persons", "~/labels/gesture", "/humans/interactions/gazing"} <= set(fixed)
    assert "~/labels/gaze" not in fixed
    assert not any("{" in name for name in fixed)


def test_ids_start_with_their_kinds_letter():
    assert (topics.face_id(12), topics.body_id(12), topics.person_id(12)) == ("f00012", "b00012", "p00012")


def test_what_may_not_be_missed_by_late_joiners_is_latched():
    latched = {key for key, topic in topics.TOPICS.items() if topics.QOS[topic.qos].durability == "transient_local"}
    persons = {key for key in topics.TOPICS if key.startswith(("persons_", "person_"))}
    assert latched == persons | {"groups", "labels"}
    assert all(topics.QOS[topic.qos].reliability == "reliable" for topic in topics.TOPICS.values())
