"""The playground in a real browser: what people do there, at a desk and on a phone.

Screenshots of what was tested go to the directory in SCREENSHOTS, if it is set.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Request, Route, expect, sync_playwright

from tests.e2e.process import ROOT, STORE, await_ready, serving

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]  # fmt: skip
SIZES = {"desktop": (1200, 900), "phone": (390, 844)}
CAT = STORE / "all_cnn_cifar10" / "1" / "samples" / "cat.png"
DIGITS = STORE / "wav2letter_fsdd" / "1" / "samples" / "digits.wav"
SAID = "five six five two two"
# What came over the wire, but for the model's own samples.
WEIGHT = """performance.getEntries()
    .filter(entry => entry.transferSize && !entry.name.includes("/samples/"))
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""
DOUBTFUL = "A new company said"
SENTENCE = "The striker scored twice as the champions won the cup final"
ODD = f'{SENTENCE}, it\'s "@$HOME" \\ for one 🏆\nand `two`'


SERVE = [sys.executable, "-m", "convserve.cli", "serve"]
STORED = {"CONVSERVE_STORE": str(STORE)}
KEY, WRONG = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(SERVE, cwd=ROOT, log=log, environment=STORED) as server:
        await_ready(server.client)
        yield str(server.client.base_url)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that asks for a key."""
    log = tmp_path_factory.mktemp("locked") / "log"
    environment = STORED | {"CONVSERVE_INFERENCE_KEYS": f"app={KEY}"}
    with serving(SERVE, cwd=ROOT, log=log, environment=environment) as server:
        await_ready(server.client)
        yield str(server.client.base_url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(params=sorted(SIZES))
def blank(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A new tab; the test fails if it complains about anything but a refusal."""
    width, height = SIZES[request.param]
    complaints: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if request.param == "phone" else "light",
        permissions=["camera", "microphone"],
    )
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    keep(page, request.node.name)
    assert accessible(page) == []
    assert not overflows(page)
    assert [complaint for complaint in complaints if "status of 401" not in complaint] == []
    context.close()


@pytest.fixture
def page(blank: Page, url: str) -> Page:
    """A cold page."""
    blank.goto(url)
    return blank


def keep(page: Page, test: str) -> None:
    if where := os.environ.get("SCREENSHOTS"):
        name = test.removeprefix("test_").replace("[", "-").rstrip("]")
        page.screenshot(path=Path(where) / f"{name}.png", full_page=True)


def accessible(page: Page) -> list[str]:
    """Return what axe finds seriously wrong."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found = page.evaluate("axe.run()")["violations"]
    serious = [entry for entry in found if entry["impact"] in {"serious", "critical"}]
    return [f"{entry['id']}: {entry['nodes'][0]['html']}" for entry in serious]


def overflows(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def choose(page: Page, model: str) -> None:
    """Select a model and wait until the page is about it: its editor has replaced the other's."""
    page.select_option("#model", model)
    title = page.locator(f"#model option[value='{model}']").inner_text()
    expect(page.get_by_role("heading", level=1)).to_have_text(title)


def expect_verdict(page: Page, label: str) -> None:
    expect(page.locator(".verdict")).to_have_text(label)


def test_a_sample_is_one_click(page: Page) -> None:
    page.locator("#samples button").first.click()
    expect_verdict(page, "cat")
    expect(page.locator("#answer")).to_contain_text("ms on the server")
    assert page.locator("#answer .bar").count() == 8


def test_a_file_is_chosen(page: Page) -> None:
    page.set_input_files("input[type=file]", CAT)
    expect_verdict(page, "cat")
    expect(page.locator("#input img")).to_be_visible()


def test_a_file_is_dropped(page: Page) -> None:
    data = page.evaluate_handle(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "cat.png", {type: "image/png"}));
            return data;
        }""",
        list(CAT.read_bytes()),
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": data})
    expect_verdict(page, "cat")


def test_a_file_is_pasted(page: Page) -> None:
    expect(page.get_by_text("Drop or paste a picture here")).to_be_visible()
    page.evaluate(
        """bytes => {
            const clipboardData = new DataTransfer();
            const file = new File([new Uint8Array(bytes)], "cat.png", {type: "image/png"});
            clipboardData.items.add(file);
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData}));
        }""",
        list(CAT.read_bytes()),
    )
    expect_verdict(page, "cat")


def test_a_picture_is_taken(page: Page) -> None:
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take the picture").click()
    expect(page.locator(".verdict")).not_to_be_empty()


def test_a_text_is_typed(page: Page) -> None:
    choose(page, "char_cnn_ag_news")
    page.get_by_role("textbox").press_sequentially(SENTENCE)
    expect_verdict(page, "Sports")


def test_a_sound_is_written_down(page: Page) -> None:
    choose(page, "wav2letter_fsdd")
    page.set_input_files("input[type=file]", DIGITS)
    expect_verdict(page, SAID)
    rows = page.locator("#answer tbody tr")
    assert " ".join(row.split()[0] for row in rows.all_inner_texts()) == SAID
    begins = [float(text.split()[0]) for text in rows.locator("td:nth-child(2)").all_inner_texts()]
    assert begins == sorted(begins)
    assert page.locator("#answer .bar").count() > 1
    assert page.locator("audio").evaluate("player => player.src.startsWith('blob:')")


def test_a_sound_is_recorded(page: Page) -> None:
    choose(page, "wav2letter_fsdd")
    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#answer")).to_contain_text("ms on the server")


def test_a_picture_is_explained(page: Page) -> None:
    page.locator("#samples button").nth(1).click()
    page.get_by_role("button", name="What speaks for").click()
    expect(page.locator("#why .overlay img")).to_be_visible()
    page.get_by_label("Opacity of the map").fill("30")
    assert page.locator("#why canvas").evaluate("canvas => canvas.style.opacity") == "0.3"


def test_every_method_of_the_model_explains(page: Page) -> None:
    choose(page, "all_cnn_cifar10")
    page.locator("#samples button").nth(1).click()
    page.get_by_role("button", name="What speaks for").click()
    methods = page.get_by_label("Method").locator("option")
    values = methods.evaluate_all("options => options.map(option => option.value)")
    assert values == ["occlusion", "cam", "gradient", "deconvnet", "guided"]
    for value, told in zip(values, methods.all_inner_texts(), strict=True):
        page.get_by_label("Method").select_option(value)
        expect(page.locator("#why")).to_contain_text(f"By {told}", timeout=30_000)
        expect(page.locator("#why .overlay img")).to_be_visible()


def test_a_text_is_explained(page: Page) -> None:
    choose(page, "char_cnn_ag_news")
    page.get_by_role("textbox").fill("🏆 " + SENTENCE)
    expect_verdict(page, "Sports")
    page.get_by_role("button", name="What speaks for").click()
    expect(page.locator("#why .spans-text")).to_have_text("🏆 " + SENTENCE)
    expect(page.locator("#why")).not_to_contain_text("false")
    assert page.locator("#why mark").count() > 5


def asked(url: str, model: str, body: bytes | str, media: str) -> dict[str, Any]:
    """Return what the service says without the page."""
    at = f"{url}/v1/models/{model}/predict"
    answer = httpx.post(at, content=body, headers={"Content-Type": media}, trust_env=False)
    found: dict[str, Any] = answer.json()["predictions"][0]
    return found


def test_a_doubtful_answer_is_a_set(page: Page, url: str) -> None:
    doubtful = asked(url, "char_cnn_ag_news", DOUBTFUL, "text/plain")["set"]
    assert len(doubtful) > 1
    choose(page, "char_cnn_ag_news")
    page.get_by_role("textbox").fill(DOUBTFUL)
    expected = f"{', '.join(doubtful[:-1])} or {doubtful[-1]}, 95 %"
    expect(page.locator(".set strong")).to_have_text(expected)


def test_a_stranger_is_told_from_what_is_usual(page: Page, url: str) -> None:
    # Far beyond the threshold, whichever graph answers; of noise they tell only half.
    stripes = io.BytesIO()
    rows = np.arange(32) // 2 % 2 * 255
    Image.fromarray(np.tile(rows[:, None], 32).astype(np.uint8)).save(stripes, "png")
    assert asked(url, "airbench_cifar10", CAT.read_bytes(), "image/png")["in_distribution"]
    assert not asked(url, "airbench_cifar10", stripes.getvalue(), "image/png")["in_distribution"]
    choose(page, "airbench_cifar10")
    page.set_input_files("input[type=file]", CAT)
    expect(page.locator("#answer")).to_contain_text("looks like what the model was trained on")
    strange: Any = {"name": "stripes.png", "mimeType": "image/png", "buffer": stripes.getvalue()}
    page.set_input_files("input[type=file]", strange)
    expect(page.locator("#answer .warning")).to_contain_text("unlike anything")
    assert page.locator(".set").count() == 0  # nothing is promised of it


def test_a_late_card_does_not_replace_the_model_chosen_since(blank: Page, url: str) -> None:
    first, second = "all_cnn_cifar10", "char_cnn_ag_news"
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    blank.route(f"**/v1/models/{first}", hold)
    blank.goto(f"{url}#{first}")
    expect(blank.locator("#model")).to_have_value(first)
    choose(blank, second)
    blank.get_by_role("textbox").fill(SENTENCE)
    expect_verdict(blank, "Sports")
    with blank.expect_response(f"**/v1/models/{first}"):
        held[0].continue_()
    blank.evaluate("() => new Promise(requestAnimationFrame)")
    expect_verdict(blank, "Sports")
    expect(blank.get_by_role("textbox")).to_have_value(SENTENCE)


def test_every_model_answers_its_samples(page: Page) -> None:
    names = page.locator("#model option").evaluate_all("options => options.map(o => o.value)")
    assert set(names) == {path.parent.parent.name for path in STORE.glob("*/*/manifest.json")}
    for name in names:
        choose(page, name)
        page.locator("#samples button").first.click()
        expect(page.locator(".verdict")).not_to_be_empty()


def test_the_card_tells_what_the_manifest_says(page: Page) -> None:
    page.get_by_role("link", name="Model card").click()
    (manifest,) = (STORE / "all_cnn_cifar10").glob("1/manifest.json")
    card = json.loads(manifest.read_text())
    shown = page.locator("#card")
    for metric in (card["metrics"][0], *card["baselines"]):
        expect(shown).to_contain_text(f"{100 * metric['value']:.2f} %")
    low, high = card["metrics"][0]["interval"]
    expect(shown).to_contain_text(f"{100 * low:.1f} % – {100 * high:.1f} %")
    for told in (
        card["architecture"]["paper"],
        card["dataset"]["source"],
        card["dataset"]["licence"],
        *card["notes"],
        "The engine runs",
    ):
        expect(shown).to_contain_text(told)
    assert shown.locator("circle.dot").count() >= len(card["evaluation"]["reliability"])
    assert shown.locator("rect.cell").count() == len(card["postprocess"]["labels"]) ** 2
    spatial = [row for row in card["pyramid"] if len(row["shape"]) > 1]
    assert page.locator("#card rect.block").count() == len(spatial)


def test_the_card_shows_what_each_convolution_answers(page: Page) -> None:
    choose(page, "all_cnn_cifar10")
    page.get_by_role("link", name="Model card").click()
    maps = page.locator("#card img.maps")
    expect(page.locator("#card .samples")).to_be_visible()
    assert maps.count() == 0
    page.locator("#card .samples button").first.click()
    (manifest,) = (STORE / "all_cnn_cifar10").glob("1/manifest.json")
    layers = [r for r in json.loads(manifest.read_text())["pyramid"] if r["kind"] == "convolution"]
    expect(maps).to_have_count(len(layers))
    for place, layer in enumerate(layers):
        channels, height, width = layer["shape"]
        expect(page.locator("#card figcaption").nth(place)).to_contain_text(f"{height}×{width}")
        rows = -(-min(channels, 64) // 16)
        drawn = "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
        assert maps.nth(place).evaluate(drawn) == [16 * (width + 1), rows * (height + 1)]


def test_the_keyboard_is_enough(page: Page) -> None:
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#samples') !== null"):
            break
    page.keyboard.press("Enter")
    expect_verdict(page, "cat")


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_what_it_shows_runs_as_pasted(page: Page, language: str, tmp_path: Path) -> None:
    page.locator("#samples button").first.click()
    expect_verdict(page, "cat")
    page.get_by_role("button", name=language).click()
    code = page.locator("pre").inner_text()
    shutil.copy(CAT, tmp_path)
    assert "cat" in pasted(language, code, tmp_path)


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_what_was_typed_is_in_what_it_shows(page: Page, language: str, tmp_path: Path) -> None:
    choose(page, "char_cnn_ag_news")
    page.get_by_role("textbox").fill(ODD)
    expect_verdict(page, "Sports")
    page.get_by_role("button", name=language).click()
    assert "Sports" in pasted(language, page.locator("pre").inner_text(), tmp_path)


def pasted(language: str, code: str, place: Path) -> str:
    """Run what the page shows."""
    command = {
        "curl": ["bash", "-c", f"curl -sS {code.removeprefix('curl')}"],
        "Python": ["python3", "-W", "error", "-c", code],
        "JavaScript": ["node", "--input-type=module", "-e", code],
    }[language]
    return subprocess.run(
        command,
        cwd=place,
        env={**os.environ, "KEY": KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def give_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use it").click()


def test_a_key_is_asked_for_kept_in_the_tab_and_sent_with_each_call(
    blank: Page, locked: str, tmp_path: Path
) -> None:
    page, calls = blank, list[Request]()

    def note(request: Request) -> None:
        calls.append(request)

    page.on("request", note)
    page.goto(locked)
    expect(page.get_by_label("API key")).to_be_focused()
    assert accessible(page) == []
    assert not overflows(page)
    keep(page, f"the_key_is_asked_for-{page.evaluate('innerWidth')}")
    give_key(page, WRONG)
    expect(page.locator("#refusal")).to_contain_text("not known")
    calls.clear()
    give_key(page, KEY)
    choose(page, "all_cnn_cifar10")
    expect(page.locator("#key")).to_be_hidden()
    for image in page.locator("#samples img").all():
        expect(image).not_to_have_js_property("naturalWidth", 0)
    page.locator("#samples button").first.click()
    expect_verdict(page, "cat")
    page.get_by_role("button", name="What speaks for").click()
    expect(page.locator("#why .overlay img")).to_be_visible()
    asked = {part for call in calls for part in re.split(r"[/?]", call.url)}
    assert {"samples", "predict", "explain"} <= asked
    for call in calls:
        assert (call.headers.get("x-api-key") == KEY) == ("/v1/" in call.url), call.url
        assert KEY not in call.url
    shutil.copy(CAT, tmp_path)
    for language in ("curl", "Python", "JavaScript"):
        page.get_by_role("button", name=language).click()
        code = page.locator("pre").inner_text()
        assert KEY not in code
        assert "cat" in pasted(language, code, tmp_path)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("#key")).to_be_hidden()
    assert KEY in page.evaluate("Object.values(sessionStorage)")
    assert page.evaluate("localStorage.length + document.cookie.length") == 0


def test_a_snippet_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("pre").inner_text()


def test_a_cold_page_answers_within_a_second_and_is_small(browser: Browser, url: str) -> None:
    """From the address to the answer, of a sample that is clicked as soon as it is there."""
    seconds = []
    for _ in range(3):  # the machine has other things to do, too
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.locator("#samples button").first.click()
        expect_verdict(page, "cat")
        seconds.append(page.evaluate("performance.now()") / 1000)
        assert 0 < page.evaluate(WEIGHT) < 300_000
        context.close()
    print(seconds)
    assert min(seconds) < 1
