import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests import waiting
from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.train.loop import state
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.loop.state import TrainingState, load_state, save_state
from vlm4vla.train.loop.train import Watch, check_finished, train

RECIPE = Recipe(steps=24, batch=8, learning_rate=0.05, warmup=4, save_every=5, ema=0.9)


class Line(nn.Module):
    """Fits a line to points, with dropout so that random states matter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(4, 4)
        self.query = nn.Parameter(torch.zeros(4))

    def forward(self, batch):
        out = self.layer(nn.functional.dropout(batch, 0.3)) + self.query
        return (out - batch).square().mean(), {"seen": batch.mean()}


class Objective:
    query = "query"

    def __init__(self):
        self.module = Line()

    def batch(self, index, rank=0, ranks=1):
        return torch.randn(8, 4, generator=torch.Generator().manual_seed(index))


def weights(lesson):
    return torch.cat([p.detach().flatten() for p in lesson.module.parameters()])


def run(folder, recipe=RECIPE, **options):
    lesson = Objective()
    watch = Watch(**{name: options.pop(name) for name in list(options) if name in vars(Watch())})
    train(lesson, recipe, folder, watch=watch, device="cpu", **options)
    return weights(lesson)


class Stopped(Exception):
    pass


class StoppingLesson(Objective):
    """Fails in the middle of a step, as a crash would."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def batch(self, index, rank=0, ranks=1):
        if index == self.at:
            raise Stopped
        return super().batch(index)


def test_rates_rise_then_follow_the_cosine():
    recipe = Recipe(steps=110, batch=1, learning_rate=1.0, warmup=10, final_rate=0.1)
    assert recipe.rate(0) == pytest.approx(0.1)
    assert recipe.rate(9) == pytest.approx(1.0)
    assert recipe.rate(60) == pytest.approx(0.55)
    assert recipe.rate(110) == pytest.approx(0.1)
    assert replace(recipe, schedule="constant").rate(100) == 1.0
    late = replace(recipe, schedule="late")
    # The last fifth of 110 steps begins at 88.
    assert [late.rate(step) for step in (10, 50, 88)] == [1.0, 1.0, 1.0]
    assert late.rate(99) == pytest.approx(0.55)


@pytest.mark.parametrize("at", [3, 5, 17])
def test_a_crashed_run_goes_on_to_the_identical_weights(tmp_path, at):
    whole = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        train(StoppingLesson(at), RECIPE, tmp_path / "crashed", device="cpu")
    assert torch.equal(run(tmp_path / "crashed"), whole)


class Normed(Line):
    """As the line, with means of what it saw, which are saved and are no weights."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("unsaved", torch.ones(1), persistent=False)

    def forward(self, batch):
        return super().forward(self.norm(batch))


def normed(lesson):
    lesson.module = Normed()
    return lesson


def crash_normed(folder):
    with pytest.raises(Stopped):
        train(normed(StoppingLesson(17)), RECIPE, folder, device="cpu")


def test_a_crashed_run_goes_on_with_the_buffers_that_it_had(tmp_path):
    whole, resumed = normed(Objective()), normed(Objective())
    train(whole, RECIPE, tmp_path / "whole", device="cpu")
    crash_normed(tmp_path / "crashed")
    train(resumed, RECIPE, tmp_path / "crashed", device="cpu")
    found = resumed.module.state_dict()
    assert found["norm.num_batches_tracked"] == 24
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, found[name]), name
    saved = load_state(tmp_path / "crashed").tensors
    assert {name for name in saved if name.startswith("buffers/")} == {
        "buffers/norm.running_mean",
        "buffers/norm.running_var",
        "buffers/norm.num_batches_tracked",
    }


def test_a_state_of_an_earlier_version_has_no_buffers_and_goes_on(tmp_path):
    whole, resumed = normed(Objective()), normed(Objective())
    train(whole, RECIPE, tmp_path / "whole", device="cpu")
    crash_normed(tmp_path / "crashed")
    without_checksum(tmp_path / "crashed" / "state-00000015")
    file = tmp_path / "crashed" / "state-00000015" / "tensors.safetensors"
    save_file({k: v for k, v in load_file(file).items() if not k.startswith("buffers/")}, file)
    train(resumed, RECIPE, tmp_path / "crashed", device="cpu")
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.module.norm.num_batches_tracked == 24 - 15


def without_checksum(folder):
    """Makes a state's facts those of a version that kept no checksum."""
    facts = json.loads((folder / "facts.json").read_text())
    del facts["sha256"]
    (folder / "facts.json").write_text(json.dumps(facts))


def test_accumulation_of_halves_equals_the_whole_batch(tmp_path):
    class Plain(Line):
        def forward(self, batch):
            return (self.layer.weight.sum() * batch).square().mean() + self.query.sum(), {}

    class Parts(Objective):
        def __init__(self, parts):
            self.module = Plain()
            self.parts = parts

        def batch(self, index, rank=0, ranks=1):
            whole = super().batch(index // self.parts)
            return whole.chunk(self.parts)[index % self.parts]

    results = []
    for parts in (1, 2):
        lesson = Parts(parts)
        recipe = replace(RECIPE, accumulation=parts)
        train(lesson, recipe, tmp_path / str(parts), device="cpu")
        results.append(weights(lesson))
    assert torch.allclose(*results, atol=1e-4)


def test_another_recipe_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(UserError, match="another recipe \\(learning_rate differ\\)"):
        run(tmp_path, replace(RECIPE, learning_rate=0.01))


def test_other_data_is_refused(tmp_path):
    run(tmp_path, about={"data": "a", "tasks": ("reach",)})
    run(tmp_path, about={"data": "a", "tasks": ("reach",)})
    with pytest.raises(UserError, match=r"\(data differ\)"):
        run(tmp_path, about={"data": "b", "tasks": ("reach",)})


def test_a_run_that_does_not_say_what_its_episodes_were_to_be_goes_on(tmp_path):
    run(tmp_path / "old", about={"data": "a"})
    run(tmp_path / "old", about={"data": "a", "asked": "these"})
    run(tmp_path / "new", about={"data": "a", "asked": "these"})
    with pytest.raises(UserError, match=r"\(asked differ\)"):
        run(tmp_path / "new", about={"data": "a", "asked": "others"})


def test_a_finished_run_is_taken_over_as_it_was_made_alone(tmp_path):
    run(tmp_path, about={"data": "a", "tasks": ("reach",), "frozen": ["head"]})
    check_finished(tmp_path, RECIPE, {"data": "a", "tasks": ("reach",)})
    with pytest.raises(UserError, match=r"was finished with another recipe \(data, steps differ\)"):
        check_finished(tmp_path, replace(RECIPE, steps=9), {"data": "b"})


@pytest.mark.parametrize("account", [None, "", "[1]"])
def test_a_finished_run_that_does_not_say_how_is_not_taken_over(tmp_path, account):
    if account is not None:
        (tmp_path / "recipe.json").write_text(account)
    with pytest.raises(UserError, match=r"recipe\.json does not say how"):
        check_finished(tmp_path, RECIPE, {})


def test_history_is_the_same_with_and_without_a_crash(tmp_path):
    def check(done):
        return {"figure": 2.0 * done}

    run(tmp_path / "whole", check=check, check_every=4)
    with pytest.raises(Stopped):
        crashing = StoppingLesson(18)
        train(crashing, RECIPE, tmp_path / "b", watch=Watch(check, 4), device="cpu")
    run(tmp_path / "b", check=check, check_every=4)
    whole, resumed = (
        json.loads((tmp_path / f / "history.json").read_text()) for f in ("whole", "b")
    )
    assert whole == resumed
    assert [entry["step"] for entry in whole] == [4, 8, 12, 16, 20, 24]
    assert whole[1]["figure"] == 16.0


def test_a_kill_between_the_last_state_and_the_history_loses_no_check(tmp_path, monkeypatch):
    check = {"check": lambda done: {"figure": 2.0 * done}, "check_every": 4}

    def write(path, value):
        if path.name == "history.json" and value[-1]["step"] == 24:
            raise Stopped
        write_json(path, value)

    run(tmp_path / "whole", **check)
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr("vlm4vla.train.loop.train.write_json", write)
        run(tmp_path / "killed", **check)
    assert load_state(tmp_path / "killed").step == 24
    run(tmp_path / "killed", **check)
    whole, resumed = (
        json.loads((tmp_path / f / "history.json").read_text()) for f in ("whole", "killed")
    )
    assert resumed == whole


def test_clipping_leaves_the_query_out(tmp_path):
    class SteepLine(Line):
        def forward(self, batch):
            return 100 * (self.layer.bias.sum() + self.query.sum()), {}

    class Steep(Objective):
        def __init__(self):
            self.module = SteepLine()

    recipe = replace(RECIPE, steps=1, clip=1.0, ema=0.0)
    train(Steep(), recipe, tmp_path, device="cpu")
    found = load_state(tmp_path).tensors
    # Adam keeps 0.1 of the first gradient: of the whole one for the query, and for the clipped
    # bias of 100 / sqrt(4 * 100^2) = 0.5.
    assert found["exp_avg/query"].tolist() == pytest.approx([10.0] * 4)
    assert found["exp_avg/layer.bias"].tolist() == pytest.approx([0.05] * 4, rel=1e-4)


def test_the_average_is_what_is_measured_and_handed_on(tmp_path):
    measured = {}
    lesson = Objective()

    def check(done):
        measured[done] = weights(lesson)
        return {"figure": 1.0}

    train(lesson, RECIPE, tmp_path, watch=Watch(check, 10), device="cpu")
    assert sorted(measured) == [10, 20, 24]
    assert torch.equal(measured[24], weights(lesson))
    raw = load_state(tmp_path).tensors
    assert not torch.allclose(raw["weights/query"], lesson.module.query)
    assert torch.equal(raw["average/query"], lesson.module.query)


def test_measuring_changes_nothing(tmp_path):
    plain = run(tmp_path / "plain")
    checked = run(tmp_path / "checked", check=lambda done: {"x": 0.0}, check_every=3)
    assert torch.equal(plain, checked)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    lesson = Objective()
    lesson.module.forward = lambda batch: (lesson.module.query.sum() * float("nan"), {})
    with pytest.raises(UserError, match="loss became nan at step 0"):
        train(lesson, RECIPE, tmp_path, device="cpu")


@pytest.mark.parametrize("broken", ["query", "layer.bias"])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_gradient_that_is_no_number_stops_the_run_before_its_step(tmp_path, broken, clip):
    class Broken(Objective):
        """From step 3 on one gradient is NaN, as that of a root is at 0; the loss is a number."""

        def batch(self, index, rank=0, ranks=1):
            if index == 3:
                weight = dict(self.module.named_parameters())[broken]
                weight.register_hook(lambda gradient: gradient * float("nan"))
            return super().batch(index)

    recipe = replace(RECIPE, clip=clip, save_every=1)
    with pytest.raises(UserError, match="gradient became nan at step 3"):
        train(Broken(), recipe, tmp_path, device="cpu")
    found = load_state(tmp_path)
    assert found.step == 3
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())


def test_a_gradient_that_is_looked_at_is_no_metric(tmp_path):
    run(tmp_path, check=lambda done: {"figure": 1.0}, check_every=24)
    history = json.loads((tmp_path / "history.json").read_text())
    assert set(history[0]) == {"step", "loss", "seen", "norm", "figure"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_leaves_the_last_state(tmp_path, value):
    class Diverging(Objective):
        def batch(self, index, rank=0, ranks=1):
            return torch.full((8, 4), value if index == 3 else 1.0)

    lesson = Diverging()
    lesson.module.forward = lambda batch: ((batch * lesson.module.query).mean(), {})
    lesson.module.query.data += 1
    with pytest.raises(UserError, match=f"loss became {value} at step 3"):
        train(lesson, replace(RECIPE, save_every=1), tmp_path, device="cpu")
    assert load_state(tmp_path).step == 3


def test_slow_steps_are_saved_by_the_clock(tmp_path, monkeypatch):
    """Saved after 5 minutes, and once a save takes one, not before 20 minutes after it."""
    now = [0.0]
    monkeypatch.setattr(state, "time", SimpleNamespace(monotonic=lambda: now[0]))
    saved = {}

    def kept(folder, found):
        saved[found.step] = now[0]
        save_state(folder, found)
        now[0] += 60

    class Slow(Objective):
        def batch(self, index, rank=0, ranks=1):
            now[0] += 100
            return super().batch(index)

    monkeypatch.setattr(state, "save_state", kept)
    train(Slow(), replace(RECIPE, save_every=1_000), tmp_path, device="cpu")
    assert saved == {3: 300.0, 15: 1_560.0, 24: 2_520.0}
    assert load_state(tmp_path).step == 24


def test_an_interrupt_ends_the_step_and_saves(tmp_path):
    class Interrupted(Objective):
        def batch(self, index, rank=0, ranks=1):
            if index == 7:
                os.kill(os.getpid(), signal.SIGINT)
            return super().batch(index)

    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(), RECIPE, tmp_path, device="cpu")
    assert load_state(tmp_path).step == 8
    assert torch.equal(run(tmp_path), run(tmp_path / "whole"))


def test_trackio_must_be_installed_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match="trackio is not installed"):
        run(tmp_path, track="project")


def test_kill_nine_loses_at_most_the_steps_since_the_last_save(tmp_path):
    slow = (
        "import time\n"
        "from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from test_train import RECIPE, Objective\n"
        "from vlm4vla.train.loop.train import train\n"
        "class Slow(Objective):\n"
        "    def batch(self, index, rank=0, ranks=1):\n"
        "        time.sleep(0.05)\n"
        "        return super().batch(index)\n"
        f"train(Slow(), RECIPE, Path({str(tmp_path / 'killed')!r}), device='cpu')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", slow], env=environment)
    deadline = time.monotonic() + 120
    while load_state(tmp_path / "killed") is None and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    found = load_state(tmp_path / "killed")
    assert found is not None
    assert found.step >= 5
    assert torch.equal(run(tmp_path / "killed"), run(tmp_path / "whole"))


def test_sigterm_to_the_process_group_ends_the_step_and_saves(tmp_path):
    folder = tmp_path / "run"
    script = (
        "import time\n"
        "from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from test_train import RECIPE, Objective\n"
        "from vlm4vla.train.loop.train import Watch, train\n"
        "class Slow(Objective):\n"
        "    def batch(self, index, rank=0, ranks=1):\n"
        "        time.sleep(0.05)\n"
        "        return super().batch(index).numpy()\n"
        f"started = Path({str(tmp_path / 'started')!r})\n"
        "watch = Watch(lambda done: started.touch() or {}, 3)\n"
        "recipe = replace(RECIPE, steps=10_000, save_every=10_000)\n"
        f"train(Slow(), recipe, Path({str(folder)!r}), watch=watch, device='cpu', workers=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    waiting.until(lambda: (tmp_path / "started").exists() or process.poll() is not None, 120)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert load_state(folder).step >= 3


def test_a_half_written_snapshot_is_never_read(tmp_path):
    save_state(tmp_path, TrainingState(5, {"a": torch.ones(2)}, {"x": 1}))
    half = tmp_path / ".state-00000007.saving-x1" / "new"
    half.mkdir(parents=True)
    (half / "tensors.safetensors").write_bytes(b"cut off")
    assert load_state(tmp_path).step == 5
    save_state(tmp_path, TrainingState(10, {"a": torch.zeros(2)}, {"x": 2}))
    found = load_state(tmp_path)
    assert (found.step, found.tensors["a"].tolist(), found.facts) == (10, [0, 0], {"x": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["state-00000010"]


def test_the_newest_of_two_whole_snapshots_wins(tmp_path):
    """A kill between writing the new one and removing the old one leaves both."""
    save_state(tmp_path, TrainingState(5, {"a": torch.ones(1)}, {}))
    kept = tmp_path / "kept"
    os.rename(tmp_path / "state-00000005", kept)
    save_state(tmp_path, TrainingState(10, {"a": torch.zeros(1)}, {}))
    os.rename(kept, tmp_path / "state-00000005")
    assert load_state(tmp_path).step == 10


@pytest.mark.parametrize("file", ["tensors.safetensors", "facts.json"])
@pytest.mark.parametrize("length", [0, 9, None])
def test_a_damaged_snapshot_is_named_with_what_to_do(tmp_path, file, length):
    run(tmp_path)
    path = tmp_path / "state-00000024" / file
    content = path.read_bytes()
    path.unlink()
    if length is not None:
        path.write_bytes(content[:length])
    with pytest.raises(UserError, match=f"The snapshot {path} cannot be read: ") as told:
        run(tmp_path)
    assert told.value.fix == f"Delete {path.parent}; the run then begins anew."


def test_a_damaged_snapshot_with_an_older_one_beside_it_names_that(tmp_path):
    """A kill between writing the new one and removing the old one leaves both."""
    run(tmp_path)
    newest = tmp_path / "state-00000024"
    shutil.copytree(newest, tmp_path / "state-00000020")
    (newest / "facts.json").write_text("{")
    with pytest.raises(UserError) as told:
        run(tmp_path)
    assert told.value.fix == f"Delete {newest}; the run then goes on from state-00000020."


def test_a_snapshot_that_lacks_something_is_named(tmp_path):
    run(tmp_path)
    folder = tmp_path / "state-00000024"
    facts = json.loads((folder / "facts.json").read_text())
    tensors = load_file(folder / "tensors.safetensors")
    for lack in ("step", "recipe", "about", "history", "updates"):
        kept = {name: value for name, value in facts.items() if name != lack}
        (folder / "facts.json").write_text(json.dumps(kept))
        with pytest.raises(UserError, match=str(folder)):
            run(tmp_path)
    (folder / "facts.json").write_text(json.dumps(facts))
    without_checksum(folder)
    for lack in ("weights/query", "average/query", "random/cpu"):
        save_file({k: v for k, v in tensors.items() if k != lack}, folder / "tensors.safetensors")
        with pytest.raises(UserError, match=f"{folder} .*{lack}"):
            run(tmp_path)


def test_a_full_disk_leaves_the_last_snapshot_and_nothing_else(tmp_path):
    """A limit on the size of files stands for the disk: what is written beyond it is refused."""
    save_state(tmp_path, TrainingState(5, {"a": torch.ones(1)}, {}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(UserError, match=r"state-00000010: File too large\. Free some disk"):
            save_state(tmp_path, TrainingState(10, {"a": torch.ones(10_000)}, {}))
        with pytest.raises(UserError, match=r"state-00000010: File too large\. Free some disk"):
            save_state(tmp_path, TrainingState(10, {"a": torch.ones(1)}, {"x": "y" * 10_000}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000005"]
    assert load_state(tmp_path).step == 5


def test_no_pickle_in_a_run(tmp_path):
    run(tmp_path)
    files = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["facts.json", "history.json", "recipe.json", "tensors.safetensors"]
    assert json.loads((tmp_path / "recipe.json").read_text())["steps"] == 24
    assert SimpleNamespace(**json.loads((tmp_path / "recipe.json").read_text())).ema == 0.9
