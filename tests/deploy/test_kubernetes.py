"""The manifests that are written by hand: they fit each other, the trainer, the image and Prometheus' configuration."""

import copy
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from rl_exporter import Heads, ListenAddress, MetricsServer, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.server.listen import DEFAULT_PORT, parse_listen_address
from rl_training.run.cli import parser, settings_from
from tests.support.kubernetes_files import ROOT, of_kind

JOB = of_kind("Job")
TEMPLATE = JOB["spec"]["template"]
POD = TEMPLATE["spec"]
(TRAINER,) = POD["containers"]
PROMETHEUS = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())


def launched():
    """Torchrun's arguments and the trainer's settings, in the pod of index 1."""
    from torch.distributed.run import get_args_parser

    pod = {"RUN_ID": JOB["metadata"]["name"], "JOB_COMPLETION_INDEX": "1"}
    arguments = [re.sub(r"\$\((\w+)\)", lambda found: pod[found[1]], part) for part in TRAINER["args"]]
    ranks = get_args_parser().parse_args(arguments)
    assert (ranks.module, ranks.training_script) == (True, "rl_training")
    return ranks, settings_from(parser().parse_args(ranks.training_script_args))


@pytest.mark.slow
def test_torchrun_and_the_trainer_take_the_arguments():
    ranks, settings = launched()
    assert TRAINER["command"] == ["python", "-m", "torch.distributed.run"]
    assert int(ranks.nnodes) == JOB["spec"]["completions"] == JOB["spec"]["parallelism"] > 1
    assert settings.run.num_envs % int(ranks.nnodes) == 0
    assert (int(ranks.node_rank), settings.run.run_id) == (1, JOB["metadata"]["name"])


@pytest.mark.slow
def test_ranks_meet_at_the_pod_of_index_0():
    ranks, _ = launched()
    service = of_kind("Service")
    assert ranks.master_addr == f"{JOB['metadata']['name']}-0.{service['metadata']['name']}"
    assert POD["subdomain"] == service["metadata"]["name"]
    assert ranks.master_port == service["spec"]["ports"][0]["port"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True


@pytest.mark.slow
def test_the_final_state_is_up_for_the_whole_linger_whoever_ends_the_run():
    ranks, settings = launched()
    assert POD["terminationGracePeriodSeconds"] > ranks.shutdown_timeout > settings.output.linger
    assert settings.output.linger > 2 * seconds(endpoint()["interval"])
    assert "lifecycle" not in TRAINER


def seconds(text):
    return int(text.removesuffix("s"))


def endpoint():
    (found,) = of_kind("PodMonitor")["spec"]["podMetricsEndpoints"]
    return found


def test_prometheus_finds_the_port_that_the_trainer_listens_on():
    (port,) = TRAINER["ports"]
    (listen,) = [part.removeprefix("--listen=") for part in TRAINER["args"] if part.startswith("--listen=")]
    assert parse_listen_address(listen) == ("0.0.0.0", port["containerPort"])
    assert port["containerPort"] == DEFAULT_PORT
    (allowed,) = [rule["ports"] for rule in of_kind("NetworkPolicy")["spec"]["ingress"] if "ports" in rule]
    assert port["name"] == endpoint()["port"] == allowed[0]["port"]


def test_everything_selects_the_pods_of_the_job():
    labels = TEMPLATE["metadata"]["labels"]
    policy = of_kind("NetworkPolicy")["spec"]
    selectors = [
        of_kind("PodMonitor")["spec"]["selector"]["matchLabels"],
        of_kind("Service")["spec"]["selector"],
        policy["podSelector"]["matchLabels"],
        policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert set(of_kind("PodMonitor")["spec"]["podTargetLabels"]) <= set(labels)


def test_scrapes_are_those_of_prometheus_yml():
    assert endpoint()["interval"] == PROMETHEUS["global"]["scrape_interval"]
    scrape, spec = PROMETHEUS["scrape_configs"][0], of_kind("PodMonitor")["spec"]
    assert [spec[name] for name in ("sampleLimit", "labelLimit", "bodySizeLimit")] == [
        scrape[name] for name in ("sample_limit", "label_limit", "body_size_limit")
    ]
    jobs = [relabel for relabel in endpoint()["relabelings"] if relabel.get("targetLabel") == "job"]
    assert [relabel["replacement"] for relabel in jobs] == [PROMETHEUS["scrape_configs"][0]["job_name"]]


def test_no_label_of_the_target_hides_one_of_the_exporter():
    body = (ROOT / "tests/exporter/golden/metrics.txt").read_text()
    exposed = set(re.findall(r'[{,](\w+)="', body))
    assert {"run_id", "head", "state"} <= exposed
    added = {"job", "instance", "namespace", "pod", "container", "endpoint"}
    assert exposed.isdisjoint(added | set(of_kind("PodMonitor")["spec"]["podTargetLabels"]))


def test_the_image_is_the_one_of_this_repository_and_so_is_its_user():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert TRAINER["image"] == compose["services"]["trainer"]["image"]
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    context = POD["securityContext"]
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user.groups()


def unrestricted(pod):
    """Where a pod breaks the profile "restricted" of the Pod Security Standards, or is looser than needed here."""
    context = pod["securityContext"]
    if not context.get("runAsNonRoot") or context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "pod"
    if pod.get("automountServiceAccountToken") is not False or pod.keys() & {
        "hostNetwork",
        "hostPID",
        "hostIPC",
    }:
        yield "host"
    if any(not volume.keys() & {"emptyDir", "configMap", "secret"} for volume in pod["volumes"]):
        yield "volumes"
    for container in pod["containers"]:
        wanted = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        if container.get("securityContext") != wanted:
            yield container["name"]


def test_pods_are_restricted():
    assert list(unrestricted(POD)) == []
    loose = copy.deepcopy(POD)
    loose["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_PTRACE"]
    loose["volumes"].append({"name": "root", "hostPath": {"path": "/"}})
    assert list(unrestricted(loose)) == ["volumes", "trainer"]


def test_nothing_kills_a_run_for_its_telemetry():
    assert "livenessProbe" not in TRAINER
    startup = TRAINER["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 600
    assert "/-/healthy" in startup["exec"]["command"][-1]
    assert POD["restartPolicy"] == "Never"


HEADS = Heads.of({"op": 6})


@pytest.fixture
def probe(tmp_path):
    """Runs a probe as the kubelet would, against another port; whether it succeeds."""
    (tmp_path / "python").symlink_to(sys.executable)
    shell = shutil.which("sh")

    def run(name, port, index="0"):
        command = [part.replace(str(DEFAULT_PORT), str(port)) for part in TRAINER[name]["exec"]["command"]]
        assert command[0] == "sh"
        environment = {"PATH": str(tmp_path), "JOB_COMPLETION_INDEX": index, "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([shell, *command[1:]], env=environment, capture_output=True, check=False)
        return done.returncode == 0

    return run


@pytest.mark.slow
def test_probes_see_a_server_and_the_first_update(probe):
    aggregator = SanctumAggregator(HEADS, RunInfo("probed"))
    with MetricsServer(aggregator.snapshot, ListenAddress(port=0)) as server:
        port = server.address.port
        assert probe("startupProbe", port)
        assert not probe("readinessProbe", port)
        aggregator.handle_ppo_update(PPOUpdatePayload())
        assert probe("readinessProbe", port)
    for name in ("startupProbe", "readinessProbe"):
        assert not probe(name, port)
        assert probe(name, port, index="1")
