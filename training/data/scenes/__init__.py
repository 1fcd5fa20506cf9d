"""Procedural scenes of drawn people with exact labels for every task.

A sample in three steps: `scene.sample_scene` draws a 3-D state; `render.render` gives its image and annotation;
`dataset.Scenes` turns them into samples of a task. Appearance, objects and rooms of the test split occur in no other.

    scene, pairs, roles, gaze_targets    the state and its sampling
    person/, setting/                    one person; rooms and objects: state and drawing
    painter, sensor, render              from the state to pixels and annotation
    dataset, clips, text/                samples, video clips, captions and region phrases
"""
