import time

from vlm4vla.train.loop.progress import Progress
from vlm4vla.train.loop.recipe import Recipe


def test_the_time_left_follows_the_present_speed(monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress = Progress(Recipe(steps=300, batch=40, learning_rate=1.0), 0)
    # Ten steps a second for ten seconds, then one a second.
    for done in range(1, 101):
        clock[0] += 0.1
        progress.show(done, {})
    for done in range(101, 201):
        clock[0] += 1.0
        progress.show(done, {})
    last = capsys.readouterr().err.splitlines()[-1]
    # It tells every 20 seconds. 109 steps are left at one a second; the average would say 0:58.
    assert last.startswith("step 191/300")
    assert "40 pictures/s" in last
    assert last.endswith("1:49 left")
