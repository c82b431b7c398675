"""`emberbox trust`: the authority that signs the gateway's certificate, for clients to trust."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from emberbox import process
from emberbox.cli.aws_names import HOSTS, answer_aws_names, ignore_aws_names, render_hosts, write_hosts
from emberbox.cli.context import Server, get_server
from emberbox.model.errors import HostError
from emberbox.settings import load


@dataclass(frozen=True, slots=True)
class Store:
    """A Debian machine's certificate store: where local authorities are put, and where what is made of them is."""

    local: Path = Path("/usr/local/share/ca-certificates")
    made: Path = Path("/etc/ssl/certs")

    def update_args(self) -> list[str]:
        """Return the command that takes in what has changed."""
        if self == Store():
            return ["update-ca-certificates"]
        return ["update-ca-certificates", "--localcertsdir", str(self.local), "--etccertsdir", str(self.made)]


def trust(
    install: Annotated[bool, typer.Option("--install", help="Put it into this machine's store.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take it out of this machine's store.")] = False,
    for_aws: Annotated[
        bool, typer.Option("--aws-names", help="Answer AWS's own host names, and print hosts lines.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="With --aws-names: write them into /etc/hosts.")] = False,
    bucket: Annotated[
        list[str] | None, typer.Option(help="With --aws-names: a bucket that is asked for by its own host name.")
    ] = None,
) -> None:
    """Print the gateway's certificate authority (PEM), or install it on this machine.

    With --aws-names: lead programs that know AWS's addresses only to this server; --aws-names --remove undoes it.
    """
    home = load().home
    if for_aws and remove:
        ignore_aws_names(home)
        write_hosts(HOSTS, home, "")
        return
    authority = get_server(home).ca_bundle
    if not authority.is_relative_to(home):
        raise HostError(
            f"the gateway has a certificate of your own (EMBERBOX_TLS_CERTIFICATE), checked with {authority}; "
            "there is no local authority to trust"
        )
    if for_aws:
        _lead_here(get_server(home), bucket or [], write=write)
    elif install or remove:
        change_store(authority, Store(), install=install)
        typer.echo(f"{'installed' if install else 'removed'} {stored_path(authority, Store())}", err=True)
    else:
        typer.echo(authority.read_text(), nl=False)
    if not remove:
        typer.echo(advice(authority), err=True)


def _lead_here(server: Server, buckets: list[str], *, write: bool) -> None:
    answer_aws_names(server)
    lines = render_hosts(server, buckets)
    if write:
        write_hosts(HOSTS, server.home, lines)
        typer.echo(f"written to {HOSTS}; emberbox trust --aws-names --remove takes it out", err=True)
    else:
        typer.echo(lines, nl=False)
    typer.echo(
        "every program on this machine that asks for these names gets to Emberbox then, not to AWS; each needs the "
        "authority and Emberbox's keys:",
        err=True,
    )


def stored_path(authority: Path, store: Store) -> Path:
    """Return where an authority is put: a name of its own, for there may be several on a machine."""
    return store.local / f"emberbox-{hashlib.sha256(authority.read_bytes()).hexdigest()[:8]}.crt"


def change_store(authority: Path, store: Store, *, install: bool) -> None:
    """Install an authority in a store, or remove it. Repeats are harmless.

    Raises:
        HostError: only root may change it, or the tool that does it fails or is missing.
    """
    path = stored_path(authority, store)
    try:
        if install:
            store.local.mkdir(parents=True, exist_ok=True)
            path.write_bytes(authority.read_bytes())
            path.chmod(0o644)
        else:
            path.unlink(missing_ok=True)
    except PermissionError as error:
        change = ["install", "-m", "644", str(authority), str(path)] if install else ["rm", "-f", str(path)]
        raise HostError(
            f"only root may change {store.local}; run: "
            f"sudo {shlex.join(change)} && sudo {shlex.join(store.update_args())}"
        ) from error
    path_with_sbin = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # a user's PATH lacks the tool's directory
    asyncio.run(process.run(store.update_args(), environment={**os.environ, "PATH": path_with_sbin}))


def advice(authority: Path) -> str:
    """Say how clients that have stores of their own come to trust an authority."""
    quoted = shlex.quote(str(authority))
    return f"""
every client        eval "$(emberbox env)": one file of this and of what was trusted before
curl                curl --cacert {quoted} ...
Python              SSL_CERT_FILE or REQUESTS_CA_BUNDLE={quoted}
Node.js             NODE_EXTRA_CA_CERTS={quoted}
Chrome on Linux     certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n emberbox -i {quoted}
Firefox             Settings > Privacy & Security > View Certificates > Authorities > Import
macOS               sudo security add-trusted-cert -d -k /Library/Keychains/System.keychain {quoted}
this machine        emberbox trust --install"""
