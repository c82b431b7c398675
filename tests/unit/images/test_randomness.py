"""OpenSSL's random numbers in clones: the provider, with this machine's OpenSSL, and what is added to images for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emberbox.host import native
from emberbox.images.randomness import (
    LIBRARY,
    MARK,
    AddedFile,
    Additions,
    find_additions,
    find_openssl,
    parse,
    render,
    resolve,
)

STOCK = """\
openssl_conf = openssl_init
config_diagnostics = 1
[openssl_init]
providers = provider_sect
[provider_sect]
default = default_sect
[default_sect]
# activate = 1
[ req ]
distinguished_name = req_distinguished_name
[ req_distinguished_name ]
"""
LEGACY = STOCK.replace("default = default_sect", "default = default_sect\nlegacy = legacy_sect").replace(
    "# activate = 1", "activate = 1\n[legacy_sect]\nactivate = 1"
)
OWN_RANDOM = (
    STOCK.replace("providers = p", "random = rand\nproviders = p") + "[rand]\nrandom = HASH-DRBG\ndigest = SHA256\n"
)

# As two microVMs of one snapshot: a process with the memory of another, and with its number too, which is all that
# OpenSSL looks at. It has drawn as the first of a process namespace, and each of its two clones is the first of one.
CLONES = """
import ctypes, os, ssl, threading
def draw():
    ssl.RAND_bytes(70000)
    print(ssl.RAND_bytes(16).hex(), flush=True)
def fork(work):
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
def clone():
    assert os.getpid() == 1
    draw()
    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
def enter_namespace():
    assert ctypes.CDLL(None, use_errno=True).unshare(0x20000000) == 0, os.strerror(ctypes.get_errno())
    fork(clone)
assert os.getpid() == 1
ssl.RAND_bytes(16)
for _ in range(2):
    fork(enter_namespace)
"""


def library() -> str:
    return str(native.openssl_random_path())


def added_to(text: str, where: str = "") -> str:
    return text + render(parse(text, lambda _: []), where or library())


def run(command: list[str], configuration: Path) -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "OPENSSL_CONF": str(configuration)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def draw_in_clones(configuration: Path, first: str = "") -> list[str]:
    """Return what two clones of a process draw in their first thread and in a new one; they may do something first."""
    enter = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    program = CLONES.replace("def clone():\n", f"def clone():\n    {first or 'pass'}\n")
    return run([*enter, sys.executable, "-c", program], configuration).split()


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    return tmp_path / "openssl.cnf"


def test_without_the_provider_clones_of_a_process_draw_the_same(configuration: Path) -> None:
    """What is to be cured, and that the tests here see it."""
    configuration.write_text(STOCK)
    drawn = draw_in_clones(configuration)
    assert len(drawn) == 4
    assert drawn[:2] == drawn[2:]


def test_a_hook_mends_a_process_that_has_no_provider(configuration: Path) -> None:
    """The recipe of docs/randomness.md."""
    configuration.write_text(STOCK)
    assert len(set(draw_in_clones(configuration, "ssl.RAND_add(os.urandom(32), 32)"))) == 4


@pytest.mark.parametrize("text", ["", STOCK, LEGACY, OWN_RANDOM], ids=["empty", "stock", "legacy", "own random"])
def test_with_it_they_draw_different_numbers(configuration: Path, text: str) -> None:
    configuration.write_text(added_to(text))
    assert len(set(draw_in_clones(configuration))) == 4


@pytest.mark.parametrize("text", ["", STOCK, LEGACY, OWN_RANDOM], ids=["empty", "stock", "legacy", "own random"])
def test_where_it_cannot_be_loaded_all_is_as_before(configuration: Path, text: str) -> None:
    """A library without its like, or one that may load none, must not end the program."""
    configuration.write_text(added_to(text, "/nowhere/openssl_random.so"))
    assert "emberbox" not in run(["openssl", "list", "-providers"], configuration)
    assert len(run(["openssl", "rand", "-hex", "16"], configuration).strip()) == 32


def test_a_configurations_own_settings_stay(configuration: Path) -> None:
    """Other providers, and the sections that commands read."""
    configuration.write_text(added_to(LEGACY))
    listed = run(["openssl", "list", "-providers"], configuration)
    assert all(name in listed.split() for name in ("default", "legacy", "emberbox"))
    run(["openssl", "dgst", "-md4", "/dev/null"], configuration)
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null"]
    assert "BEGIN CERT" in run(["openssl", "req", "-x509", "-subj", "/CN=a", *key], configuration)


def test_a_generators_child_gets_its_seed_and_long_requests_are_whole(configuration: Path) -> None:
    configuration.write_text(added_to(STOCK))
    whole = bytes.fromhex(run(["openssl", "rand", "-hex", "200000"], configuration))
    assert len(whole) == 200_000
    assert all(any(whole[start : start + 64]) for start in range(0, len(whole), 64))


def test_properties_that_a_configuration_asks_of_its_generator_stay() -> None:
    text = OWN_RANDOM + "properties = fips=yes\n"
    assert "[rand]" in added_to(text)[: len(text)]
    assert "[rand]" not in added_to(text)[len(text) :]


def test_a_section_that_a_file_includes_is_gone_on_with() -> None:
    parts = {"/etc/more": ["[openssl_init]\nproviders = theirs\n[theirs]\nbase = b\n[b]\nactivate = 1\n"]}
    text = "openssl_conf = openssl_init\n.include = /etc/more\n[openssl_init]\nssl_conf = s\n"
    added = render(parse(text, lambda name: parts[name]))
    assert "[theirs]\nemberbox = emberbox_provider\n" in added
    assert "openssl_conf = openssl_init\n" in added


@pytest.mark.parametrize("name", ["$start", "${start}", "two words"])
def test_a_section_named_by_a_variable_is_left_alone(root: Path, name: str) -> None:
    (root / "etc/ssl/openssl.cnf").write_text(f"openssl_conf = {name}\n")
    added = find_additions(root, None, b"library")
    assert [file.path for file in added.files] == [LIBRARY]
    assert "openssl_conf is" in added.notes[0]


# --- what an image gets


def program(directory: str = "/usr/lib/ssl", version: str = "3") -> bytes:
    """Return what stands for a library or a program with OpenSSL in it."""
    modules = b'MODULESDIR: "/usr/lib/ossl-modules"\0' if version == "3" else b""
    return b"\x7fELF" + bytes(200_000) + f'OPENSSLDIR: "{directory}"\0'.encode() + modules + bytes(100)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image as Debian's: the library looks at a link."""
    root = tmp_path / "root"
    for directory in ("etc/ssl", "usr/lib/ssl", "usr/bin", "var/lib/dpkg"):
        (root / directory).mkdir(parents=True)
    (root / "usr/lib/libcrypto.so.3").write_bytes(program())
    (root / "usr/lib/ssl/openssl.cnf").symlink_to("/etc/ssl/openssl.cnf")
    (root / "etc/ssl/openssl.cnf").write_text(STOCK)
    return root


def by_path(added: Additions) -> dict[str, AddedFile]:
    return {file.path: file for file in added.files}


def test_the_configuration_that_a_library_reads_is_extended_where_it_is(root: Path) -> None:
    (root / "etc/ssl/openssl.cnf").chmod(0o640)
    files = by_path(find_additions(root, None, b"library"))
    extended = files.pop("/etc/ssl/openssl.cnf")
    assert extended.content.decode().startswith(STOCK)
    assert extended.mode == 0o640
    assert files.pop(LIBRARY).content == b"library"
    ((path, included),) = files.items()
    assert path.replace("$", "\\$") not in extended.content.decode()
    assert f".include = {path}\n" in extended.content.decode()
    assert included.content.decode().endswith(render(parse(STOCK, lambda _: [])))


def test_files_that_include_each_other_end(root: Path) -> None:
    """By a hostile image: each includes itself a hundred times over."""
    (root / "etc/ssl/openssl.cnf").write_text(".include = /etc/ssl/openssl.cnf\n" * 100)
    assert len(find_additions(root, None, b"library").files) == 3


def test_what_a_directory_holds_is_included(root: Path) -> None:
    (root / "etc/conf.d").mkdir()
    (root / "etc/conf.d/own.cnf").write_text("[openssl_init]\nproviders = theirs\n")
    (root / "etc/conf.d/link.conf").symlink_to("/etc/hostname")
    (root / "etc/ssl/openssl.cnf").write_text("openssl_conf = openssl_init\n.include /etc/conf.d\n")
    added = find_additions(root, None, b"library")
    assert b"providers = theirs\n" in added.files[-1].content


def test_what_was_extended_is_not_extended_again(root: Path) -> None:
    added = find_additions(root, None, b"library")
    (root / "etc/ssl/openssl.cnf").write_bytes(by_path(added)["/etc/ssl/openssl.cnf"].content)
    assert list(by_path(find_additions(root, None, b"library"))) == [LIBRARY]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (program("/opt/conda/ssl"), {"/opt/conda/ssl"}),
        (program("/etc/../opt//ssl"), {"/opt/ssl"}),
        (program("/etc/ssl", "1.1.1"), set()),
        (program("/etc/$(x)"), set()),
        (b"no program" + program(), set()),
        (b"", set()),
    ],
    ids=["elsewhere", "not plain", "1.1.1", "odd", "text", "empty"],
)
def test_each_openssl_3_names_its_directory(tmp_path: Path, content: bytes, found: set[str]) -> None:
    (tmp_path / "program").write_bytes(content)
    (tmp_path / "link").symlink_to("/usr/bin/openssl")
    assert find_openssl(tmp_path) == found


def test_an_image_without_openssl_gets_nothing(tmp_path: Path) -> None:
    assert find_additions(tmp_path, None, b"library") == Additions()


def test_a_configuration_that_is_missing_is_made(root: Path) -> None:
    (root / "opt").mkdir()
    (root / "opt/wheel.so").write_bytes(program("/opt/wheel/ssl"))
    made = by_path(find_additions(root, None, b"library"))["/opt/wheel/ssl/openssl.cnf"]
    assert MARK in made.content.decode()


def test_the_file_of_a_package_that_may_come_later_is_not_made(root: Path) -> None:
    """Node's official program on a slim Debian: dpkg would ask what to do with the file, and nobody would answer."""
    (root / "etc/ssl/openssl.cnf").unlink()
    (root / "usr/bin/node").write_bytes(program("/etc/ssl"))
    added = find_additions(root, None, b"library")
    assert "/etc/ssl/openssl.cnf" not in by_path(added)
    ((name, path),) = added.environment
    assert name == "OPENSSL_CONF"
    assert by_path(added)[path].content.decode().startswith(".include = /etc/ssl/openssl.cnf\n")


def test_a_variable_would_hide_other_configurations_so_there_is_a_note(root: Path) -> None:
    (root / "etc/ssl/openssl.cnf").unlink()
    (root / "opt").mkdir()
    (root / "opt/openssl.cnf").write_text(STOCK)
    (root / "usr/bin/python").write_bytes(program("/opt"))
    added = find_additions(root, None, b"library")
    assert added.environment == ()
    assert "apt-get install -y openssl" in added.notes[0]


def test_a_configuration_that_the_image_names_is_extended_but_never_made(root: Path) -> None:
    (root / "app.cnf").write_text("")
    assert "/app.cnf" in by_path(find_additions(root, "/app.cnf", b"library"))
    assert "/dev/null" not in by_path(find_additions(root, "/dev/null", b"library"))


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/etc/ssl", "/etc/ssl/x"),
        ("../../etc/./ssl", "/etc/ssl/x"),
        ("../../../../../../etc/ssl", "/etc/ssl/x"),
        ("/usr/here", None),
        ("/usr/lib/libcrypto.so.3", None),
    ],
    ids=["absolute", "relative", "above the root", "round", "a file"],
)
def test_links_are_followed_inside_the_image_only(root: Path, target: str, found: str | None) -> None:
    (root / "usr/here").symlink_to(target)
    assert resolve(root, "/usr/here/x") == found
