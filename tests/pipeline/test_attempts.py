"""Attempt marks on a disk that several workers share."""

import threading

from pipeline.attempts import AttemptMarks


def test_marks_count_until_they_are_cleared(tmp_path):
    marks = AttemptMarks(tmp_path / "attempts")
    assert marks.count("a") == 0
    marks.clear("a")
    marks.mark("a")
    marks.mark("a")
    marks.mark("b")
    assert (marks.count("a"), marks.count("b")) == (2, 1)
    assert AttemptMarks(tmp_path / "attempts").count("a") == 2
    marks.clear("a")
    assert (marks.count("a"), marks.count("b")) == (0, 1)


def test_workers_at_the_same_tile_do_not_get_in_each_others_way(tmp_path):
    errors = []

    def work() -> None:
        marks = AttemptMarks(tmp_path / "attempts")
        try:
            for _ in range(400):
                marks.mark("a")
                marks.count("a")
                marks.clear("a")
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
