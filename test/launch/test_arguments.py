"""`segment.launch.py` with arguments that are wrong. (In a file of their own: launch_testing takes all of a file that
holds a launch test for one.)
"""

from __future__ import annotations

import os
import subprocess

import pytest

pytestmark = pytest.mark.usefixtures("ros2_launch")


@pytest.mark.parametrize(
    ("argument", "words"),
    [("params_file:=nowhere.yaml", "no parameter file at nowhere.yaml"),
     ("use_sim_time:=maybe", "use_sim_time is 'maybe', expected true or false"),
     ("preset:=sick", "preset is 'sick', expected one of hesai"),
     ("image:=/a/image,/b/image", "image is '/a/image,/b/image', expected one topic for each of the cameras")],
)
def test_what_is_wrong_with_an_argument_is_told_before_anything_starts(argument, words, tmp_path):
    done = subprocess.run(
        ["ros2", "launch", "tttkd_ros", "segment.launch.py", argument], text=True, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"ROS_LOG_DIR": str(tmp_path)},
    )
    assert (done.returncode, words in done.stdout, "process started" in done.stdout) == (1, True, False), done.stdout
