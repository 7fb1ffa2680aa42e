"""The loop of docs/intervention.md runs."""

from rl_exporter import serve
from rl_exporter.view.document import document
from tests.support import ROOT


def test_the_loop_of_the_page_runs_and_its_coefficients_rise():
    page = (ROOT / "docs/intervention.md").read_text()
    code = page.split("## In your own loop")[1].split("```python\n")[1].split("```")[0]
    given = []

    def train_one_update(coefficients):
        given.append(coefficients)
        known = {
            "choice_entropy": 0.05,
            "choice_share": 0.5,
            "open_share": 0.5,
            "entropy": 0.1,
            "state_information": 0.0,
        }
        return {argument: {"blueprint": value} for argument, value in known.items()}

    with serve({"blueprint": 13, "op": 6}, listen="127.0.0.1:0", linger=0) as recorder:
        exec(code, {"recorder": recorder, "updates": 5, "train_one_update": train_one_update})
        (blueprint, _) = document(recorder.snapshot())["heads"]
    assert [one["op"] for one in given] == [0.01] * 5
    assert given[0]["blueprint"] == 0.01
    assert given[-1]["blueprint"] > 0.4
    assert blueprint["entropy_coefficient_applied"] == given[-1]["blueprint"]
