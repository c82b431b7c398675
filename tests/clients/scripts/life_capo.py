"""Every operation of lambda-microvms by capo, whose HTTP stack and shapes are its own; prints what it saw as JSON."""

import json
import sys
import time
import urllib.request

from capo_lambda_microvms import LambdaMicrovmsClient
from capo_lambda_microvms.errors import ResourceNotFoundException, ValidationException

image, base, role, artifact = sys.argv[1:]
seen = {"names": []}


def told(name, answer):
    """Note an operation that was answered as capo's shapes have it."""
    seen["names"].append(name)
    return answer


def wait(ask, key, states):
    """Ask until a state is reached."""
    while (found := ask())[key] not in states:
        time.sleep(0.1)
    return found


with LambdaMicrovmsClient() as client:
    run = told("run_microvm", client.run_microvm(image_identifier=image))
    which = {"microvm_identifier": run["microvm_id"]}
    wait(lambda: told("get_microvm", client.get_microvm(**which)), "state", ["RUNNING"])
    token = told(
        "create_microvm_auth_token",
        client.create_microvm_auth_token(
            **which, expiration_in_minutes=5, allowed_ports=[{"port": 8080}, {"allPorts": None}]
        ),
    )
    request = urllib.request.Request(f"https://{run['endpoint']}/", headers=token["auth_token"])
    seen["hostname"] = json.load(urllib.request.urlopen(request))["hostname"]
    for action in ("suspend_microvm", "resume_microvm", "terminate_microvm"):
        told(action, getattr(client, action)(**which))
    seen["id"] = run["microvm_id"]
    seen["listed"] = [item["microvm_id"] for item in told("list_microvms", client.iter_list_microvms(max_results=1))]
    images = told("list_microvm_images", client.iter_list_microvm_images())
    seen["images"] = [item["image_arn"] for item in images]
    managed = told("list_managed_microvm_images", client.list_managed_microvm_images())["items"]
    told(
        "list_managed_microvm_image_versions",
        client.list_managed_microvm_image_versions(image_identifier=managed[0]["image_arn"]),
    )
    made = told(
        "create_microvm_image",
        client.create_microvm_image(
            name="by-capo", base_image_arn=base, build_role_arn=role, code_artifact={"uri": artifact}
        ),
    )
    own, version = {"image_identifier": made["image_arn"]}, made["image_version"]
    found = wait(
        lambda: told("get_microvm_image", client.get_microvm_image(**own)), "state", ["CREATED", "CREATE_FAILED"]
    )
    seen["built"] = found["state"]
    builds = told("list_microvm_image_builds", client.list_microvm_image_builds(**own, image_version=version))["items"]
    told(
        "get_microvm_image_build",
        client.get_microvm_image_build(**own, image_version=version, build_id=builds[0]["build_id"]),
    )
    told("list_microvm_image_versions", client.list_microvm_image_versions(**own))
    told("get_microvm_image_version", client.get_microvm_image_version(**own, image_version=version))
    tagged = {"resource": made["image_arn"]}
    told("tag_resource", client.tag_resource(**tagged, tags={"by": "capo"}))
    seen["tags"] = told("list_tags", client.list_tags(**tagged))["tags"]
    told("untag_resource", client.untag_resource(**tagged, tag_keys=["by"]))
    told("delete_microvm_image", client.delete_microvm_image(**own))
    seen["errors"] = []
    for error, call in (
        (ResourceNotFoundException, lambda: client.get_microvm(microvm_identifier="microvm-none")),
        (ValidationException, lambda: client.run_microvm(image_identifier="no arn")),
    ):
        try:
            call()
        except error as refusal:
            seen["errors"].append(type(refusal).__name__)
seen["names"] = sorted(set(seen["names"]))
print(json.dumps(seen))
