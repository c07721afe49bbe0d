"""Curves are drawn so that they can be read."""

import math

from tttkd_ros.training.curves import Curves


def test_the_legend_of_many_classes_is_in_the_picture_and_names_those_that_occur():
    curves = Curves(10)
    for step in (5, 10):
        for number in range(30):
            curves.add(f"IoU/class {number}", step, math.nan if number == 3 else number)
        curves.add("mIoU/mean", step, 50.0)
    figure = curves.figure()
    figure.draw_without_rendering()
    legends = [axes.get_legend() for axes in figure.axes]
    assert {text.get_text() for text in legends[0].get_texts()} == {f"class {n}" for n in range(30) if n != 3}
    for axes, legend in zip(figure.axes, legends, strict=True):
        box = legend.get_window_extent()
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 and box.x1 <= figure.bbox.x1
        assert box.x0 >= axes.get_window_extent().x1


def test_a_training_without_curves_draws_nothing(tmp_path):
    Curves(10).draw(tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_the_picture_is_written_to_a_folder_that_is_not_there(tmp_path):
    curves = Curves(10)
    curves.add("mIoU/mean", 5, 50.0)
    curves.draw(tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")
