import io
import os
import pickle
import tarfile
import zipfile
from argparse import Namespace
from collections import OrderedDict

import numpy as np
import pytest
import torch
from fairseq.logging.meters import AverageMeter

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import unpickling


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def saved(content, legacy=False):
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    file.seek(0)
    return file


def same(one, other):
    if isinstance(one, (torch.Tensor, np.ndarray)):
        return type(one) is type(other) and bool((one == other).all())
    return one == other


@pytest.mark.parametrize("legacy", [False, True])
def test_what_fairseq_keeps_is_read(legacy):
    shared = torch.arange(3.0)
    content = {
        "model": OrderedDict(a=shared, b=shared, half=torch.ones(2).half()),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "args": Namespace(arch="transformer", lr=[0.1], nested={"x": (1, None, True)}),
        "numbers": (np.float64(1.5), np.int64(3), np.arange(4), {1, 2}),
        "types": (torch.float16, torch.Size([1, 2]), torch.device("cpu")),
    }
    read = unpickling.load(saved(content, legacy))
    assert read["args"] == content["args"]
    assert torch.equal(read["model"]["a"], shared)
    assert read["model"]["a"].data_ptr() == read["model"]["b"].data_ptr()
    assert isinstance(read["parameter"], torch.nn.Parameter)
    for one, other in zip(read["numbers"] + read["types"], content["numbers"] + content["types"]):
        assert same(one, other)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", [lambda x: x, lambda x: {"args": Namespace(a=[x])}])
@pytest.mark.parametrize("setting", ["", "1"])
def test_nothing_is_called(legacy, place, setting, tmp_path, monkeypatch):
    """Whatever torch is told: the variable is the usual advice for fairseq under torch 2.6."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", setting)
    file = saved(place(Runs(str(tmp_path / "made"))), legacy)
    with pytest.raises(AdminError, match=r"^refused: loading it would call \w+.mkdir, which"):
        unpickling.load(file)
    assert not (tmp_path / "made").exists()


def test_nothing_is_called_by_a_bare_pickle_either(tmp_path):
    for content in (Runs(str(tmp_path / "made")), eval, __import__):
        with pytest.raises(AdminError, match=r"not a checkpoint|refused"):
            unpickling.load(io.BytesIO(pickle.dumps(content)))
    assert not (tmp_path / "made").exists()


def test_nothing_changes_a_class():
    """A pickle may set the state of what it has made, not that of a class that it names."""
    before = vars(AverageMeter).copy()
    change = b"\x80\x02c%s\n%s\nN}X\x06\x00\x00\x00updatec__builtin__\nset\ns\x86b."
    for name in ((b"fairseq.meters", b"AverageMeter"), (b"argparse", b"Namespace")):
        with pytest.raises(AdminError, match=r"^not a checkpoint"):
            unpickling.load(io.BytesIO(change % name))
    assert vars(AverageMeter) == before and not hasattr(Namespace, "update")


def test_a_flipped_bit_is_noticed():
    content = bytearray(saved({"w": torch.zeros(1000)}).getvalue())
    unpickling.load(io.BytesIO(content))
    content[len(content) // 2] ^= 1
    with pytest.raises(AdminError, match=r"^damaged: the checksum of .*data/0 is wrong"):
        unpickling.load(io.BytesIO(content))


def rewritten(**how):
    """The archive of a tensor, written again by ``zipfile``."""
    file = io.BytesIO()
    with zipfile.ZipFile(saved(torch.zeros(1000))) as old, zipfile.ZipFile(file, "w", **how) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    file.seek(0)
    return file


def test_an_archive_whose_members_share_their_bytes_is_refused():
    """Each of them would be read, and kept, again."""
    content = bytearray(saved({"w": torch.zeros(1000)}).getvalue())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data/0", bytes(largest.file_size))
        for i in range(1, 100):
            again = zipfile.ZipInfo(f"archive/data/{i}")
            first = archive.filelist[0]
            again.header_offset, again.CRC = first.header_offset, first.CRC
            again.file_size = again.compress_size = first.file_size
            archive.filelist.append(again)
    file.seek(0)
    with pytest.raises(AdminError, match="whose members are uncompressed"):
        unpickling.load(file)


def test_an_archive_that_grows_when_it_is_read_is_refused():
    assert torch.equal(unpickling.load(rewritten()), torch.zeros(1000))
    with pytest.raises(AdminError, match=r"^not a checkpoint of torch, whose members"):
        unpickling.load(rewritten(compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"P", b"text\n", b"<html>404</html>", b"PK\x05\x06" + bytes(18), bytes(100)),
        *(pickle.dumps({"a": 1})[:-1], b"\x80\x04\x96" + (8 << 30).to_bytes(8, "little") + b"."),
        *(b"PK\x03\x04" + bytes(100), saved({"w": torch.ones(1000)}).getvalue()[:1500]),
    ],
)
def test_other_bytes_are_no_checkpoint(content):
    with pytest.raises(AdminError, match=r"^(not a checkpoint|does not fit)"):
        unpickling.load(io.BytesIO(content))


class Calls:
    """What a pickle says: call a function with these arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (np.zeros(1).__reduce__()[0], np.ndarray, (1 << 40,), b"b"),
        (np.ndarray, (1 << 40,)),
        (torch.Tensor, 1 << 40),
        (bytearray, 1 << 40),
    ],
    ids=["_reconstruct", "ndarray", "Tensor", "bytearray"],
)
def test_no_array_without_its_elements_is_made(call):
    with pytest.raises(AdminError, match=r"^(not a checkpoint|refused)"):
        unpickling.load(saved({"model": {}, "array": Calls(*call)}))


def with_member(file, ending, content):
    """The archive with other ``content`` in the member whose name ends so."""
    changed = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(changed, "w") as new:
        for name in archive.namelist():
            new.writestr(name, content if name.endswith(ending) else archive.read(name))
    changed.seek(0)
    return changed


@pytest.mark.parametrize("claimed", [0, 3999, 4001])
def test_a_storage_has_the_size_of_its_tensor(claimed):
    """torch up to 2.1 reads beyond its end."""
    changed = with_member(saved({"w": torch.zeros(1000)}), "/data/0", bytes(claimed))
    with pytest.raises(AdminError, match=r"^not a checkpoint"):
        unpickling.load(changed)


def test_a_key_that_takes_for_ever_to_hash_is_refused():
    # {(((), ()), ((), ())): 1}, but with 60 levels: Python would hash () 2**60 times
    content = b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s."
    zipped = with_member(saved({"w": torch.zeros(1)}), "/data.pkl", content)
    for bomb in (zipped, io.BytesIO(content)):
        with pytest.raises(AdminError, match=r"^not a checkpoint"):
            unpickling.load(bomb)


def test_archives_that_torch_would_unpack_or_compile_are_refused(tmp_path, monkeypatch):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "script.pt")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch has opened it"))
    with open(tmp_path / "script.pt", "rb") as file, pytest.raises(AdminError, match="TorchScript"):
        unpickling.load(file)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("\udc80"))  # begins as a pickle does
        archive.addfile(tarfile.TarInfo("storages"))
    tar.seek(0)
    assert tar.read(1) == unpickling.PICKLE
    tar.seek(0)
    with pytest.raises(AdminError, match=r"^not a checkpoint"):
        unpickling.load(tar)
