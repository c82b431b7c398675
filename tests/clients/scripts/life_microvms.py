"""A microVM's life by `microvms` (Rust), which knows AWS's addresses only; prints what it saw as JSON."""

import json
import sys

from microvms import ControlPlane, Region, Sandbox

microvm_id, endpoint, image = sys.argv[1:]
region = Region.parse("us-east-1")
plane = ControlPlane(region)
seen = {"state": plane.get(microvm_id).state}
plane.suspend(microvm_id)
plane.wait_for_state(microvm_id, ["SUSPENDED"], poll_interval=0.2)
plane.resume(microvm_id)
plane.wait_for_state(microvm_id, ["RUNNING"], poll_interval=0.2)
seen["listed"] = [one.id for one in plane.list(image_identifier=image)]
seen["images"] = [one.image_arn for one in plane.list_images()]
versions = plane.list_image_versions(image)
seen["versions"] = len(versions)
seen["builds"] = len(plane.list_image_builds(image, versions[0].image_version))
sandbox = Sandbox.adopt(region, microvm_id, endpoint, "no-agent-is-asked")
seen["adopted"] = sandbox.adopted
plane.terminate(microvm_id)
plane.wait_for_state(microvm_id, ["TERMINATED"], poll_interval=0.2)
try:
    plane.get("microvm-none")
except Exception as error:
    seen["refused"] = str(error)
print(json.dumps(seen))
