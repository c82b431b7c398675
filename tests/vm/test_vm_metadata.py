"""The instance metadata address: what a role is worth inside a microVM."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import boto3
import pytest
from botocore.exceptions import ClientError

from emberbox.cli.context import get_server
from support.guests import Microvm
from support.images import Image
from support.server import Server

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]
ROLE = "metadata-test"
ROLES_PATH = "/latest/meta-data/iam/security-credentials/"
ONLY_READS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "lambda:ListMicrovmImages", "Resource": "*"}],
}
# IMDSv2 in the Perl that every Debian has: a token first, then the path that is asked for.
ASK = r"""
perl -MIO::Socket::INET -e '
sub ask {
    my $socket = IO::Socket::INET->new(PeerAddr => "169.254.169.254:80", Timeout => 10) || die "refused: $!";
    print $socket join("\r\n", "$_[0] HTTP/1.1", "Host: 169.254.169.254", "Connection: close", $_[1], "", "");
    local $/; my ($head, $body) = split /\r\n\r\n/, <$socket>, 2;
    return ((split " ", $head)[1], $body);
}
my ($status, $token) = ask("PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60");
($status, $body) = ask("GET $ARGV[0]", "X-aws-ec2-metadata-token: $token");
print "$status $body";
' PATH_ASKED_FOR
"""


def ask(microvm: Microvm, path: str) -> tuple[int, str]:
    """Return status and body of a path, asked from inside."""
    status, _, body = microvm.shell(ASK.replace("PATH_ASKED_FOR", path).strip()).partition(" ")
    return int(status), body


@pytest.fixture(scope="module")
def role(server: Server) -> Iterator[str]:
    """A role that may list images and nothing else."""
    client = get_server(server.home).client("emberbox")
    client.put_role(roleName=ROLE, policyDocument=json.dumps(ONLY_READS))
    yield f"arn:aws:iam::{server.endpoints['account_id']}:role/{ROLE}"
    client.delete_role(roleName=ROLE)


@pytest.mark.both_engines
def test_a_microvm_acts_with_its_roles_rights_and_no_others(
    launch: Launch, probe_image: Image, server: Server, role: str
) -> None:
    """The credentials at the metadata address sign requests that the role's policy allows; they outlive a suspend."""
    microvm = launch(probe_image, executionRoleArn=role)
    assert ask(microvm, ROLES_PATH) == (200, "execution_role")
    status, body = ask(microvm, f"{ROLES_PATH}execution_role")
    assert status == 200
    found = json.loads(body)
    inside = boto3.client(
        "lambda-microvms",
        endpoint_url=server.endpoints["api_url"],
        region_name=server.endpoints["region"],
        aws_access_key_id=found["AccessKeyId"],
        aws_secret_access_key=found["SecretAccessKey"],
        aws_session_token=found["Token"],
    )
    assert inside.list_microvm_images()["items"]
    with pytest.raises(ClientError) as caught:
        inside.run_microvm(imageIdentifier=probe_image.arn)
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    microvm.suspend()
    microvm.resume()
    assert json.loads(ask(microvm, f"{ROLES_PATH}execution_role")[1]) == found


def test_a_microvm_without_a_role_finds_no_credentials(probe: Microvm) -> None:
    """As on AWS: the address answers, and what is not there is 404."""
    assert ask(probe, ROLES_PATH)[0] == 404
    assert ask(probe, "/latest/user-data")[0] == 404
