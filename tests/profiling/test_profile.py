import errno
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.hooks.recorder import Site
from admin_fairseq.profiling.profile import Entry, Profile, read_profile

RELEASE = (
    Path(__file__).parents[3] / "shared" / "data" / "release_checkpoint" / "profile.ratio.init"
)
DIMS = {"encoder_embed_dim": 64, "decoder_embed_dim": 64, "encoder_ffn_embed_dim": 128}


def sites(encoder_layers, decoder_layers):
    """The residual connections of a model, in the order in which they run."""
    encoder = [
        Site("encoder", layer, kind)
        for layer in range(encoder_layers)
        for kind in ("self_attn", "ffn")
    ]
    decoder = [
        Site("decoder", layer, kind)
        for layer in range(decoder_layers)
        for kind in ("self_attn", "encoder_attn", "ffn")
    ]
    return encoder + decoder


SITES = sites(2, 1)
OMEGAS = [1.0, 1.25, 1.5, 2.125, 1.0, 1.1875, 3.5]
PROFILE = Profile(
    [Entry(*site, 1.0, 0.25, omega) for site, omega in zip(SITES, OMEGAS)],
    model={"encoder_layers": 2, "decoder_layers": 1, **DIMS},
    measurement={"batches": 1, "seed": 7},
    packages={"torch": "2"},
)
RELEASE_TEXT = "1 1.0\n2 1.25\n3 1.5\n4 2.125\n1 1.0\n2 1.1875\n3 3.5\n"
SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # normal numbers of float32
WRITE_FAILS = OSError(errno.ENOSPC, "No space left on device")
any_input = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "profile.json")


def content():
    """What a good profile file holds, to be damaged."""
    entries = [dict(vars(entry)) for entry in PROFILE.entries]
    return {
        "format": "admin-fairseq profile",
        "version": 1,
        "model": dict(PROFILE.model),
        "measurement": dict(PROFILE.measurement),
        "packages": dict(PROFILE.packages),
        "sublayers": entries,
    }


def save(path, what):
    what = what if isinstance(what, (bytes, str)) else json.dumps(what)
    Path(path).write_bytes(what if isinstance(what, bytes) else what.encode())


def load(path, sites=SITES, dims=DIMS):
    """ω of the model, as a training run takes them from the file."""
    profile = read_profile(path, sites)
    with blaming(path):
        return profile.omegas_for(sites, dims)


def refusal(path, **model):
    """The one line that refuses the file."""
    with pytest.raises(AdminError) as error:
        load(path, **model)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert path in message
    return message


# Good files


def test_read_is_what_was_written(path):
    PROFILE.write(path)
    assert read_profile(path, SITES) == PROFILE
    assert load(path) == OMEGAS


@any_input
@given(omegas=st.lists(st.floats(SMALLEST, LARGEST), min_size=7, max_size=7))
def test_every_number_survives_exactly(path, omegas):
    entries = [Entry(*site, omega, omega / 3, omega) for site, omega in zip(SITES, omegas)]
    Profile(entries).write(path)
    assert read_profile(path, SITES).entries == entries


def test_order_in_the_file_does_not_matter(path):
    Profile(PROFILE.entries[::-1]).write(path)
    assert load(path) == OMEGAS


def test_file_format(path):
    PROFILE.write(path)
    assert json.loads(Path(path).read_text()) == content()


def test_release_text(path):
    save(path, RELEASE_TEXT)
    assert load(path) == OMEGAS
    assert [entry.site for entry in read_profile(path, SITES).entries] == SITES


def test_release_text_of_a_real_run():
    if not RELEASE.exists():
        pytest.skip(f"{RELEASE} is not here")
    omegas = load(str(RELEASE), sites(3, 2))
    assert len(omegas) == 3 * 2 + 2 * 3
    assert omegas[:2] == [1.0, 1.3037680387496948]
    assert omegas[6:8] == [1.0, 1.3331645727157593]
    assert omegas[-1] == 1.6929835081100464


def test_release_text_of_a_real_run_fits_no_other_depth():
    if not RELEASE.exists():
        pytest.skip(f"{RELEASE} is not here")
    assert "3 encoder and 2 decoder layers" in refusal(str(RELEASE), sites=sites(2, 3))


# Damaged files


def test_missing_file(path):
    assert "No such file" in refusal(path)


def test_directory_in_place_of_a_file(tmp_path):
    assert "directory" in refusal(str(tmp_path)).lower()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        pytest.param(b"\x80\x02}q\x00\xff\xfe", "not UTF-8 text", id="binary"),
        pytest.param("", "empty", id="empty"),
        pytest.param("\n", "line 1", id="blank"),
        pytest.param(json.dumps(content())[:200], "damaged", id="truncated JSON"),
        pytest.param({}, "field `format`", id="empty JSON"),
        pytest.param({"format": "tensorboard"}, "tensorboard", id="other JSON"),
        pytest.param('{"a": ' * 100_000, "damaged", id="JSON nested too deeply"),
        pytest.param([1, 2], "neither a profile", id="JSON that is no object"),
        pytest.param({**content(), "version": 2}, "Invalid enum value 2", id="newer version"),
        pytest.param({**content(), "version": True}, "got `bool`", id="version that is no number"),
        pytest.param({**content(), "version": 1.0}, "got `float`", id="version with a fraction"),
        pytest.param({**content(), "sublayers": 7}, "damaged", id="no list of sub-layers"),
        pytest.param({**content(), "sublayers": []}, "length >= 1", id="no sub-layers"),
        pytest.param("1 1.0\n2 one\n", "line 2", id="text with letters"),
        pytest.param("1 1.0\n2\n", "line 2", id="text without a ratio"),
        pytest.param("1 1.0\n3 1.5\n", "index 3, expected 2", id="text with skipped index"),
        pytest.param("2 1.0\n3 1.5\n", "index 2, expected 1", id="text without its start"),
        pytest.param(RELEASE_TEXT.replace("1.25", "nan"), "nan", id="text with nan"),
        pytest.param(RELEASE_TEXT.replace("1.25", "-1.25"), "-1.25", id="text below zero"),
        pytest.param(RELEASE_TEXT.replace("1.25", "1e-320"), "1e-320", id="text with a denormal"),
        pytest.param(RELEASE_TEXT.replace("1.25", "1e39"), "1e39", id="text beyond float32"),
        pytest.param("9" * 5000 + " 1.0\n", "out of range", id="text with 5000 digits"),
        pytest.param("1 1.0\n" * 1_000_000, "larger than 4 MiB", id="too large a text"),
        pytest.param(RELEASE_TEXT + "4 4.0\n", "2 decoder layers", id="text with one ratio more"),
        pytest.param(RELEASE_TEXT + "1 1.0\n", "index 1, expected 4", id="text of three stacks"),
    ],
)
def test_file_that_is_no_profile(path, what, told):
    save(path, what)
    assert told in refusal(path)


@pytest.mark.parametrize("key", ["format", "version", "model", "measurement", "sublayers"])
def test_missing_part(path, key):
    save(path, {k: v for k, v in content().items() if k != key})
    assert key in refusal(path)


@pytest.mark.parametrize("key", list(vars(PROFILE.entries[0])))
def test_sublayer_without_a_part(path, key):
    damaged = content()
    del damaged["sublayers"][1][key]
    save(path, damaged)
    assert key in refusal(path)


@pytest.mark.parametrize("depths", [(1, 1), (3, 1), (2, 2), (1, 2)])
def test_wrong_depth(path, depths):
    PROFILE.write(path)
    message = refusal(path, sites=sites(*depths))
    assert "2 encoder and 1 decoder layers" in message
    assert f"but the model has {depths[0]} and {depths[1]}" in message


def test_wrong_dimension(path):
    PROFILE.write(path)
    for name in DIMS:
        message = refusal(path, dims={**DIMS, name: 999})
        assert f"made for {name} {DIMS[name]}, but the model has 999" in message


def test_missing_sublayer(path):
    damaged = content()
    del damaged["sublayers"][5]
    save(path, damaged)
    assert "decoder layer 0 encoder_attn is missing" in refusal(path)


def test_repeated_sublayer(path):
    damaged = content()
    damaged["sublayers"].append(damaged["sublayers"][0])
    save(path, damaged)
    assert "encoder layer 0 self_attn occurs twice" in refusal(path)


def test_extra_sublayer(path):
    damaged = content()
    damaged["sublayers"].append({**damaged["sublayers"][0], "sublayer": "encoder_attn"})
    save(path, damaged)
    assert "encoder layer 0 encoder_attn is not in the model" in refusal(path)


DAMAGES = {
    "omega": [0.0, -1.0, math.inf, math.nan, None, "1.5", True, [1.0], 5e-324, 1e39, 1e308],
    "layer": [-1, 0.7, 0.0, "0", False, None],
    "stack": ["middle", {}, None],
    "sublayer": ["conv", [], "x\n\x1b[2J"],
    "branch_variance": [-1.0, math.nan, math.inf, "x", [1], True],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in DAMAGES.items() for value in values]
)
def test_value_that_a_sublayer_cannot_have(path, key, value):
    damaged = content()
    damaged["sublayers"][3][key] = value
    save(path, damaged)
    assert "not a profile" in refusal(path)


def test_key_that_occurs_twice(path):
    save(path, json.dumps(content()).replace('"omega": 1.25', '"omega": 7.0, "omega": 1.25'))
    assert "'omega' occurs twice" in refusal(path)


def test_a_fifo_is_refused_at_once(path):
    os.mkfifo(path)
    assert "not a regular file" in refusal(path)


@any_input
@given(size=st.integers(0, len(json.dumps(content())) - 1))
def test_truncated_json_is_never_taken(path, size):
    save(path, json.dumps(content())[:size])
    refusal(path)


@any_input
@given(size=st.integers(0, len(RELEASE_TEXT) - 1))
def test_truncated_release_text_is_never_taken_for_another_profile(path, size):
    """Without its last newline a file may still be whole; then its numbers are."""
    save(path, RELEASE_TEXT[:size])
    try:
        omegas = load(path)
    except AdminError:
        return
    assert omegas == OMEGAS


@any_input
@given(text=st.binary(max_size=200))
def test_any_bytes_give_a_refusal(path, text):
    save(path, text)
    refusal(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@any_input
@given(key=st.sampled_from(sorted(content())), value=JSON)
@example(key="model", value=None)
@example(key="sublayers", value={"stack": "encoder"})
def test_any_value_in_place_of_a_part_gives_omegas_or_a_refusal(path, key, value):
    save(path, {**content(), key: value})
    try:
        assert load(path) == OMEGAS
    except AdminError as error:
        assert path in str(error)


@any_input
@given(key=st.sampled_from(sorted(vars(PROFILE.entries[0]))), value=JSON)
@example(key="layer", value=math.inf)
@example(key="omega", value=10**400)
def test_any_value_in_a_sublayer_gives_omegas_or_a_refusal(path, key, value):
    damaged = content()
    damaged["sublayers"][1][key] = value
    save(path, damaged)
    try:
        assert all(math.isfinite(omega) and omega > 0 for omega in load(path))
    except AdminError as error:
        assert path in str(error)


def test_release_text_for_a_model_without_an_encoder_is_refused(path):
    save(path, "1 1.0\n2 1.25\n")
    refusal(path, sites=[Site("decoder", 0, "self_attn"), Site("decoder", 0, "ffn")])


# Writing, whole or not at all


def fail(descriptor):
    raise WRITE_FAILS


@pytest.mark.parametrize("before", [None, "the old profile"])
def test_failed_write_leaves_everything_as_it_was(tmp_path, path, monkeypatch, before):
    if before is not None:
        save(path, before)
    monkeypatch.setattr(os, "fsync", fail)  # all is written then, under the temporary name
    with pytest.raises(AdminError, match="No space left on device") as error:
        PROFILE.write(path)
    assert path in str(error.value)
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == ({} if before is None else {"profile.json": before})


def test_interrupted_write_leaves_no_temporary_file(tmp_path, path, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        PROFILE.write(path)
    assert list(tmp_path.iterdir()) == []


def test_write_replaces_the_old_file_and_leaves_no_other(tmp_path, path):
    save(path, "the old profile")
    PROFILE.write(path)
    assert load(path) == OMEGAS
    assert [file.name for file in tmp_path.iterdir()] == ["profile.json"]


def test_write_makes_the_folder(tmp_path):
    path = str(tmp_path / "new" / "folder" / "profile.json")
    PROFILE.write(path)
    assert load(path) == OMEGAS


def test_write_to_a_name_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PROFILE.write("profile.json")
    assert load("profile.json") == OMEGAS


def test_file_in_place_of_the_folder(tmp_path, path):
    save(path, "")
    with pytest.raises(AdminError, match="cannot be written"):
        PROFILE.write(os.path.join(path, "profile.json"))
    assert [file.name for file in tmp_path.iterdir()] == ["profile.json"]


def test_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(AdminError, match="cannot be written"):
        PROFILE.write(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.parent.glob(".profile-*")) == []


def test_unwritable_folder(path, monkeypatch):
    def refuse(*args, **options):  # root may write everywhere, so no mode makes a folder refuse
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AdminError, match="Permission denied") as error:
        PROFILE.write(path)
    assert len(str(error.value).splitlines()) == 1
