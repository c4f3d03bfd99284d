"""Storage: round trips, equal bytes, and every refusal."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stored import ARRAYS, DOCUMENT, OTHER, assert_same, change, put_arrays, snapshot

from upstairs.errors import StorageError
from upstairs.storage import DTYPES, content_hash, read_folder, write_folder

# --- round trips


def test_round_trip(folder: Path) -> None:
    document, arrays = read_folder(str(folder))
    assert {key: document[key] for key in DOCUMENT} == DOCUMENT
    assert set(document) == set(DOCUMENT) | {"schema", "arrays", "versions"}
    assert document["schema"] == 1
    assert document["versions"]["numpy"] == np.__version__
    assert_same(arrays, ARRAYS)
    name = document["arrays"]["file"]
    assert sorted(os.listdir(folder)) == sorted([name, "prior.json", "README.md"])
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == document["arrays"]["sha256"]
    assert name == f"arrays-{document['arrays']['sha256'][:16]}.safetensors"
    assert (folder / "README.md").read_text() == "# A prior\n"


def test_arrays_come_back_read_only(folder: Path) -> None:
    for array in read_folder(folder)[1].values():
        assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        read_folder(folder)[1]["mean"][0, 0] = 1.0


any_array = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
any_name = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__")
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=st.dictionaries(any_name, any_array, max_size=4), value=any_json)
def test_round_trip_of_anything(tmp_path: Path, arrays: dict[str, np.ndarray], value: Any) -> None:
    document = {"value": value}
    write_folder(tmp_path / "one", document, arrays, "")
    found, back = read_folder(tmp_path / "one")
    assert repr(found["value"]) == repr(value) or found["value"] == value  # repr tells -0.0, == forgives key order
    assert_same(back, arrays)
    assert content_hash(found, back) == content_hash(document, arrays)


@pytest.mark.parametrize("name", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
def test_every_dtype_and_odd_shape(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype=name)
    write_folder(tmp_path, {}, {"x": array, "": array}, "")
    assert_same(read_folder(tmp_path)[1], {"x": array, "": array})


def test_memory_order_and_byte_order_do_not_matter(tmp_path: Path) -> None:
    x = np.arange(24.0).reshape(4, 6)
    for index, same in enumerate([x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x.astype(">f8")]):
        write_folder(tmp_path / str(index), {}, {"x": same}, "")
        assert snapshot(tmp_path / str(index)) == snapshot(tmp_path / "0")
        assert content_hash({}, {"x": same}) == content_hash({}, {"x": x})
        assert_same(read_folder(tmp_path / str(index))[1], {"x": x})


def test_special_floats_and_no_arrays(tmp_path: Path) -> None:
    x = np.array([np.nan, -np.nan, np.inf, -0.0, 5e-324])
    write_folder(tmp_path / "a", {}, {"x": x}, "")
    assert_same(read_folder(tmp_path / "a")[1], {"x": x})
    write_folder(tmp_path / "b", {}, {}, "")
    assert read_folder(tmp_path / "b")[1] == {}


def test_numpy_scalars_and_tuples_become_plain(tmp_path: Path) -> None:
    given_document = {"i": np.int32(3), "f": np.float32(0.5), "b": np.bool_(True), "s": np.str_("x"), "t": (1, (2,))}
    write_folder(tmp_path, given_document, {}, "")
    found = read_folder(tmp_path)[0]
    assert {key: found[key] for key in given_document} == {"i": 3, "f": 0.5, "b": True, "s": "x", "t": [1, [2]]}
    assert content_hash(given_document, {}) == content_hash(found, {})


def test_what_was_read_can_be_written_again(folder: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "copy", *read_folder(folder), "# A prior\n")
    assert snapshot(tmp_path / "copy") == snapshot(folder)


def test_names_that_utf8_cannot_hold_survive_in_the_document(tmp_path: Path) -> None:
    write_folder(tmp_path, {"source": "caf\udce9"}, {}, "caf\udce9")
    assert read_folder(tmp_path)[0]["source"] == "caf\udce9"


# --- equal content


def test_equal_content_gives_equal_files(folder: Path, tmp_path: Path) -> None:
    reverse = {key: DOCUMENT[key] for key in reversed(DOCUMENT)}
    reverse["settings"] = dict(reversed(DOCUMENT["settings"].items()))  # type: ignore[attr-defined]
    write_folder(tmp_path / "b", reverse, dict(reversed(ARRAYS.items())), "# A prior\n")
    assert snapshot(tmp_path / "b") == snapshot(folder)
    before = snapshot(folder)
    write_folder(folder, DOCUMENT, ARRAYS, "# A prior\n")
    assert snapshot(folder) == before


def test_content_hash_tells_contents_apart() -> None:
    x = np.arange(6, dtype=np.int64)
    contents: list[tuple[dict[str, Any], dict[str, np.ndarray]]] = [
        ({}, {}),
        ({"a": 1}, {}),
        ({"a": 1.0}, {}),
        ({"a": "1"}, {}),
        ({"a": True}, {}),
        ({}, {"x": x}),
        ({}, {"y": x}),
        ({}, {"x": x.astype(np.uint64)}),
        ({}, {"x": x.reshape(2, 3)}),
        ({}, {"x": x.reshape(3, 2)}),
        ({}, {"x": x + 1}),
        ({}, {"x": x[:3], "y": x[3:]}),
        ({}, {"x": x[:4], "y": x[4:]}),
        ({}, {"x": x[:0]}),
        ({}, {"x": np.array(0.0)}),
        ({}, {"x": np.array(-0.0)}),
    ]
    hashes = [content_hash(*content) for content in contents]
    assert len(set(hashes)) == len(contents)
    assert all(len(one) == 64 for one in hashes)
    assert content_hash({"a": 1, "b": [2]}, {"x": x, "y": x}) == content_hash({"b": [2], "a": 1}, {"y": x, "x": x})
    assert content_hash({"schema": 9, "versions": {}, "arrays": 0}, {}) == content_hash({}, {})


# --- refused content


def test_refused_arrays(tmp_path: Path, unchecked: Any) -> None:
    masked = np.ma.masked_array([1.0], mask=[True])
    bad: list[Any] = [np.array([None]), np.array(["a"]), np.array([1j]), np.ones(1, np.float16), [1.0], masked]
    bad += [np.array(["2020"], dtype="datetime64[Y]"), np.zeros(1, dtype=[("a", "f8")]), np.array([b"x"])]
    for value in bad:
        for act in (
            lambda v: unchecked.write_folder(tmp_path / "a", {}, {"weight": v}, ""),
            lambda v: unchecked.content_hash({}, {"weight": v}),
        ):
            with pytest.raises(StorageError, match=r"arrays\['weight'\] must be"):
                act(value)
    for name in ["__metadata__", "\ud800", 3]:
        with pytest.raises(StorageError, match="rename it"):
            unchecked.write_folder(tmp_path / "a", {}, {name: np.ones(1)}, "")
    assert not (tmp_path / "a").exists()


def test_refused_documents(tmp_path: Path, unchecked: Any) -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    cases: list[tuple[Any, str]] = [
        ({"a": {"b": [0, float("nan")]}}, r"document\['a'\]\['b'\]\[1\] must be finite, and it is nan"),
        ({"a": np.float32("inf")}, r"document\['a'\] must be finite"),
        ({"a": np.ones(2)}, r"document\['a'\] must be JSON, and it is a ndarray"),
        ({"a": {1, 2}}, "it is a set"),
        ({"a": b"x"}, "it is a bytes"),
        ({"a": np.datetime64("2020")}, "it is a date"),
        ({"a": {1: 2}}, r"document\['a'\] must have text keys, and one key is 1"),
        ({"a": 10**5000}, "encoding failed"),
        ([], "document must be a mapping"),
        (loop, "holds itself"),
    ]
    for document, message in cases:
        with pytest.raises(StorageError, match=message):
            unchecked.write_folder(tmp_path / "a", document, {}, "")
    assert not (tmp_path / "a").exists()


# --- refused folders


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    contents = {
        "notes": {"notes.txt": b"mine"},
        "json": {"prior.json": b'{"alpha": 1}', "x": b""},
        "list": {"prior.json": b"[1]"},
        "cut": {"prior.json": b'{"schema": 1, "arr'},
        "deep": {"prior.json": b"[" * 100_000},
        "near": {"arrays-weights.safetensors": b""},
        "temporary": {".upstairs-notes.tmp": b""},
    }
    for name, files in contents.items():
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
        with pytest.raises(StorageError, match=f"{name}' holds something else; give another path"):
            write_folder(tmp_path / name, DOCUMENT, ARRAYS, "")
        assert snapshot(tmp_path / name) == files


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(StorageError, match=r"'.*file' is a file; give another path"):
        write_folder(tmp_path / "file", DOCUMENT, ARRAYS, "")
    with pytest.raises(StorageError, match="writing failed with"):
        write_folder(tmp_path / "file" / "inside", DOCUMENT, ARRAYS, "")
    with pytest.raises(StorageError, match=r"'.*file' is a file; give the folder"):
        read_folder(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_empty_and_abandoned_folders_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "arrays-0123456789abcdef.safetensors").write_bytes(b"cut")
    (tmp_path / "killed" / ".upstairs-0123456789abcdef.tmp").write_bytes(b"cut")
    for name in ("empty", "killed"):
        write_folder(tmp_path / name, DOCUMENT, ARRAYS, "")
        assert len(os.listdir(tmp_path / name)) == 3
        assert_same(read_folder(tmp_path / name)[1], ARRAYS)


def test_orphans_go_and_foreign_files_stay(folder: Path) -> None:
    old = read_folder(folder)[0]["arrays"]["file"]
    (folder / ".upstairs-00000000deadbeef.tmp").write_bytes(b"stale")
    (folder / "arrays-00000000deadbeef.safetensors").write_bytes(b"stale")
    foreign = ["notes.txt", "arrays-mine.safetensors", "arrays-00000000DEADBEEF.safetensors", "x.tmp", ".upstairs-.tmp"]
    foreign += ["arrays-00000000deadbeef.safetensors.bak", "prior.json~"]
    for name in foreign:
        (folder / name).write_bytes(b"mine")
    (folder / "arrays-11111111deadbeef.safetensors").mkdir()  # a folder is never ours
    write_folder(folder, DOCUMENT, OTHER, "")
    document, arrays = read_folder(folder)
    assert_same(arrays, OTHER)
    assert document["arrays"]["file"] != old
    kept = [*foreign, "arrays-11111111deadbeef.safetensors", document["arrays"]["file"], "prior.json", "README.md"]
    assert sorted(os.listdir(folder)) == sorted(kept)
    assert all((folder / name).read_bytes() == b"mine" for name in foreign)


# --- damaged folders


def test_missing_and_foreign(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        read_folder(tmp_path / "none")
    with pytest.raises(StorageError, match=r"holds no prior\.json"):
        read_folder(tmp_path)


def test_every_cut_of_prior_json_is_told(folder: Path) -> None:
    whole = (folder / "prior.json").read_bytes()
    for size in range(len(whole) - 1):  # the last byte is a line end
        (folder / "prior.json").write_bytes(whole[:size])
        with pytest.raises(StorageError, match=r"prior\.json' must be JSON, and is cut short or damaged"):
            read_folder(folder)
    for content in [b"\xff\xfe\x00", b"[" * 100_000, pickle.dumps({"schema": 1})]:
        (folder / "prior.json").write_bytes(content)
        with pytest.raises(StorageError, match="cut short or damaged"):
            read_folder(folder)


@pytest.mark.parametrize("key", ["schema", "arrays", "versions"])
def test_missing_keys(folder: Path, key: str) -> None:
    change(folder, **{key: None})
    with pytest.raises(StorageError, match=f"must hold the key '{key}'"):
        read_folder(folder)


@pytest.mark.parametrize("value", [3, {}, {"file": "a"}, {"file": "a", "sha256": 3}, {"file": "a", "sha256": "0" * 63}])
def test_bad_arrays_entry(folder: Path, value: Any) -> None:
    change(folder, arrays=value)
    with pytest.raises(StorageError, match="'arrays' must hold 'file' and 'sha256'"):
        read_folder(folder)


def test_not_a_document(folder: Path) -> None:
    (folder / "prior.json").write_bytes(b"[1, 2]")
    with pytest.raises(StorageError, match="must hold the key 'schema'"):
        read_folder(folder)


@pytest.mark.parametrize("schema", [2, 0, -1, "1", 1.0, True])
def test_other_schema(folder: Path, schema: Any) -> None:
    change(folder, schema=schema, versions={"upstairs": "7.8.9"})
    with pytest.raises(StorageError) as caught:
        read_folder(folder)
    message = str(caught.value)
    assert f"schema {schema!r}, written by upstairs 7.8.9" in message
    assert "reads schema 1; upgrade upstairs, or" in message
    change(folder, versions=3)
    with pytest.raises(StorageError, match=r"upstairs \(unknown\)"):
        read_folder(folder)


def test_damaged_arrays(folder: Path) -> None:
    file = folder / read_folder(folder)[0]["arrays"]["file"]
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    for content in [whole[:-1], whole[:5], b"", whole + b"\0", bytes(flipped)]:
        file.write_bytes(content)
        with pytest.raises(StorageError, match=f"{file.name}' must have the hash .* copy the folder again"):
            read_folder(folder)
    file.unlink()
    with pytest.raises(StorageError, match=f"'{file.name}', and that arrays file is missing; copy the folder again"):
        read_folder(folder)
    write_folder(folder, DOCUMENT, ARRAYS, "")  # saving again repairs
    assert_same(read_folder(folder)[1], ARRAYS)


class Trap:
    """Unpickling this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.path,))


def test_arrays_with_a_fitting_hash_that_are_not_ours(folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save

    for content in [b"", b"\xff" * 64, pickle.dumps(Trap(tmp_path / "executed")), save(OTHER)[:-8]]:
        put_arrays(folder, content)
        with pytest.raises(StorageError, match="must be a safetensors file"):
            read_folder(folder)
    assert not (tmp_path / "executed").exists()
    header = b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    put_arrays(folder, len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(StorageError, match="must be a safetensors file"):
        read_folder(folder)
    put_arrays(folder, save({"x": np.ones(2, np.float16)}))
    with pytest.raises(StorageError, match=r"must hold no float16 array, and arrays\['x'\] is one"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "sub/x", "..", "", "arrays.safetensors"])
def test_a_name_that_leads_outside_is_refused(folder: Path, name: str) -> None:
    document = read_folder(folder)[0]
    (folder.parent / "outside.safetensors").write_bytes((folder / document["arrays"]["file"]).read_bytes())
    change(folder, arrays={"file": name, "sha256": document["arrays"]["sha256"]})
    with pytest.raises(StorageError, match="must name the arrays by their hash"):
        read_folder(folder)
