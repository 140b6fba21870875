"""Pictures of what people look at, for the documents: Dagster's UI, and the pages of the current release.

Run it after a refresh: `.venv/bin/python docs/screenshots.py`. It serves the UI read-only, opens each view in a
headless Chromium and writes `docs/images/<name>.png`. A page that the release has not is passed over and named.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright

from orchestration.release import current
from orchestration.settings import ROOT, Settings

IMAGES = ROOT / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LARGEST = 300_000
# The mart that the documents follow back to the raw files.
MART = "marts/contact_care_coordinator"
# The crosswalk steers nearly every model: without it the path of the data is seen.
PATH = f'+key:"{MART}" and not group:"crosswalk"'
# Views of the UI: name of the picture, address, a text that is there when the view is, width and height in pixels.
UI_VIEWS = [
    ("lineage-in-dagster", f"/asset-groups~{quote(PATH, safe='')}/", "intermediate", 1440, 700),
    (
        "checks-in-dagster",
        "/assets/marts/reconciliation?view=checks&checkDetail=fit_to_publish",
        "Latest execution",
        1440,
        1000,
    ),
    ("asset-in-dagster", f"/assets/{MART}?view=overview", "Columns", 1440, 1100),
]
# Pages of a release: name of the picture, file below its folder report, place in it, a text that is there.
PAGES = [
    ("indicator-page", "index.html", "", ""),
    ("lineage-page", "lineage/index.html", "#marts.contact_care_coordinator.pct", "contact_care_coordinator"),
    ("dbt-docs", "dbt/index.html", "#!/model/model.cmhs.contact_care_coordinator", "contact_care_coordinator"),
]


@contextmanager
def served() -> Iterator[str]:
    """The address of Dagster's UI, read-only, for the length of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "cmhs"), "ui", "--read-only", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if server.poll() is not None:
                sys.exit("Dagster's UI did not start: try `make audit-ui`.")
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=10).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=60)


def take(page: Page, name: str, address: str, words: str, width: int, height: int) -> None:
    """Write the picture of one view."""
    page.set_viewport_size({"width": width, "height": height})
    page.goto(address)
    if words:
        page.get_by_text(words).first.wait_for(timeout=120_000)
    # Charts and graphs are drawn after their texts are there.
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(5_000)
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}  {size:,} bytes" + ("  TOO LARGE" if size > LARGEST else ""))


def main() -> None:
    """Take all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="names of pictures; all where none is given")
    wanted = set(parser.parse_args().names)
    folder = current(Settings.from_environment())
    if folder is None:
        sys.exit("Nothing is published yet: run `make refresh`.")
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        for name, file, place, words in PAGES:
            path = folder / "report" / file
            if wanted and name not in wanted:
                continue
            if path.is_file():
                take(page, name, path.as_uri() + place, words, 1280, 900)
            else:
                print(f"{name}: release {folder.name} has no report/{file}")
        views = [view for view in UI_VIEWS if not wanted or view[0] in wanted]
        if views:
            with served() as address:
                for name, place, words, *size in views:
                    take(page, name, address + place, words, *size)
        browser.close()


if __name__ == "__main__":
    main()
