"""What a supervisor is told about a run."""

from typing import Any

import pytest

from sltdino.report.verdict import judge_run

KNN: dict[str, Any] = {
    "start": "untrained", "untrained": 0.24, "raw_pixels": None, "last": 0.46, "best": 0.465,
    "curve": [0.24, 0.465, 0.46],
}  # fmt: skip
NO_KNN: dict[str, Any] = {**KNN, "untrained": None, "last": None, "best": None, "curve": []}
COLLAPSE = {"name": "uniform collapse", "collapsed": True, "since_step": 40, "text": "t", "remedy": "lower the temp"}
SPIKE = {"name": "loss spike", "collapsed": False, "since_step": 90, "text": "t", "remedy": "clip harder"}
STARTING = {"name": "starting", "collapsed": False, "since_step": 1, "text": "t", "remedy": ""}


def judged(*, step: int = 100, state: str = "done", findings: Any = (), gap: float | None = 1.0, **facts: Any) -> Any:
    base = {
        "run": "my runs/a", "state": state, "message": "", "exit_code": 0, "resumable": True, "evaluations": [],
        "health": {"findings": list(findings)}, "progress": {"step": step, "total_steps": 100},
        "loss": {"gap": gap, "log_k": 7.0}, "knn": KNN,
    }  # fmt: skip
    return judge_run({**base, **facts})


@pytest.mark.parametrize(
    ("facts", "grade", "why"),
    [
        ({}, "good", "k-NN 46.5%, from 24.0% of the untrained network"),
        ({"knn": KNN | {"raw_pixels": 0.3}}, "good", "above raw pixels (30.0%)"),
        ({"knn": KNN | {"raw_pixels": 0.77}}, "so-so", "still below the 77.0% of raw pixels"),
        ({"knn": KNN | {"last": 0.3}}, "so-so", "30.0% at the end: take the best checkpoint"),
        ({"knn": KNN | {"best": 0.25, "last": 0.25}}, "bad", "no better than the untrained network"),
        ({"knn": KNN | {"best": 0.2, "last": 0.2}}, "bad", "worse than the untrained network"),
        (
            {"knn": KNN | {"best": 0.25, "last": 0.25, "start": "initial weights"}},
            "so-so",
            "no better than the initial weights",
        ),
        (
            {"knn": KNN | {"best": 0.2, "last": 0.2, "start": "initial weights"}},
            "bad",
            "worse than the initial weights",
        ),
        ({"findings": [COLLAPSE]}, "bad", "uniform collapse since step 40"),
        ({"findings": [SPIKE]}, "so-so", "loss spike since step 90"),
        ({"findings": [STARTING]}, "good", "k-NN 46.5%"),
        ({"knn": NO_KNN}, "so-so", "how good its features are was not measured"),
        ({"knn": NO_KNN, "gap": 0.1}, "bad", "1.4% below that of guessing"),
        ({"knn": NO_KNN, "gap": -0.1}, "bad", "not below that of guessing"),
        ({"knn": NO_KNN, "gap": None}, "so-so", "was not measured"),
        ({"knn": NO_KNN, "gap": 0.1, "state": "running", "step": 50}, "so-so", "hardly learnt anything"),
        (
            {"knn": NO_KNN, "gap": -0.1, "state": "running", "step": 20, "findings": [STARTING]},
            "too early",
            "where every run begins",
        ),
        ({"knn": NO_KNN, "state": "running", "step": 4}, "too early", "too few steps"),
        ({"knn": NO_KNN, "state": "interrupted", "step": 4}, "too early", "too few steps"),
        ({"knn": KNN | {"best": 0.2, "last": 0.2}, "state": "running", "step": 20}, "too early", "first quarter"),
        ({"knn": KNN | {"best": 0.2, "last": 0.2}, "state": "running", "step": 80}, "bad", "worse"),
        ({"knn": NO_KNN, "state": "failed", "exit_code": 3}, "bad", "stopped being finite"),
    ],
)
def test_each_run_gets_its_grade_and_the_reason(facts: dict[str, Any], grade: str, why: str) -> None:
    found = judged(**facts)
    assert found.grade == grade
    assert why in found.why


def test_a_run_that_was_stopped_is_gone_on_with_and_one_of_the_old_scripts_is_over() -> None:
    stopped = judged(state="stopped", step=50)
    assert (stopped.what_next, stopped.command) == (
        "it was stopped and saved; go on with it", "sltdino resume 'my runs/a'",
    )  # fmt: skip
    below = KNN | {"raw_pixels": 0.77}
    old = judged(state="unknown", step=50, knn=below, loss={"gap": None, "log_k": None})
    assert old.what_next.startswith("give it more crops")
    assert judged(state="running", step=50, knn=below).what_next == "let it go on"


def test_a_stored_evaluation_speaks_where_no_accuracy_was_measured_along_the_way() -> None:
    methods = [{"method": "20-NN", "trained": 0.6, "untrained": 0.3, "raw pixels": 0.5, "interval": [0.5, 0.7]}]
    found = judged(knn=NO_KNN, evaluations=[{"methods": methods}])
    assert (found.grade, found.why) == (
        "good", "20-NN 60.0%, from 30.0% of the untrained network and above raw pixels (50.0%)",
    )  # fmt: skip


def test_what_to_do_next_is_a_command_that_can_be_pasted() -> None:
    assert judged().command == "sltdino export 'my runs/a' --format slt -o backbone.pt"
    assert "--which best" in judged(knn=KNN | {"last": 0.3}).command
    assert judged(state="running", step=50).command == ""
    gone = judged(state="interrupted", step=50, message="its process is gone; go on with: sltdino resume 'my runs/a'")
    assert (gone.what_next, gone.command) == ("go on with", "sltdino resume 'my runs/a'")
    never = judged(state="interrupted", step=0, resumable=False, message="its process is gone; start it again")
    assert (never.what_next, never.command) == ("start it again", "")


def test_the_remedy_of_the_watch_is_what_to_do_next() -> None:
    assert judged(findings=[COLLAPSE]).what_next == "lower the temp"
    assert judged(findings=[SPIKE]).what_next == "clip harder"
