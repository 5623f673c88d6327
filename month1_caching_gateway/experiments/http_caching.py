"""What does a browser ask for when it comes back?

The same built page, three ways of serving it: without a word about caching; with entity tags alone;
and as the origin of this month does, with names that carry their content's hash and may be kept for
ever. Real Chromium visits each, is closed, comes back, and comes back again after a release that
changed one script. What it asked for is read from the servers' logs, not from the browser.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from month1_caching_gateway.edge import OriginSettings, Servers, build, origin_config
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import Chromium, Nginx, ProviderOptions, Providers, ServerFailed

SCRIPTS, SHEETS = 4, 3
FILES = SCRIPTS + SHEETS
SIZE = 20_000
"""Of each file, about."""
ARMS = ("no headers", "validators", "immutable")
VISITS = ("first", "second", "after a release")
_TYPES = "types { text/html html; text/css css; text/javascript js; }"
_LOG = "log_format counted '$status $body_bytes_sent $uri'; "
_DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of a server's log."""

    status: int
    size: int
    path: str

    @property
    def is_page(self) -> bool:
        """The page itself, not what it names."""
        return not self.path.startswith("/static/")


@dataclass(frozen=True, slots=True)
class Seen:
    """All visits to one arm. shown: the release that the page showed, each time."""

    visits: tuple[tuple[Asked, ...], ...]
    shown: tuple[str, ...]

    def statuses(self, visit: int) -> dict[int, int]:
        """How often each status, in a visit."""
        found = [one.status for one in self.visits[visit]]
        return {status: found.count(status) for status in sorted(set(found))}

    def size(self, visit: int) -> int:
        """Bytes of all bodies of a visit."""
        return sum(one.size for one in self.visits[visit])


def run(lab: Lab) -> Result:
    """Serve, visit three times, judge by the logs."""
    seen = measure(lab, ARMS)
    return Result(
        arms=tuple(_arm(name, one) for name, one in seen.items()),
        shape=_claims(seen),
        plot=Plot(Axis("visit"), Axis("bytes of bodies sent")),
        notes=(
            f"One page, {SHEETS} style sheets, {SCRIPTS} scripts of {SIZE // 1000} kB each.",
            "Between visits the browser is closed; it comes back with the same profile.",
            "The third visit follows a release that changed one script.",
        ),
    )


def measure(lab: Lab, arms: Sequence[str]) -> dict[str, Seen]:
    """Three visits to each of these arms."""
    providers = Providers(ProviderOptions.from_environment(os.environ))
    site = lab.runtime.data / "http-caching"
    configs = _configs(str(site))
    seen: dict[str, Seen] = {}
    for name in arms:
        _release(lab.folder / "source", site, "one")
        slug = name.replace(" ", "-")
        server = Nginx(configs[name], f"http-caching-{slug}", ready_path="/ready")
        profile = lab.folder / f"profile-{slug}"
        shutil.rmtree(profile, ignore_errors=True)  # of an earlier run, which knew other pages
        lab.runtime.start(server)
        try:
            seen[name] = _visits(lab, server, site, Chromium(providers, profile))
        finally:
            lab.runtime.stop(server.name)
            shutil.rmtree(profile, ignore_errors=True)
        lab.note(f"{name}: {', '.join(str(len(one)) for one in seen[name].visits)} requests")
    return seen


def _configs(site: str) -> dict[str, str]:
    """Name → what stands inside nginx's `http { }`."""
    silent = 'etag off; if_modified_since off; add_header Last-Modified "";'
    tags = 'add_header Cache-Control "no-cache";'

    def simple(words: str) -> str:
        return (
            f"{_TYPES} {_LOG} server {{ listen 127.0.0.1:$PORT; root {site}; {words} "
            "access_log $DIR/counted.log counted; "
            "location = /ready { access_log off; return 200; } }"
        )

    settings = OriginSettings(("127.0.0.1",), site, Servers(("127.0.0.1:9",)))  # no API here
    ours = origin_config(settings).replace(
        "access_log $DIR/access.log origin;",
        "access_log $DIR/counted.log counted; location = /ready { access_log off; return 200; }",
    )
    return {
        "no headers": simple(silent),
        "validators": simple(tags),
        "immutable": _LOG + ours,
    }


def _release(source: Path, site: Path, version: str) -> None:
    """Write and build the site. A release changes one script: it shows the release's name."""
    static = source / "static"
    static.mkdir(parents=True, exist_ok=True)
    padding = "/*" + "x" * SIZE + "*/\n"
    for number in range(SHEETS):
        (static / f"s{number}.css").write_text(f"p{{order:{number}}}\n{padding}")
    for number in range(SCRIPTS):
        shows = f"document.body.dataset.release='{version}';\n" if number == 0 else ""
        (static / f"j{number}.js").write_text(f"{shows}// script {number}\n{padding}")
    links = "".join(f'<link rel="stylesheet" href="/static/s{n}.css">' for n in range(SHEETS))
    scripts = "".join(f'<script src="/static/j{n}.js" defer></script>' for n in range(SCRIPTS))
    (source / "index.html").write_text(
        '<!doctype html><html lang="en"><head><title>Kept</title><link rel="icon" href="data:,">'
        f"{links}{scripts}</head><body><p>A page and what it names.</p></body></html>\n"
    )
    build(source, site)


def _visits(lab: Lab, server: Nginx, site: Path, browser: Chromium) -> Seen:
    visits: list[tuple[Asked, ...]] = []
    shown: list[str] = []
    for number in range(len(VISITS)):
        if number == len(VISITS) - 1:
            _release(lab.folder / "source", site, "two")
        before = len(_log(server))
        page = browser.visit(f"{server.url}/")
        shown.append(page.partition('data-release="')[2].partition('"')[0])
        visits.append(tuple(_settled(server, before)))
    return Seen(tuple(visits), tuple(shown))


def _log(server: Nginx) -> list[Asked]:
    path = server.folder / "counted.log"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Asked(int(a), int(b), c) for a, b, c in (line.split(" ", 2) for line in lines)]


def _settled(server: Nginx, before: int) -> list[Asked]:
    """What a visit added, once there is the page and no more comes."""
    give_up_s = time.monotonic() + _DEADLINE_S
    last, same = -1, 0
    while same < 10 and time.monotonic() < give_up_s:
        count = len(_log(server))
        same = same + 1 if count == last and count > before else 0
        last = count
        time.sleep(0.02)
    asked = _log(server)[before:]
    if not any(one.is_page for one in asked):
        raise ServerFailed(f"The browser did not ask {server.name} for its page.")
    return asked


def _arm(name: str, seen: Seen) -> Arm:
    role: Role = "control" if name == "no headers" else "treatment"
    figures = {
        f"{what}_{visit.replace(' ', '_')}": value
        for number, visit in enumerate(VISITS)
        for what, value in (
            ("requests", len(seen.visits[number])),
            ("bytes", seen.size(number)),
        )
    }
    points = tuple((float(number + 1), float(seen.size(number))) for number in range(len(VISITS)))
    return Arm(name, role, figures, points)


def _claims(seen: dict[str, Seen]) -> tuple[Claim, ...]:
    silent, tags, kept = seen["no headers"], seen["validators"], seen["immutable"]
    every = FILES + 1
    static = [one.path for one in kept.visits[1] if not one.is_page]
    new = [one.path for one in kept.visits[2] if not one.is_page]
    return (
        Claim(
            "A first visit asks for the page and all it names, however it is served.",
            all(one.statuses(0) == {200: every} for one in seen.values()),
            _counts(seen, 0),
        ),
        Claim(
            "Without a word about caching the second visit is the first one again, byte by byte.",
            silent.statuses(1) == {200: every} and silent.size(1) == silent.size(0),
            f"{silent.statuses(1)}, {silent.size(1)} of {silent.size(0)} bytes",
        ),
        Claim(
            "With entity tags it asks as often and is told each time that nothing changed.",
            tags.statuses(1) == {304: every} and tags.size(1) == 0,
            f"{tags.statuses(1)}, {tags.size(1)} bytes",
        ),
        Claim(
            "With immutable files it asks for the page alone, which has not changed, and for "
            "none of the files.",
            kept.statuses(1) == {304: 1} and static == [] and kept.size(1) == 0,
            f"{kept.statuses(1)}, {len(static)} requests for files, {kept.size(1)} bytes",
        ),
        Claim(
            "After a release it asks for the page and the one file that changed, and shows it.",
            kept.statuses(2) == {200: 2} and len(new) == 1 and _fresh(seen.values()),
            f"{kept.statuses(2)}, {', '.join(new)}; every page shows the new release",
        ),
    )


def _fresh(all_seen: Iterable[Seen]) -> bool:
    return all(one.shown == ("one", "one", "two") for one in all_seen)


def _counts(seen: dict[str, Seen], visit: int) -> str:
    return "; ".join(f"{name} {one.statuses(visit)}" for name, one in seen.items())


EXPERIMENT = Experiment(
    slug="http-caching",
    question="What does a browser ask for when it comes back?",
    varied="what the server says about keeping: nothing, entity tags, names that may be kept",
    fixed="the page, its files, the browser, its visits",
    run=run,
    topics=("A2", "P1.2"),
    needs=("nginx", "chromium"),
)
