import numpy as np
import pytest

from tttkd_ros.bags.labelled import labelled_stamps, read_labelled

CLOUD = "sensor_msgs/msg/PointCloud2"
START = 1_700_000_000 * 10**9


def test_recorded_predictions_come_with_their_stamps(make, write_messages):
    labels = [np.array([1, 2, 255], np.uint8), np.array([], np.uint8), np.array([0], np.uint8)]
    messages = [
        ("/segmenter/points_labeled", CLOUD, make.labelled(START + index, each), START + 10 * index)
        for index, each in enumerate(labels)
    ]
    path = write_messages(messages)
    read = list(read_labelled(path))
    assert labelled_stamps(path) == [answer.stamp for answer in read]
    assert [(answer.stamp, answer.arrived) for answer in read] == [(START + i, START + 10 * i) for i in range(3)]
    for answer, expected in zip(read, labels, strict=True):
        np.testing.assert_array_equal(answer.labels, expected)
        assert answer.points.shape == (len(expected), 3)
        confidence = answer.confidence
        assert confidence.dtype == np.float32 and (confidence == 0.5).all() and len(confidence) == len(expected)


def test_the_truth_is_not_read_as_predictions(frame, write_frames):
    path = write_frames([frame(0)])
    with pytest.raises(ValueError, match="no topic could be the predictions"):
        next(read_labelled(path))


def test_a_cloud_without_labels_is_no_prediction(make, write_messages):
    path = write_messages([("/points_labeled", CLOUD, make.cloud(START, np.zeros((2, 3), np.float32)), START)])
    with pytest.raises(ValueError, match="/points_labeled stamped .*: cloud has no field 'confidence'"):
        next(read_labelled(path))
