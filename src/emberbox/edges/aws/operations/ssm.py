"""Systems Manager: stored parameters, as far as stacks and their tools use them."""

from __future__ import annotations

from emberbox.control.stacks.stored import PutParameter, StoredParameters
from emberbox.edges.aws.operations.handler import Handler, Members, Parameters
from emberbox.edges.aws.operations.offered import offer
from emberbox.model.caller import Caller
from emberbox.model.errors import ParameterNotFoundError, ValidationError
from emberbox.model.stacks.stored import StoredParameter


def handlers(stored: StoredParameters, region: str) -> dict[str, Handler]:
    """Return the handler of each operation that is offered, by its name in the service model.

    Args:
        stored: answers.
        region: the region played, for ARNs.
    """

    async def get(caller: Caller, parameters: Parameters) -> Members:
        return {"Parameter": show_parameter(stored.get(caller, parameters["Name"]), region)}

    async def get_several(caller: Caller, parameters: Parameters) -> Members:
        found, missing = [], []
        for name in dict.fromkeys(parameters["Names"]):
            try:
                found.append(show_parameter(stored.get(caller, name), region))
            except ParameterNotFoundError:
                missing.append(name)
        return {"Parameters": found, "InvalidParameters": missing}

    async def put(caller: Caller, parameters: Parameters) -> Members:
        return {"Version": stored.put(caller, read_put(parameters)).version, "Tier": "Standard"}

    async def delete(caller: Caller, parameters: Parameters) -> Members:
        stored.delete(caller, parameters["Name"])
        return {}

    return {
        "GetParameter": offer(get, "Name", "WithDecryption"),
        "GetParameters": offer(get_several, "Names", "WithDecryption"),
        "PutParameter": offer(put, "Name", "Value", "Type", "Description", "Overwrite"),
        "DeleteParameter": offer(delete, "Name"),
    }


def read_put(parameters: Parameters) -> PutParameter:
    """Return what PutParameter asks for.

    Raises:
        ValidationError: the value is to be encrypted.
    """
    kind = parameters.get("Type")
    if kind == "SecureString":
        raise ValidationError("SecureString is not offered by Emberbox: nothing is encrypted here.")
    return PutParameter(
        name=parameters["Name"],
        value=parameters["Value"],
        type=kind,
        description=parameters.get("Description", ""),
        overwrite=parameters.get("Overwrite", False),
    )


def show_parameter(found: StoredParameter, region: str) -> Members:
    """Return a parameter as Systems Manager shows it."""
    return {
        "Name": found.name,
        "Type": found.type,
        "Value": found.value,
        "Version": found.version,
        "LastModifiedDate": found.updated_at,
        "ARN": f"arn:aws:ssm:{region}:{found.account_id}:parameter/{found.name.lstrip('/')}",
        "DataType": "text",
    }
