"""Pages in a real browser: a phone's width, contrast, alt texts, an empty console; skipped where there is no browser."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from upstairs.evaluate import evaluate
from upstairs.online.summary import begin_summary, with_rows
from upstairs.report import evaluation_report, stream_report
from upstairs.tasks import synthetic

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser is installed")

LOOK = """
<div id="found" hidden></div>
<script>
const light = text => {
  const parts = text.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
};
const behind = node => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)" && colour !== "transparent") return colour;
  }
  return "rgb(255, 255, 255)";
};
const ratios = [...document.querySelectorAll("h1, h2, p, th, td, dt, dd, caption, figcaption, footer, code")].map(node => {
  const pair = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => a - b);
  return (pair[1] + .05) / (pair[0] + .05);
});
const wide = [...document.querySelectorAll("main > *")].filter(node => node.getBoundingClientRect().right > innerWidth + 1);
document.getElementById("found").textContent = JSON.stringify({
  inner: innerWidth, scroll: document.documentElement.scrollWidth, contrast: Math.min(...ratios), wide: wide.length,
  silent: [...document.querySelectorAll("svg")].filter(node => !node.getAttribute("aria-label")).length,
  pictures: document.querySelectorAll("svg").length, headings: document.querySelectorAll("h1").length,
});
</script>
"""


def evaluation():
    train, _, test = synthetic.SharedSubspace().sample(12, 30).split(valid=0.0, test=0.5, random_state=0)
    result = evaluate(
        {"a learner with rather a long name": Ridge()},
        test,
        train=train,
        shots=[2, 8],
        baselines=["no-meta", "pooled"],
    )
    return evaluation_report(
        result, title="Does meta-learning help on a_file_with_a_very_long_name_2026.csv?", reproduce="x " * 90
    )


def stream():
    summary = begin_summary(["mine", "no change"], True)
    for world in (0, 1):
        summary = with_rows(summary, np.array([[0.0, 1.0], [1.0, 0.0]] * 30), world=world)
    return stream_report(summary, title="A stream", changes=[{"at": 60, "kind": "new", "world": 1}])


@pytest.mark.parametrize("page", [evaluation, stream])
def test_a_page_on_a_phone_by_day_and_by_night(page, tmp_path):
    text = page()
    night = text.replace("@media screen and (prefers-color-scheme: dark)", "@media screen")
    assert night != text
    for name, shown in (("day", text), ("night", night)):
        file = tmp_path / f"{name}.html"
        # a window is never narrower than 500 pixels: the page stands in a frame of a phone's width
        file.write_text(shown.replace("</body>", f"{LOOK}</body>"))
        frame = tmp_path / f"{name}-frame.html"
        inside = html.escape(file.read_text(), quote=True)
        frame.write_text(
            f'<iframe srcdoc="{inside}" style="width:390px;height:900px;border:0" onload="document.body.append(Object.assign('
            "document.createElement('pre'),{id:'out',textContent:this.contentDocument.getElementById('found').textContent}))\">"
            "</iframe>"
        )
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=2000"]
        words = [BROWSER, *flags, f"--user-data-dir={tmp_path}/{name}", "--dump-dom", f"file://{frame}"]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=60)
        found = json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', ran.stdout, re.S)[1]))
        assert found["inner"] == 390
        assert found["scroll"] <= 390, "it scrolls sideways"
        assert found["wide"] == 0
        assert found["contrast"] >= 4.5, name
        assert found["silent"] == 0
        assert found["pictures"] >= 1
        assert found["headings"] == 1
        assert "CONSOLE" not in ran.stderr
