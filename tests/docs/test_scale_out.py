"""docs/scale-out.md says of the rule files what they hold."""

import re

import yaml

from tests.support import ROOT


def intervals():
    """The groups that have an interval of their own."""
    paths = [*ROOT.glob("prometheus/rules/*.yml"), *ROOT.glob("alerts/rules/*.yml")]
    groups = [group for path in paths for group in yaml.safe_load(path.read_text())["groups"]]
    return {group["name"]: group["interval"] for group in groups if "interval" in group}


def said(page):
    [names] = re.findall(r"have an interval of their own, a minute: (.*?)\.", page)
    return dict.fromkeys(re.findall(r"`([\w-]+)`", names), "1m")


def test_the_page_says_which_groups_have_an_interval_of_their_own():
    assert said((ROOT / "docs/scale-out.md").read_text()) == intervals()
    assert said("Two groups have an interval of their own, a minute: `rl-entropy`.") != intervals()
