"""What the official Python client does with a cluster. Arguments: kubeconfig, namespace, image."""

import sys
import time

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

kubeconfig, namespace, image = sys.argv[1:]
config.load_kube_config(kubeconfig)
core = client.CoreV1Api()
apps = client.AppsV1Api()


def until(what, condition, limit=60):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise SystemExit(f"gave up waiting for {what}")


# Objects.
made = core.create_namespaced_config_map(namespace, {"metadata": {"generateName": "made-"}, "data": {"a": "1"}})
assert made.metadata.name.startswith("made-") and len(made.metadata.name) == 10, made.metadata.name
patched = core.patch_namespaced_config_map(made.metadata.name, namespace, {"data": {"b": "2"}})
assert patched.data == {"a": "1", "b": "2"}, patched.data
made.data = {"c": "3"}
try:
    core.replace_namespaced_config_map(made.metadata.name, namespace, made)
    raise SystemExit("a stale update was taken")
except ApiException as error:
    assert error.status == 409, error
try:
    core.read_namespaced_config_map("nope", namespace)
    raise SystemExit("found what is not there")
except ApiException as error:
    assert error.status == 404 and "NotFound" in error.body, error

# Lists in chunks, and a watch that goes on from there.
for index in range(5):
    core.create_namespaced_config_map(namespace, {"metadata": {"name": f"chunk-{index}", "labels": {"chunk": "yes"}}})
first = core.list_namespaced_config_map(namespace, label_selector="chunk=yes", limit=2)
assert len(first.items) == 2 and first.metadata.remaining_item_count in (3, None), first.metadata
rest = core.list_namespaced_config_map(namespace, label_selector="chunk=yes", limit=10, _continue=first.metadata._continue)
assert len(rest.items) == 3
core.delete_namespaced_config_map("chunk-0", namespace)
kinds = []
for event in watch.Watch().stream(
    core.list_namespaced_config_map, namespace, label_selector="chunk=yes",
    resource_version=rest.metadata.resource_version, timeout_seconds=20,
):
    kinds.append((event["type"], event["object"].metadata.name))
    break
assert kinds == [("DELETED", "chunk-0")], kinds

# A pod: run, look at its log, run a command in it.
core.create_namespaced_pod(namespace, {
    "metadata": {"name": "box"},
    "spec": {"terminationGracePeriodSeconds": 0, "containers": [
        {"name": "main", "image": image, "command": ["sh", "-c", "echo hello from python; sleep 3600"]}]},
})
until("the pod", lambda: core.read_namespaced_pod("box", namespace).status.phase == "Running")
until("its log", lambda: "hello from python" in core.read_namespaced_pod_log("box", namespace))
answer = stream(core.connect_get_namespaced_pod_exec, "box", namespace, command=["echo", "through", "a", "websocket"],
                stdout=True, stderr=True, stdin=False, tty=False)
assert answer.strip() == "through a websocket", answer

# A deployment, and who may do what.
apps.create_namespaced_deployment(namespace, {
    "metadata": {"name": "web"},
    "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 0,
                 "containers": [{"name": "main", "image": image, "command": ["sleep", "3600"]}]}}},
})
until("the replicas", lambda: apps.read_namespaced_deployment("web", namespace).status.ready_replicas == 2)
review = client.AuthorizationV1Api().create_self_subject_access_review(
    {"spec": {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}})
assert review.status.allowed
core.delete_collection_namespaced_config_map(namespace, label_selector="chunk=yes")
assert not core.list_namespaced_config_map(namespace, label_selector="chunk=yes").items
print("good")
