"""The Failures page in a browser, over a table of its own and without a simulator."""

import csv
import io
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest

from pages.failures.page import answer, check_of
from tests.episodes.examples import EVALUATION, LIVE
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import serve
from tests.pages.test_access import LOOKS, serious_findings
from tests.suites.tabletop.moved import episode_of
from tests.waiting import until
from vlm4vla.core.episode import AgentId
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import Filter, Membership
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.failures import RULES_VERSION
from vlm4vla.eval.label_check import SHIPPED, LabelCheck, write_check
from vlm4vla.eval.labelling import Query, label_missing
from vlm4vla.inspection import clip_maker
from vlm4vla.inspection.clips import Clips
from vlm4vla.suites.registry import TABLETOP

PATIENCE = 30_000
"""Milliseconds that a test waits before it fails; nothing here waits for a simulator."""

SHOWN = ".failures[data-shown]"

OTHER = AgentId("policy", "0ther0ther0ther0", "untrained")


def fill(archive: Archive) -> None:
    """28 failed picks that never reach, 2 whose hand goes to another object, 10 that succeed.

    Besides 3 pushes, and of another agent 2 failures live and one under an ablation.
    """
    for seed in range(40):
        outcome = "success" if seed >= 30 else "not reached"
        parts: dict[str, Any] = {}
        if seed in (28, 29):
            motion = TABLETOP.motion(episode_of("pick", steps=1, seed=seed))
            assert motion is not None
            other = next(n for n in range(3) if n != motion.named)
            parts["hand"] = np.tile(motion.positions[0, other] + (0, 0, 0.02), (31, 1))
        one = episode_of("pick", steps=30, seed=seed, outcome=outcome, **parts)
        archive.table.put(one, [EVALUATION], created=1e9 + seed)
    for seed in range(3):
        one = episode_of("push", steps=3, seed=seed, outcome="not reached")
        archive.table.put(one, [EVALUATION], created=1e9)
    for seed, kind in ((60, LIVE), (61, LIVE), (62, Membership("study", "ablation"))):
        one = episode_of("place", steps=3, seed=seed, outcome="not reached", agent=OTHER)
        archive.table.put(one, [kind], created=2e9 + seed)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLM4VLA_HOME", str(folder))
        patch.delenv("VLM4VLA_LOCAL", raising=False)
        yield folder


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    fill(Archive.open())
    with serve(FakeSimulators(), FakeCatalogue()) as address:
        yield f"{address}failures"


@pytest.fixture
def failures(page: Any, url: str) -> Iterator[Any]:
    """The page as it opens. The console must stay free of errors."""
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    page.wait_for_selector(SHOWN)
    yield page
    # Gradio itself complains when its page is left.
    left = ("AbortError", "Unexpected error Connection errored out")
    assert [text for text in complaints if not text.startswith(left) and "404" not in text] == []


def after(page: Any, what: Any) -> None:
    """Does something and waits for the answer."""
    before = page.get_attribute(SHOWN, "data-shown")
    what()
    page.wait_for_function(
        "before => document.querySelector('.failures[data-shown]').dataset.shown !== before",
        arg=before,
    )


def asked(page: Any) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


def test_it_opens_with_the_newest_evaluations_failures(failures: Any) -> None:
    sentence = failures.inner_text(".fl-sentence")
    # Wilson, by hand: 33 of 43.
    assert sentence.startswith("All tasks: 33 of 43 failed (95 % 62 to 87 %). ")
    assert "31 never reached, 2 wrong object" in sentence
    assert failures.locator(".ec").count() == 24
    assert failures.inner_text(".fl-count") == "Episodes 1 to 24 of 33"
    assert asked(failures) == {}
    check = check_of(SHIPPED)
    assert failures.inner_text(".fl-check") == check["said"]
    # What a reader of the sentence need not read stands behind it.
    assert check["command"].startswith("vlm4vla failures --check")
    assert "vlm4vla" not in failures.inner_text(".fl-bars")
    failures.locator(".fl-pairs summary").click()
    assert failures.inner_text(".fl-command") == check["command"]


def test_every_recorded_episode_can_be_listed(failures: Any) -> None:
    kind = failures.locator("[data-facet='kind']")
    assert kind.all_inner_texts() == [
        "everything recorded\n36 of 46",
        "evaluations\n33 of 43",
        "a visitor, live\n2 of 2",
        "ablations\n1 of 1",
    ]
    after(failures, failures.locator("[data-facet='kind'][data-value='live']").click)
    assert asked(failures) == {"kind": "live", "agent": "all", "condition": "all"}
    assert failures.inner_text(".fl-sentence").startswith("All tasks: 2 of 2 failed")
    assert failures.inner_text(".fl-about") == "A visitor, live; every checkpoint; every condition"
    # By keyboard, too.
    failures.focus("[data-facet='kind'][data-value='all']")
    after(failures, lambda: failures.keyboard.press("Enter"))
    assert failures.inner_text(".fl-count") == "Episodes 1 to 24 of 36"
    assert failures.evaluate("document.activeElement.dataset.value") == "all"
    after(failures, failures.locator("[data-facet='label'][data-value='all']").click)
    assert failures.inner_text(".fl-count") == "Episodes 1 to 24 of 46"
    after(failures, failures.locator("[data-facet='label'][data-value='all']").click)
    after(failures, failures.locator("[data-facet='kind'][data-value='evaluation']").click)
    assert asked(failures) == {"agent": "all", "condition": "all"}


def test_a_list_that_holds_a_run_can_be_asked_for(failures: Any, url: str) -> None:
    table = Archive.open().table
    [run] = [row.id for row in table.query(Filter(kind="live")) if row.spec.seed == 60]
    failures.goto(f"{url}?run={run}")
    failures.wait_for_selector(SHOWN)
    assert failures.get_attribute(".ec[aria-current]", "data-id") == run
    assert asked(failures) == {
        "kind": "live",
        "agent": OTHER.digest,
        "condition": "known sentences",
    }
    failures.goto(f"{url}?run=0000000000000000")
    failures.wait_for_selector(SHOWN)
    assert "no such stored episode" in failures.inner_text(".fl-message")
    assert failures.locator(".ec").count() == 24


def clips(page: Any) -> Any:
    return page.locator(".ec[data-clip] .ec-clip")


def test_cards_in_view_play_the_moment_and_a_press_stops_it(failures: Any, url: str) -> None:
    asked_for: list[str] = []
    failures.on("request", lambda one: asked_for.append(one.url) if "/clips/" in one.url else None)
    failures.locator(".ec").first.scroll_into_view_if_needed()
    failures.wait_for_selector(".ec[data-clip]")
    first = failures.locator(".ec").first
    playing = "key => !document.querySelector(`.ec[data-id='${key}'] .ec-clip`).paused"
    key = first.get_attribute("data-id")
    failures.wait_for_function(playing, arg=key)
    assert clips(failures).first.evaluate("one => one.muted && one.loop && one.videoWidth") == 256
    first.locator(".ec-stage").click()
    assert not failures.evaluate(playing, key)
    first.locator(".ec-stage").press("Enter")
    failures.wait_for_function(playing, arg=key)
    # What is far below is not drawn.
    last = failures.locator(".ec").last.get_attribute("data-id")
    assert asked_for and not any(last in one for one in asked_for)
    # What is out of view rests.
    failures.locator(".ec").last.scroll_into_view_if_needed()
    failures.wait_for_function(f"key => !({playing})(key)", arg=key)
    failures.wait_for_selector(f".ec[data-id='{last}'][data-clip]")
    # The other look is kept.
    failures.click("[data-look='drawings']")
    assert clips(failures).count() == 0
    failures.reload()
    failures.wait_for_selector(SHOWN)
    assert failures.get_attribute("[data-look='drawings']", "aria-pressed") == "true"
    assert failures.locator(".fl-clips").is_hidden()
    failures.click("[data-look='clips']")
    failures.wait_for_selector(".ec[data-clip]")


def test_who_wants_nothing_to_move_sees_the_step_itself(browser: Any, url: str) -> None:
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}?label=never+reached&task=pick")
    page.wait_for_selector(SHOWN)
    page.locator(".ec").first.scroll_into_view_if_needed()
    page.wait_for_selector(".ec[data-clip]")
    clip = clips(page).first
    assert clip.evaluate("one => one.paused")
    # The label is about the last of 30 steps, and the clip begins with the first of them.
    assert clip.evaluate("one => one.currentTime") == pytest.approx(1.5, abs=0.01)
    page.locator(".ec-stage").first.click()
    page.wait_for_function("!document.querySelector('.ec-clip').paused")
    context.close()


def test_a_finger_stops_a_clip(browser: Any, url: str) -> None:
    context = browser.new_context(**LOOKS["narrow"])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    page.wait_for_selector(SHOWN)
    page.locator(".ec").first.scroll_into_view_if_needed()
    page.wait_for_selector(".ec[data-clip]")
    page.wait_for_function("!document.querySelector('.ec-clip').paused")
    page.locator(".ec-stage").first.tap()
    page.wait_for_function("document.querySelector('.ec-clip')?.paused")
    page.locator("[data-look='drawings']").tap()
    page.wait_for_function("!document.querySelector('.ec-clip')")
    context.close()


def test_a_clip_is_served_to_whoever_asks_and_to_nobody_too_often(
    failures: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = url.removesuffix("/failures")
    key = failures.locator(".ec").nth(5).get_attribute("data-id")

    def status(name: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"{origin}/clips/{name}.mp4") as answer:
                return answer.status, answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.headers

    until(lambda: status(key)[0] == 200, 30)
    assert "max-age" in status(key)[1]["Cache-Control"]
    assert [status(name)[0] for name in ("0" * 16, "..%2F..%2Fetc")] == [404, 404]
    monkeypatch.setattr(clip_maker, "AN_HOUR", 0)
    drawn = {one.name.partition("-")[0] for one in Clips().folder.iterdir()}
    rows = Archive.open().table.query(Filter(success=True))
    fresh = next(row.id for row in rows if row.id not in drawn)
    code, headers = status(fresh)
    assert code == 429 and int(headers["Retry-After"]) > 0
    assert status(key)[0] == 200


def test_a_card_leads_to_the_same_scene_on_another_backbone() -> None:
    table = EpisodeTable.in_memory()
    one = episode_of("pick", steps=3, seed=4, outcome="not reached")
    table.put(one, [EVALUATION])
    label_missing(table)
    archive = Archive(table, Films(table))

    def chosen(*names: str) -> dict[str, str]:
        [card] = answer(archive, Query(), names)["cards"]
        return {name: value for name, [value] in parse_qs(urlparse(card["other"]).query).items()}

    # Its agent is called "tiny".
    assert chosen("first", "tiny") == {
        "live_a": "tiny",
        "live_b": "first",
        "scene_task": "pick",
        "scene_seed": "4",
        "say": one.spec.instruction,
    }
    assert (chosen("first", "second")["live_a"], chosen("first", "second")["live_b"]) == (
        "first",
        "second",
    )
    assert chosen("tiny") == {} == chosen()


def test_the_blind_check_is_told_with_who_labelled_and_what_differed(tmp_path: Path) -> None:
    assert check_of(tmp_path / "none.json")["said"].startswith("Nobody who had seen neither")
    # 40 and 40 alike, 10 and 10 not: agreement 0.8, by chance 0.5, kappa 0.6.
    pairs = [("dropped", "dropped")] * 40 + [("knocked", "knocked")] * 40
    pairs += [("dropped", "knocked")] * 10 + [("knocked", "dropped")] * 10
    labels = tuple((f"{place:016x}", *pair) for place, pair in enumerate(pairs))
    path = tmp_path / "check.json"
    check = LabelCheck("a command", "2026-01-02", "ann", RULES_VERSION, 0, 942, labels)
    write_check(path, check)
    found = check_of(path)
    for part in ("of 942 failures, 100", "by ann", "80 of 100", "kappa 0.60 (95 %", "2026-01-02"):
        assert part in found["said"]
    assert found["rows"] == [
        ["dropped", 50, 40, "10 knocked"],
        ["knocked", 50, 40, "10 dropped"],
    ]
    assert "have changed" not in found["said"]
    write_check(path, replace(check, rules=RULES_VERSION + 1))
    assert "have changed" in check_of(path)["said"]
    path.write_text("{")
    assert check_of(path)["rows"] == []


def test_a_part_of_a_bar_is_a_filter_and_going_back_undoes_it(failures: Any) -> None:
    part = failures.locator(".fl-stack button[data-label='wrong object']")
    assert part.get_attribute("aria-label") == "pick, wrong object: 2 of 40 (95 % 1 to 17 %)"
    after(failures, part.click)
    assert asked(failures) == {"task": "pick", "label": "wrong object"}
    assert failures.locator(".ec").count() == 2
    assert "It went for another object" in failures.inner_text(".fl-rule")
    after(failures, failures.go_back)
    assert failures.locator(".ec").count() == 24 and asked(failures) == {}


def test_facets_choose_and_the_address_opens_the_same(failures: Any, url: str) -> None:
    after(failures, failures.locator("[data-facet='task'][data-value='push']").click)
    assert failures.inner_text(".fl-sentence").startswith("push: 3 of 3 failed")
    pressed = failures.locator("[data-facet='task'][data-value='push'][aria-pressed='true']")
    assert pressed.count() == 1
    address = failures.url
    after(failures, failures.locator("[data-facet='label'][data-value='never reached']").click)
    failures.goto(address)
    failures.wait_for_selector(SHOWN)
    assert failures.locator(".ec").count() == 3
    failures.goto(f"{url}?label=success")
    failures.wait_for_selector(SHOWN)
    assert failures.locator(".ec[data-kind='success']").count() == 10


def test_a_rectangle_on_the_map_is_a_filter(failures: Any) -> None:
    picture = failures.locator(".fl-table svg")
    box = picture.bounding_box()
    dots = failures.locator(".fl-dot")
    assert dots.count() == 33
    across = dots.evaluate_all("all => all.map(dot => Number(dot.getAttribute('cx')))")
    failures.mouse.move(box["x"] + 3, box["y"] + 3)
    failures.mouse.down()
    failures.mouse.move(box["x"] + box["width"] / 2 - 1, box["y"] + box["height"] - 3, steps=4)
    after(failures, failures.mouse.up)
    assert set(asked(failures)) == {"x", "y"}
    # Left of the middle: half a millimetre for what the map rounds.
    end = 1e3 * float(asked(failures)["y"].split("~")[1])
    inside = failures.locator(".fl-dot").count()
    assert sum(x < end - 0.5 for x in across) <= inside <= sum(x < end + 0.5 for x in across)
    assert 0 < inside < 33
    assert failures.locator(".fl-frame").get_attribute("visibility") == "visible"
    after(failures, failures.locator("[data-clear]").click)
    assert failures.locator(".fl-dot").count() == 33
    for name, bound in {"x0": -30, "x1": 30, "y0": -30, "y1": end / 10}.items():
        failures.fill(f".fl-region [name={name}]", str(bound))
    after(failures, lambda: failures.press(".fl-region [name=y1]", "Enter"))
    assert failures.locator(".fl-dot").count() == inside


def test_keys_go_through_the_wall_and_inspect(failures: Any, url: str) -> None:
    ids = failures.locator(".ec").evaluate_all("all => all.map(one => one.dataset.id)")
    current = "document.querySelector('.ec[aria-current]')?.dataset.id"
    failures.keyboard.press("j")
    failures.keyboard.press("j")
    assert failures.evaluate(current) == ids[1]
    failures.keyboard.press("k")
    assert failures.evaluate(current) == ids[0]
    # From the end of a page to the next, and back.
    for _ in range(23):
        failures.keyboard.press("j")
    after(failures, lambda: failures.keyboard.press("j"))
    assert asked(failures) == {"page": "2"}
    assert failures.evaluate(current) not in (None, *ids)
    after(failures, lambda: failures.keyboard.press("k"))
    assert failures.evaluate(current) == ids[23]
    # The label of the chosen one is wrong: its menu has the focus.
    failures.keyboard.press("x")
    focused = "document.activeElement.closest('.ec')?.dataset.id"
    assert failures.evaluate(focused) == ids[23]
    assert failures.evaluate("document.activeElement.className") == "ec-human"
    failures.keyboard.press("Escape")
    # Letters that are typed are no keys.
    failures.focus(f".ec[data-id='{ids[0]}'] .ec-note")
    failures.keyboard.type("jkix")
    assert urlparse(failures.url).path.endswith("/failures")
    failures.focus(f".ec[data-id='{ids[3]}'] .ec-stage")
    step = failures.inner_text(f".ec[data-id='{ids[3]}'] .ec-badge").split("step ")[1]
    failures.keyboard.press("i")
    failures.wait_for_url(re.compile(rf"/inspect\?run={ids[3]}&t={step}&list="))


def test_a_label_and_a_note_are_kept_beside_the_automatic_one(failures: Any) -> None:
    failures.fill(".fl-who input", "ann")
    card = failures.locator(".ec").nth(2)
    key = card.get_attribute("data-id")
    card.locator(".ec-note").fill("slipped <b>away</b>")
    # The wall is drawn anew, as it is while labels are still missing; half a note stays.
    after(failures, lambda: failures.evaluate("dispatchEvent(new PopStateEvent('popstate'))"))
    card = failures.locator(f".ec[data-id='{key}']")
    assert failures.evaluate("document.activeElement.closest('.ec')?.dataset.id") == key
    after(failures, lambda: card.locator(".ec-human").select_option("missed grasp"))
    assert "0 of 1 episodes" in failures.inner_text(".fl-kappa")
    assert card.locator(".ec-note").input_value() == "slipped <b>away</b>"
    after(failures, card.get_by_role("button", name="Keep").click)
    assert card.locator(".ec-note").input_value() == ""
    said = failures.locator(f".ec[data-id='{key}'] .ec-said li").all_inner_texts()
    assert said == ["ann: missed grasp", "ann: “slipped <b>away</b>”"]
    failures.reload()
    failures.wait_for_selector(SHOWN)
    assert failures.input_value(".fl-who input") == "ann"
    assert failures.locator(f".ec[data-id='{key}'] .ec-human").input_value() == "missed grasp"
    labels = Archive.open().table.labels(key, all_of_them=True)
    assert [(one.label, one.who) for one in labels] == [("missed grasp", "ann"), ("", "ann")]


def test_two_people_who_label_at_once_lose_nothing(browser: Any, url: str) -> None:
    tabs = []
    for who in ("bob", "cem"):
        tab = browser.new_context().new_page()
        tab.set_default_timeout(PATIENCE)
        tab.goto(url)
        tab.wait_for_selector(SHOWN)
        tab.fill(".fl-who input", who)
        tabs.append(tab)
    keys = tabs[0].locator(".ec").evaluate_all("all => all.map(one => one.dataset.id)")[:4]
    for key in keys:
        for tab, label in zip(tabs, ("dropped", "knocked"), strict=True):
            # Neither waits for the other's answer.
            tab.locator(f".ec[data-id='{key}'] .ec-human").select_option(label)
            tab.wait_for_selector(f".ec[data-id='{key}'] .ec-said >> text={label}")
    table = Archive.open().table
    for key in keys:
        said = {one.who: one.label for one in table.labels(key)}
        assert (said["bob"], said["cem"]) == ("dropped", "knocked")
    for tab in tabs:
        tab.context.close()


def test_what_is_shown_can_be_taken_away(failures: Any, url: str) -> None:
    after(failures, failures.locator("[data-facet='task'][data-value='push']").click)
    links = [failures.get_attribute(f".fl-{form}", "href") for form in ("csv", "jsonl")]
    origin = url.removesuffix("/failures")
    with urllib.request.urlopen(origin + links[0]) as answer:
        rows = list(csv.DictReader(io.StringIO(answer.read().decode())))
        assert "attachment" in answer.headers["Content-Disposition"]
    assert [row["task"] for row in rows] == ["push"] * 3
    with urllib.request.urlopen(origin + links[1]) as answer:
        assert len(answer.read().splitlines()) == 3
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{origin}/failures.exe")


def test_a_film_is_shown_where_one_is_kept(failures: Any, url: str) -> None:
    key = failures.locator(".ec").first.get_attribute("data-id")
    assert failures.get_by_role("button", name="Whole film").count() == 0
    Archive.open().films.put(key, b"a film")
    failures.reload()
    failures.wait_for_selector(SHOWN)
    failures.get_by_role("button", name="Whole film").click()
    video = f".ec[data-id='{key}'] video:not(.ec-clip)"
    assert failures.get_attribute(video, "src") == f"/films/{key}.mp4"
    origin = url.removesuffix("/failures")
    with urllib.request.urlopen(f"{origin}/films/{key}.mp4") as answer:
        assert answer.read() == b"a film"
    for other in ("0" * 16, "..%2F..%2Fetc"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{origin}/films/{other}.mp4")
    Archive.open().films.drop(key)


def test_a_drawing_plays_while_it_is_pointed_at(failures: Any, browser: Any, url: str) -> None:
    failures.click("[data-look='drawings']")
    drawing = failures.locator(".ec .ec-drawing").first
    still = drawing.get_attribute("data-step")
    failures.locator(".ec-stage").first.hover()
    failures.wait_for_function(
        "still => ![still, undefined].includes(document.querySelector('.ec-drawing').dataset.step)",
        arg=still,
    )
    failures.mouse.move(2, 2)
    failures.wait_for_function(
        "still => document.querySelector('.ec-drawing').dataset.step === still", arg=still
    )
    context = browser.new_context(reduced_motion="reduce")
    calm = context.new_page()
    calm.set_default_timeout(PATIENCE)
    calm.goto(url)
    calm.wait_for_selector(SHOWN)
    calm.click("[data-look='drawings']")
    calm.locator(".ec-stage").first.hover()
    assert not calm.get_attribute(".ec-drawing >> nth=0", "data-playing")
    context.close()


@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_use_it(browser: Any, url: str, look: str) -> None:
    context = browser.new_context(**LOOKS[look])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}?label=never+reached")
    page.wait_for_selector(SHOWN)
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if look == "narrow":
        page.locator(".fl-rail summary").tap()
        small = page.locator(".fl :is(button, select, a, summary, input):visible").evaluate_all(
            "all => all.filter(one => one.offsetHeight < 44).map(one => one.outerHTML)"
        )
        assert small == []
        # A finger plays a drawing, and stops it.
        page.locator("[data-look='drawings']").tap()
        stage = page.locator(".ec-stage").first
        stage.tap()
        page.wait_for_selector(".ec-drawing[data-playing='1']")
    context.close()


def test_a_table_without_episodes_says_where_they_come_from(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    page.set_default_timeout(PATIENCE)
    with serve(FakeSimulators(), FakeCatalogue()) as address:
        page.goto(f"{address}failures?task=stack")
        page.wait_for_selector(SHOWN)
        assert page.inner_text(".fl-sentence") == "No episode is kept here yet."
        assert "vlm4vla eval" in page.inner_text(".fl-about")
        # What comes in is shown without loading the page again.
        fill(Archive.open())
        page.wait_for_selector("text=stack: no judged episode", timeout=60_000)


def test_nothing_heavy_is_imported_for_it() -> None:
    import subprocess
    import sys

    code = "import sys, pages.failures.page, pages.downloads; print('torch' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert ran.stdout.strip() == "False"
