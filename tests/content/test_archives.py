"""Zip and tar: the CIDs of the folder they were made from, and everything an archive can lie about."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decentraspace.content import archives
from decentraspace.content.archives import Limits
from decentraspace.content.importer import TreeBuilder, add_path
from decentraspace.errors import BadInput, DecentraSpaceError, TooLarge
from tests.content.recipes import RECIPES, to_disk

LIMITS = Limits(max_bytes=64 * 1024 * 1024, max_files=10_000)


def forget(cid: bytes, data: bytes) -> None:
    """A sink."""


def add_zip(data: bytes, limits: Limits = LIMITS) -> TreeBuilder:
    builder = TreeBuilder(forget, max_files=limits.max_files, max_bytes=limits.max_bytes)
    archives.add_zip(io.BytesIO(data), builder, limits)
    return builder


class _Stream(io.RawIOBase):
    """Cannot seek, and gives odd pieces, as a body from the network does."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, 1777))


def add_tar(data: bytes, limits: Limits = LIMITS) -> TreeBuilder:
    builder = TreeBuilder(forget, max_files=limits.max_files, max_bytes=limits.max_bytes)
    archives.add_tar(_Stream(data), builder, limits)  # type: ignore[arg-type]
    return builder


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def tarred(*members: tarfile.TarInfo | tuple[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for member in members:
            info, data = (
                (member, bytes(member.size))
                if isinstance(member, tarfile.TarInfo)
                else (
                    tarfile.TarInfo(member[0]),
                    member[1],
                )
            )
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def special(name: str, kind: bytes, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in values.items():
        setattr(info, key, value)
    return info


# --- the same CIDs as the folder

FOLDERS = [
    "a site",
    "folder of empty folders",
    "order of names",
    "a long name",
    "deep folders",
    "hidden files",
]


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(
    "form", ["--format=ustar", "--format=gnu", "--format=pax", "--format=v7", "-z", "--format=oldgnu"]
)
def test_tar_of_a_folder(name: str, form: str, tmp_path: Path) -> None:
    to_disk(RECIPES[name], tmp_path / "in")
    done = subprocess.run(["tar", form, "-c", "-C", str(tmp_path / "in"), "."], capture_output=True)
    if done.returncode:
        assert form in {"--format=ustar", "--format=v7"}  # which have no room for long names
        return
    assert add_tar(done.stdout).finish() == add_path(tmp_path / "in", forget)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_by_python(form: int, tmp_path: Path) -> None:
    to_disk(RECIPES["a site"], tmp_path / "in")
    os.symlink("docs/../index.html", tmp_path / "in" / "link")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        archive.add(tmp_path / "in", arcname=".")
    assert add_tar(out.getvalue()).finish() == add_path(tmp_path / "in", forget)
    assert add_tar(gzip.compress(out.getvalue())).finish() == add_path(tmp_path / "in", forget)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_of_a_folder(name: str, method: int, tmp_path: Path) -> None:
    root = tmp_path / "in"
    to_disk(RECIPES[name], root)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for here, folders, files in os.walk(root):
            for inner in (*folders, *files):
                path = Path(here) / inner
                archive.write(path, path.relative_to(root))
    assert add_zip(out.getvalue()).finish() == add_path(root, forget)


def test_symlinks_in_a_zip(tmp_path: Path) -> None:
    to_disk({"docs": {"a": RECIPES["file of 1 B"]}}, tmp_path / "in")
    os.symlink("docs/a", tmp_path / "in" / "link")
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    data = (tmp_path / "in" / "docs" / "a").read_bytes()
    assert add_zip(zipped(("docs/a", data), (link, b"docs/a"))).finish() == add_path(tmp_path / "in", forget)


def test_git_archive_with_its_global_header(tmp_path: Path) -> None:
    to_disk(RECIPES["a site"], tmp_path / "in")
    git = ["git", "-C", str(tmp_path / "in"), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    archive = subprocess.run([*git, "archive", "HEAD"], check=True, capture_output=True).stdout
    assert add_tar(archive).finish() == add_path(tmp_path / "in", forget, hidden=False)


# --- names and kinds


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "a/..", "C:\\x", "..\\x", "a//b", "./../x"]
)
def test_slips(name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = name
    for add in (lambda: add_zip(zipped((info, b"x"))), lambda: add_tar(tarred((name, b"x")))):
        with pytest.raises(BadInput):
            add()
    for add in (
        lambda: add_zip(zipped((f"{name}/", b""))),
        lambda: add_tar(tarred(special(name, tarfile.DIRTYPE))),
    ):
        with pytest.raises(BadInput):
            add()


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "a/../../x", "", "\0"])
def test_symlinks_that_leave(target: str) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(BadInput):
        add_zip(zipped((link, target.encode())))
    if target != "\0":
        with pytest.raises(BadInput):
            add_tar(tarred(special("link", tarfile.SYMTYPE, linkname=target)))


def test_a_file_below_a_symlink() -> None:
    link = zipfile.ZipInfo("d")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(BadInput):
        add_zip(zipped((link, b"."), ("d/x", b"")))
    with pytest.raises(BadInput):
        add_tar(tarred(special("d", tarfile.SYMTYPE, linkname="."), ("d/x", b"")))


@pytest.mark.parametrize(
    "kind",
    [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z", tarfile.GNUTYPE_SPARSE],
)
def test_kinds_that_a_site_does_not_have(kind: bytes) -> None:
    with pytest.raises(BadInput):
        add_tar(tarred(("a", b"x"), special("b", kind, linkname="a")))
    info = zipfile.ZipInfo("device")
    info.external_attr = (stat.S_IFCHR | 0o600) << 16
    with pytest.raises(BadInput):
        add_zip(zipped((info, b"")))


def test_twice_the_same_name() -> None:
    with pytest.raises(BadInput, match="twice"), pytest.warns(UserWarning, match="Duplicate"):
        add_zip(zipped(("a", b"1"), ("a", b"2")))
    with pytest.raises(BadInput, match="twice"):
        add_tar(tarred(("a", b"1"), ("./a", b"2")))


def test_names_that_are_not_utf_8() -> None:
    data = tarred(("cafe", b""), format=tarfile.USTAR_FORMAT).replace(b"cafe", b"caf\xe9")
    head = bytearray(data[:512])
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(BadInput, match="UTF-8"):
        add_tar(bytes(head) + data[512:])


def test_a_member_without_a_name() -> None:
    data = zipped(("a", b"x")).replace(b"a", b"\0")
    with pytest.raises(BadInput):
        add_zip(data)


def test_encrypted_members() -> None:
    data = bytearray(zipped(("a", b"x")))
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(signature) + offset] |= 1
    with pytest.raises(BadInput, match="encrypted"):
        add_zip(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_want_much_memory(method: int) -> None:
    with pytest.raises(BadInput, match="method"):
        add_zip(zipped(("a", b"x" * 1000), method=method))


# --- bombs


def test_limits_hold_for_both() -> None:
    few = Limits(max_bytes=1000, max_files=3)
    for pack, add in ((zipped, add_zip), (tarred, add_tar)):
        add(pack(("a", b"x" * 500), ("b", b"x" * 500)), few)  # type: ignore[operator]
        for members in (
            [("a", b"x" * 1001)],
            [("a", b"x" * 600), ("b", b"x" * 600)],
            [(f"{n}", b"") for n in range(4)],
        ):
            with pytest.raises(TooLarge):
                add(pack(*members), few)  # type: ignore[operator]


def test_a_packed_bomb() -> None:
    zeros = bytes(200 * 1024 * 1024)
    limits = Limits(max_bytes=10 * 1024 * 1024, max_files=10)
    with pytest.raises(TooLarge):
        add_zip(zipped(("a", zeros)), limits)
    bomb = gzip.compress(tarred(("a", zeros)))
    del zeros
    tracemalloc.start()
    with pytest.raises(TooLarge):
        add_tar(bomb, limits)
    assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    tracemalloc.stop()


def test_a_zip_that_lies_about_sizes() -> None:
    data = bytearray(zipped(("a", bytes(1_000_000))))
    at = data.index(b"PK\x01\x02") + 24
    for said in (10, 999_999, 0):
        data[at : at + 4] = struct.pack("<I", said)
        with pytest.raises((TooLarge, BadInput)):
            add_zip(bytes(data))


def test_a_zip_of_names_only_is_refused_before_it_is_read() -> None:
    """Its table of contents would be a hundred times larger in memory than the limit lets it be."""
    limits = Limits(max_bytes=1000, max_files=100)
    entry = (
        struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
        + b"x"
    )
    for count in (200, 2_000_000):
        table = entry * count
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(table), 0, 0)
        data = io.BytesIO(table + end)
        builder = TreeBuilder(forget)
        tracemalloc.start()
        with pytest.raises(TooLarge):
            archives.add_zip(data, builder, limits)
        assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
        tracemalloc.stop()


def _raw_header(name: bytes, kind: bytes, size: int) -> bytes:
    head = bytearray(512)
    head[: len(name)] = name
    head[100:108] = b"0000644\0"
    head[124:136] = b"%011o\0" % size
    head[156:157] = kind
    head[257:265] = b"ustar\x0000"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_headers_that_would_fill_memory(kind: bytes) -> None:
    bomb = gzip.compress(_raw_header(b"h", kind, 200_000_000) + bytes(200_000_000), 1)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        add_tar(bomb, Limits(max_bytes=1 << 40, max_files=10_000))
    assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
    tracemalloc.stop()
    many = (_raw_header(b"h", kind, 512) + b"\0" * 512) * 100
    with pytest.raises(TooLarge):
        add_tar(many)


def test_a_sparse_file_in_pax_clothes() -> None:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50)}
    with pytest.raises(BadInput, match=r"neither a file|a sparse file"):
        add_tar(tarred(info))


@pytest.mark.parametrize(
    "body",
    [
        b"1",
        b"x path=a\n",
        b"0 path=a\n",
        b"99 path=a\n",
        b"10 path=aa",
        b"9 size=x\n",
        b"6 path",
        b"13 path=caf\xe9\n",
    ],
)
def test_damaged_pax_headers(body: bytes) -> None:
    data = (
        _raw_header(b"p", b"x", len(body)) + body.ljust(512, b"\0") + _raw_header(b"a", b"0", 0) + bytes(1024)
    )
    with pytest.raises(BadInput):
        add_tar(data)


def test_sizes_in_pax_and_binary() -> None:
    body = b"10 size=3\n"
    pax = _raw_header(b"p", b"x", len(body)) + body.ljust(512, b"\0")
    assert add_tar(pax + _raw_header(b"a", b"0", 999) + b"abc".ljust(512, b"\0") + bytes(1024)).bytes == 3
    head = bytearray(_raw_header(b"a", b"0", 0))
    head[124:136] = b"\x80" + (3).to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    assert add_tar(bytes(head) + b"abc".ljust(512, b"\0") + bytes(1024)).bytes == 3


# --- damage

SITE = [("index.html", b"<h1>hi</h1>" * 100), ("css/main.css", b"a { }" * 50), ("empty", b"")]


def test_what_is_no_archive() -> None:
    for data in (
        b"",
        b"hello",
        b"PK\x03\x04" + bytes(100),
        b"\x1f\x8b",
        b"\x1f\x8b" + b"x" * 100,
        b"x" * 2000,
    ):
        for add in (add_zip, add_tar):
            with pytest.raises(BadInput):
                add(data)
    with pytest.raises(BadInput, match="empty"):
        add_tar(bytes(1024))


def test_every_cut_of_a_tar_is_noticed() -> None:
    plain = tarred(*SITE)
    end = len(plain.rstrip(b"\0")) // 512 * 512 + 1024  # one block of zeros behind the last content
    for data, steps in ((plain[:end], 101), (gzip.compress(plain), 1)):
        for cut in range(0, len(data) - 1, steps):
            with pytest.raises(BadInput):
                add_tar(data[:cut])


def test_a_gzip_checksum_that_is_wrong() -> None:
    data = bytearray(gzip.compress(tarred(*SITE)))
    data[-6] ^= 1
    with pytest.raises(BadInput):
        add_tar(bytes(data))


def test_gzip_in_several_members_and_with_padding() -> None:
    plain = tarred(*SITE)
    packed = b"".join(gzip.compress(plain[at : at + 700]) for at in range(0, len(plain), 700)) + bytes(600)
    assert add_tar(packed).finish() == add_tar(plain).finish()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage_is_refused_in_words_or_harmless(data: st.DataObject) -> None:
    add, whole = data.draw(
        st.sampled_from(
            [
                (add_zip, zipped(*SITE)),
                (add_zip, zipped(*SITE, method=zipfile.ZIP_STORED)),
                (add_tar, tarred(*SITE, ("n" * 200, b"x"))),
                (add_tar, tarred(*SITE, ("n" * 200, b"x"), format=tarfile.GNU_FORMAT)),
                (add_tar, gzip.compress(tarred(*SITE), mtime=0)),
            ]
        )
    )
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        match data.draw(st.sampled_from(["set", "cut", "insert", "remove"])):
            case "set":
                broken[at] = data.draw(st.integers(0, 255))
            case "cut" if at:
                del broken[at:]
            case "insert":
                broken[at:at] = data.draw(st.binary(max_size=20))
            case _ if len(broken) > 40:
                del broken[at : at + data.draw(st.integers(1, 20))]
    try:
        add(bytes(broken), Limits(max_bytes=1_000_000, max_files=100)).finish()
    except DecentraSpaceError:
        return
