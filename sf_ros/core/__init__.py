"""What every other room shares: types, configuration, tasks, views, gaze maps, the bundle. numpy and OpenCV only."""
