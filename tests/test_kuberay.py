"""jobs/kuberay: by the schemas of KubeRay, and by what a reader relies on.

The schemas are KubeRay's own and not part of this project: NIGHTLABEL_KUBERAY_CRDS names a folder
with its `ray.io_rayclusters.yaml` and `ray.io_rayjobs.yaml`.
"""

import copy
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.engine.placement import place
from pipeline.errors import Exit
from pipeline.spec import LabelSpec, load_spec
from tests.parts.clusters.crd import closed, problems, schema_of

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
CRDS = os.environ.get("NIGHTLABEL_KUBERAY_CRDS")

needs_crds = pytest.mark.skipif(
    CRDS is None, reason="NIGHTLABEL_KUBERAY_CRDS names no folder with KubeRay's schemas"
)


def read(name: str) -> dict[str, dict[str, Any]]:
    """The documents of a file by their kind."""
    documents = yaml.safe_load_all((ROOT / "jobs" / "kuberay" / name).read_text())
    return {one["kind"]: one for one in documents}


NIGHT = read("night.yaml")
ACCOUNTS = [
    one["metadata"]["name"]
    for one in yaml.safe_load_all((ROOT / "jobs" / "kuberay" / "night.yaml").read_text())
    if one["kind"] == "ServiceAccount"
]
RAYJOB = read("rayjob.yaml")["RayJob"]
RAYCLUSTER = read("raycluster.yaml")["RayCluster"]
CRONJOB = read("nightly.yaml")["CronJob"]

OF_RAYJOB = RAYJOB["spec"]["rayClusterSpec"]
SUBMITTING = CRONJOB["spec"]["jobTemplate"]["spec"]
HEAD = OF_RAYJOB["headGroupSpec"]
GROUPS = {group["groupName"]: group for group in OF_RAYJOB["workerGroupSpecs"]}


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


OF_CLUSTERS = [*pods(OF_RAYJOB), *pods(RAYCLUSTER["spec"])]
SUBMITTER = SUBMITTING["template"]["spec"]
CONTAINERS = [pod["containers"][0] for pod in [*OF_CLUSTERS, SUBMITTER]]


# The schemas


def crd(name: str) -> dict[str, Any]:
    assert CRDS is not None
    return schema_of(Path(CRDS) / f"ray.io_{name}.yaml", "v1")


@needs_crds
@pytest.mark.parametrize(
    ("name", "document"),
    [("rayjobs", RAYJOB), ("rayclusters", RAYCLUSTER)],
    ids=["RayJob", "RayCluster"],
)
def test_kuberay_accepts_it(name: str, document: dict[str, Any]) -> None:
    assert list(problems(crd(name), document)) == []


@needs_crds
def test_the_pod_that_submits_is_one() -> None:
    """A CronJob is no resource of KubeRay's, but a RayJob has a pod of the same kind in it."""
    pod = crd("rayjobs")["properties"]["spec"]["properties"]["submitterPodTemplate"]
    assert list(problems(pod, SUBMITTING["template"])) == []


@needs_crds
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.entrypointt", "python"),
        ("spec.backoffLimit", "2"),
        ("spec.rayClusterSpec.autoscalerOptions.version", "v3"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterSpec.workerGroupSpecs.1.maxReplica", 4),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.toleration", []),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.imag", "x"),
    ],
)
def test_a_mistake_is_found_where_it_is(path: str, value: Any) -> None:
    document = copy.deepcopy(RAYJOB)
    *parents, last = path.split(".")
    node: Any = document
    for step in parents:
        node = node[int(step) if isinstance(node, list) else step]
    node[last] = value
    (problem,) = problems(crd("rayjobs"), document)
    found, _, words = problem.partition(": ")
    assert found == path or (found == ".".join(parents) and last in words)


def test_an_unnamed_key_is_a_mistake_unless_the_schema_keeps_what_it_does_not_know() -> None:
    named = {"type": "object", "properties": {"properties": {"type": "string"}}}
    kept = named | {"x-kubernetes-preserve-unknown-fields": True}
    assert list(problems(closed(named), {"properties": "fine"})) == []
    assert len(list(problems(closed(named), {"proprties": "typo"}))) == 1
    assert list(problems(closed(kept), {"anything": 1})) == []


# What runs


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> LabelSpec:
    (text,) = NIGHT["ConfigMap"]["data"].values()
    path = tmp_path_factory.mktemp("night") / "night.toml"
    path.write_text(text)
    return load_spec(path, {}, {})


def test_the_spec_is_valid_and_a_deadline_is_no_failure(spec: LabelSpec) -> None:
    assert spec.deadline
    assert spec.partial_ok


@pytest.mark.parametrize(
    ("pod", "command"),
    [
        (HEAD["template"]["spec"], RAYJOB["spec"]["entrypoint"].split()),
        (SUBMITTER, SUBMITTER["containers"][0]["command"]),
    ],
    ids=["RayJob", "CronJob"],
)
def test_the_spec_is_where_the_command_reads_it(pod: dict[str, Any], command: list[str]) -> None:
    (volume,) = (one for one in pod["volumes"] if "configMap" in one)
    assert volume["configMap"]["name"] == NIGHT["ConfigMap"]["metadata"]["name"]
    mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    (name,) = NIGHT["ConfigMap"]["data"]
    (path,) = (part for part in command if name in part)
    assert path.removeprefix("--config=") == f"{mounts[volume['name']]}/{name}"


def test_the_command_of_the_job_is_ours() -> None:
    assert RAYJOB["spec"]["entrypoint"].startswith("python -m pipeline.cli.job ")
    assert (ROOT / "pipeline" / "cli" / "job.py").exists()


def test_the_command_that_submits_takes_its_options() -> None:
    from pipeline.cli.cluster.submit import submit

    program, name, *options = SUBMITTER["containers"][0]["command"]
    assert (program, name) == ("nightlabel", submit.name)
    with submit.make_context(name, options) as context:
        cluster = RAYCLUSTER["metadata"]["name"]
        assert context.params["address"] == f"http://{cluster}-head-svc:8265"
        assert context.params["image_has_package"]


def test_the_submitter_knows_the_token_of_the_cluster() -> None:
    assert RAYCLUSTER["spec"]["authOptions"] == {"mode": "token"}
    mode, token = SUBMITTER["containers"][0]["env"]
    assert mode == {"name": "RAY_AUTH_MODE", "value": "token"}
    assert token["name"] == "RAY_AUTH_TOKEN"
    secret = {"name": RAYCLUSTER["metadata"]["name"], "key": "auth_token"}
    assert token["valueFrom"] == {"secretKeyRef": secret}


def test_both_clusters_are_one() -> None:
    bare = copy.deepcopy(OF_RAYJOB)
    head = bare["headGroupSpec"]["template"]["spec"]
    for mounted in (head["volumes"], head["containers"][0]["volumeMounts"]):
        mounted[:] = [one for one in mounted if one["name"] != "night"]
    assert bare == RAYCLUSTER["spec"]


def test_neither_has_the_name_of_the_other() -> None:
    assert RAYJOB["metadata"]["name"] != RAYCLUSTER["metadata"]["name"]


# Where it runs


def total(groups: list[dict[str, Any]]) -> dict[str, float]:
    """What Ray counts where each group has its least nodes, or the one that a run asks for."""
    counted = {"CPU": 0.0, "GPU": 0.0}
    for group in groups:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        cpus = group["rayStartParams"].get("num-cpus", limits["cpu"])
        counted["CPU"] += int(cpus) * max(1, group.get("minReplicas", 1))
        counted["GPU"] += int(limits.get("nvidia.com/gpu", 0)) * max(1, group.get("minReplicas", 1))
    return counted


def test_the_head_runs_no_tasks() -> None:
    assert total([HEAD]) == {"CPU": 0.0, "GPU": 0.0}


def test_the_least_nodes_hold_the_graph() -> None:
    assert list(GROUPS) == ["decode", "predict"]
    placement = place(total([HEAD, *GROUPS.values()]), None)
    assert placement.predictors == (1, 1)
    assert placement.predictor_gpus == 1.0
    assert (GROUPS["decode"]["minReplicas"], GROUPS["predict"]["minReplicas"]) == (1, 0)
    assert all(group["minReplicas"] <= group["maxReplicas"] for group in GROUPS.values())


def test_all_run_the_same_image_of_the_pinned_ray() -> None:
    assert {container["image"] for container in CONTAINERS} == {
        f"nightlabel:{PROJECT['version']}-cuda"
    }
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={OF_RAYJOB['rayVersion']}" in pins


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container["name"])
def test_what_is_asked_for_is_the_limit(container: dict[str, Any]) -> None:
    resources = container["resources"]
    assert {"cpu", "memory"} <= resources["limits"].keys()
    assert resources["requests"] == resources["limits"]


@pytest.mark.parametrize("pod", OF_CLUSTERS, ids=lambda pod: pod["containers"][0]["name"])
def test_objects_lie_in_shared_memory_that_holds_what_ray_takes(pod: dict[str, Any]) -> None:
    (shared,) = (one["emptyDir"] for one in pod["volumes"] if one["name"] == "shm")
    assert shared["medium"] == "Memory"
    memory = pod["containers"][0]["resources"]["limits"]["memory"]
    assert 0.3 * gibibytes(memory) <= gibibytes(shared["sizeLimit"]) <= 0.5 * gibibytes(memory)


def gibibytes(quantity: str) -> int:
    return int(quantity.removesuffix("Gi"))


def test_a_job_that_is_stopped_commits_before_its_pod_is_gone() -> None:
    (wait,) = HEAD["template"]["spec"]["containers"][0]["env"]
    assert wait["name"] == "RAY_JOB_STOP_WAIT_TIME_S"
    assert all(
        pod["terminationGracePeriodSeconds"] >= int(wait["value"]) + 15 for pod in OF_CLUSTERS
    )


def test_metrics_are_found() -> None:
    for group in [HEAD, *GROUPS.values()]:
        annotations = group["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/scrape"] == "true"
        ports = group["template"]["spec"]["containers"][0]["ports"]
        port = {one["name"]: one["containerPort"] for one in ports}["metrics"]
        assert annotations["prometheus.io/port"] == str(port) == "8080"


def test_nobody_is_root_and_strangers_images_are_decoded_without_a_token() -> None:
    for pod in [*OF_CLUSTERS, SUBMITTER]:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for cluster in (OF_RAYJOB, RAYCLUSTER["spec"]):
        head, *workers = pods(cluster)
        used = [head["serviceAccountName"], *{pod["serviceAccountName"] for pod in workers}]
        assert used == ACCOUNTS == ["nightlabel", "nightlabel-worker"]
    for group in GROUPS.values():
        assert group["template"]["spec"]["automountServiceAccountToken"] is False
    assert SUBMITTER["automountServiceAccountToken"] is False
    assert SUBMITTER["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert {one["mountPath"] for one in SUBMITTER["containers"][0]["volumeMounts"]} >= {"/tmp"}
    assert "serviceAccountName" not in SUBMITTER


# How it ends


def test_exit_codes_mean_what_they_mean() -> None:
    disruption, codes = SUBMITTING["podFailurePolicy"]["rules"]
    assert disruption["action"] == "Ignore"  # before the codes, of which 143 would be one
    assert codes["action"] == "FailJob"
    assert codes["onExitCodes"] == {
        "containerName": SUBMITTER["containers"][0]["name"],
        "operator": "In",
        "values": [Exit.USAGE, Exit.GATE, Exit.INTERRUPTED, Exit.TERMINATED],
    }
    assert SUBMITTER["restartPolicy"] == "Never"  # a podFailurePolicy asks for it


def test_attempts_end_within_their_night() -> None:
    """One that began after noon would be of another night, and label beside the first."""
    minute, hour, *_ = CRONJOB["spec"]["schedule"].split()
    latest = CRONJOB["spec"]["startingDeadlineSeconds"] + SUBMITTING["activeDeadlineSeconds"]
    begin = int(hour) * 3600 + int(minute) * 60
    assert begin >= 12 * 3600
    assert begin + latest <= 36 * 3600
    assert CRONJOB["spec"]["timeZone"] == "Etc/UTC"
    assert CRONJOB["spec"]["concurrencyPolicy"] == "Forbid"


def test_a_night_of_its_own_leaves_nothing_that_costs() -> None:
    assert RAYJOB["spec"]["shutdownAfterJobFinishes"]
    assert RAYJOB["spec"]["ttlSecondsAfterFinished"] > 0


# The image
