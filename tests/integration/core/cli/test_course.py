"""`experiment` and `bench` on real, private servers."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.integration.core.cli.conftest import Clone

EXPERIMENT = '''
"""Does a pipeline save round trips?"""
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Plot, Result
from scalelab.lab.servers import Redis

def run(lab):
    redis = Redis("redis")
    lab.runtime.start(redis)
    print("a library prints")
    import redis as client
    with client.Redis.from_url(redis.url) as connection:
        connection.set("a", 1)
        before = connection.info("stats")["total_reads_processed"]
        [connection.incr("a") for _ in range(20)]
        middle = connection.info("stats")["total_reads_processed"]
        pipe = connection.pipeline(transaction=False)
        [pipe.incr("a") for _ in range(20)]
        pipe.execute()
        after = connection.info("stats")["total_reads_processed"]
    one, many = middle - before, after - middle
    return Result(
        arms=(
            Arm("one by one", "control", {"reads": one}, ((0, one),)),
            Arm("pipeline", "treatment", {"reads": many}, ((0, many),)),
        ),
        shape=(Claim("a pipeline needs fewer reads", one COMPARE many, f"{one}, {many}"),),
        plot=Plot(Axis(""), Axis("reads of the server"), "bars"),
    )

EXPERIMENT = Experiment(
    slug="SLUG", question="Does it?", varied="pipelining", fixed="20 increments", run=run,
    topics=("A2",), needs=("redis",),
)
'''


def experiment(slug: str, *, true: bool) -> str:
    """The toy experiment with a claim that holds or not."""
    return EXPERIMENT.replace("SLUG", slug).replace("COMPARE", ">" if true else "<")


def test_an_experiment_runs_and_its_claim_is_judged(clone: Clone) -> None:
    """One JSON document whatever a library prints; a plot; 0 if the claims hold, else 1."""
    clone.month(
        1,
        {
            "experiments/truth.py": experiment("truth", true=True),
            "experiments/error.py": experiment("error", true=False),
        },
    )
    listed = clone.json("experiment")["experiments"]
    assert [(row["slug"], row["month"]) for row in listed] == [
        ("error", "month1"),
        ("truth", "month1"),
    ]
    answer = clone.lab("experiment", "truth", "--quick", "--json")
    assert answer.returncode == 0, answer.stderr
    assert "a library prints" in answer.stderr
    document = json.loads(answer.stdout)
    assert {"slug", "question", "arms", "shape", "plot"} <= set(document)
    assert [arm["role"] for arm in document["arms"]] == ["control", "treatment"]
    assert document["shape"][0]["holds"] is True
    assert ET.parse(document["plot"]).getroot().tag.endswith("svg")
    assert json.loads(Path(document["plot"]).with_name("result.json").read_text()) == document

    red = clone.lab("experiment", "error")
    assert red.returncode == 1
    assert "DOES NOT HOLD" in red.stdout
    assert list((clone.root / ".lab" / "runs").iterdir()) == []


def test_an_experiment_that_breaks_keeps_its_logs_and_no_data(clone: Clone) -> None:
    """One sentence, exit 1; what its servers said can be read, their data are gone."""
    broken = experiment("broken", true=True).replace("before =", "raise OSError('no'); before =")
    clone.month(1, {"experiments/broken.py": broken})
    answer = clone.lab("experiment", "broken")
    assert answer.returncode == 1
    assert answer.stderr.endswith("lab: OSError: no (SCALELAB_DEBUG=1 shows where)\n")
    (run,) = (clone.root / ".lab" / "runs").iterdir()
    assert [entry.name for entry in run.iterdir()] == ["logs"]
    assert "Ready to accept connections" in clone.lab("logs", "redis").stdout


BENCH = '''
"""Squares, ours and a named peer."""
from scalelab.lab.course.bench import Figure, LimitFigure
from scalelab.lab.course.ratio import compare
from scalelab.lab.course.rounds import cpu_us_per_operation, paired

def ours(n):
    for _ in range(n):
        sum(range(20))

def peer(n):
    for _ in range(n):
        sum(range(2000))

def run(options):
    pairs = paired(cpu_us_per_operation(peer), cpu_us_per_operation(ours), rounds=3, round_s=0.02)
    ratio = compare(pairs, options.generator, resamples=200)
    return [
        Figure("squares", "ours", "peer", "CPU us/op, peer / ours", ratio, "at_least", GATE),
        LimitFigure("squares", "overshoot", "requests", 0, "at_most", 0),
    ]
'''


def test_a_bench_runs_and_its_gate_is_judged(clone: Clone) -> None:
    """The JSON that the docs quote: machine, figures with interval and verdict."""
    (clone.root / "bench").mkdir()
    (clone.root / "bench" / "squares.py").write_text(BENCH.replace("GATE", "2.0"))
    (clone.root / "bench" / "hopeless.py").write_text(BENCH.replace("GATE", "1e9"))
    assert [row["name"] for row in clone.json("bench")["benches"]] == ["hopeless", "squares"]
    document = clone.json("bench", "squares")
    assert {"cores", "processor", "revision", "load_average"} <= set(document["machine"])
    paired, alone = document["figures"]
    assert paired["ratio_low"] <= paired["ratio"] <= paired["ratio_high"]
    assert (paired["sense"], paired["gate"], paired["holds"]) == ("at_least", 2.0, True)
    assert (alone["value"], alone["limit"], alone["holds"]) == (0, 0, True)
    red = clone.lab("bench", "hopeless")
    assert red.returncode == 1
    assert "DOES NOT HOLD" in red.stdout


def test_an_unknown_bench_names_the_known(clone: Clone) -> None:
    """The sentence helps."""
    answer = clone.lab("bench", "nothing")
    assert answer.returncode == 1
    assert "There is no bench 'nothing'" in answer.stderr
