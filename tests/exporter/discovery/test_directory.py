import json

import pytest

from rl_exporter.client.addresses import parse_target
from rl_exporter.discovery.directory import DiscoveryError, read_directory, require_directory


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("trainer", "http://trainer:28008/metrics"),
        ("trainer:9", "http://trainer:9/metrics"),
        (":9", "http://127.0.0.1:9/metrics"),
        ("trainer:9/", "http://trainer:9/metrics"),
        ("trainer/runs/7/metrics", "http://trainer:28008/runs/7/metrics"),
        ("[::1]:9", "http://[::1]:9/metrics"),
        ("http://trainer", "http://trainer/metrics"),
        ("https://trainer/m?x=1#part", "https://trainer/m?x=1"),
        ("HTTPS://Trainer:9", "https://trainer:9/metrics"),
    ],
)
def test_addresses_as_people_write_them(text, url):
    assert parse_target(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "ftp://trainer",
        "trainer:port",
        "trainer:99999",
        "[::1",
        "a b",
        "file:///etc/passwd",
        "a\x1bb",
    ],
)
def test_what_is_no_address_is_one_line_with_the_remedy(text):
    with pytest.raises(ValueError, match=r"is no address of a run: .*; write trainer:28008") as raised:
        parse_target(text)
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def urls(directory):
    targets, problems = read_directory(directory)
    return [target.url for target in targets], problems


def test_targets_of_prometheus_in_json_and_yaml(tmp_path):
    groups = [{"targets": ["a:1", "b:2"], "labels": {"cluster": "x"}}, {"targets": ["a:1"]}]
    (tmp_path / "1.json").write_text(json.dumps(groups))
    (tmp_path / "2.yml").write_text(
        "- targets: ['c:3']\n  labels: {__scheme__: https, __metrics_path__: /runs/metrics}\n"
    )
    (tmp_path / "3.yaml").write_text("- targets: []\n")
    (tmp_path / "notes.txt").write_text("no targets")
    assert urls(tmp_path) == (["http://a:1/metrics", "http://b:2/metrics", "https://c:3/runs/metrics"], [])


def test_a_target_knows_its_cluster_and_namespace(tmp_path):
    labels = ({"cluster": "x", "namespace": "rl"}, {"namespace": "rl"}, {"team": "arms"})
    groups = [{"targets": [f"{n}:1"], "labels": given} for n, given in zip("abc", labels, strict=True)]
    (tmp_path / "1.json").write_text(json.dumps(groups))
    targets, _ = read_directory(tmp_path)
    assert [target.scope for target in targets] == [("x", "rl"), ("", "rl"), ("", "")]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.json", "[{", "Expecting"),
        ("x.json", '{"targets": []}', "it holds no list"),
        ("x.json", '[{"labels": {}}]', "no list called targets"),
        ("x.json", '[{"targets": ["http://a:1"]}]', "is not HOST:PORT"),
        ("x.json", '[{"targets": [7]}]', "is not HOST:PORT"),
        ("x.json", '[{"targets": ["a:1"], "labels": []}]', None),
        ("x.json", '[{"targets": ["a:1"], "labels": [1]}]', "no mapping"),
        ("x.json", '[{"targets": ["a:1"], "labels": {"__scheme__": "gopher"}}]', "gopher"),
        ("x.yml", "a: [b", "while parsing"),
        ("x.yml", "!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("x.yml", b"\xff\xfe\xfd", "codec"),
    ],
)
def test_a_broken_file_is_named_and_the_others_count(tmp_path, name, text, reason):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "good.json").write_text('[{"targets": ["good:1"]}]')
    found, problems = urls(tmp_path)
    assert "http://good:1/metrics" in found
    if reason is None:
        assert problems == []
    else:
        (problem,) = problems
        assert reason in problem
        assert str(tmp_path / name) in problem
        assert "\n" not in problem


def test_a_directory_that_is_none(tmp_path):
    with pytest.raises(DiscoveryError, match=r"No such file.*give a directory of target files"):
        require_directory(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(DiscoveryError, match="Not a directory"):
        require_directory(tmp_path / "file")
    assert urls(tmp_path / "nothing")[1] != []
