"""Merkle trees against RFC 6962's recursive definitions, and its known test vectors."""

from __future__ import annotations

import hashlib
import random

import pytest

from domain.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    TILE_HASHES,
    RightEdge,
    TileId,
    edge_tiles,
    edge_within,
    grown,
    inclusion_proof,
    leaf_hash,
    leaf_tiles,
    leaves_within,
    node_hash,
    proof_tiles,
    root_of_path,
    split,
    unfinished_tiles,
)

#: The leaves and roots of the reference implementation's tests (google/certificate-transparency, merkletree tests).
LEAVES = [bytes.fromhex(h) for h in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",  # pragma: allowlist secret
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",  # pragma: allowlist secret
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",  # pragma: allowlist secret
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",  # pragma: allowlist secret
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",  # pragma: allowlist secret
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",  # pragma: allowlist secret
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",  # pragma: allowlist secret
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",  # pragma: allowlist secret
]


def by_definition(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(by_definition(leaves[:middle]), by_definition(leaves[middle:]))


def path_by_definition(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < middle:
        return [*path_by_definition(index, leaves[:middle]), by_definition(leaves[middle:])]
    return [*path_by_definition(index - middle, leaves[middle:]), by_definition(leaves[:middle])]


def some(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def tiles_of(leaves: list[bytes], seed: int = 0) -> dict[TileId, bytes]:
    """Grown in steps of random sizes, each given only the tiles that it says it needs."""
    chance, tiles, size = random.Random(seed), dict[TileId, bytes](), 0
    while size < len(leaves):
        added = leaves[size : size + chance.randint(1, 3 * TILE_HASHES)]
        tiles |= grown(size, {tile: tiles[tile] for tile in unfinished_tiles(size)}, added)
        size += len(added)
    return tiles


def test_the_reference_vectors() -> None:
    edge = RightEdge()
    assert edge.root == EMPTY_ROOT == hashlib.sha256(b"").digest()
    for entry, root in zip(LEAVES, ROOTS, strict=True):
        edge.add(leaf_hash(entry))
        assert edge.root.hex() == root


def test_the_right_edge_is_the_definition_and_goes_on_from_its_bytes() -> None:
    leaves, edge = some(140), RightEdge()
    for number, leaf in enumerate(leaves, 1):
        edge.add(leaf)
        assert edge.root == by_definition(leaves[:number])
        edge = RightEdge.of_bytes(number, b"".join(edge.hashes))


def test_every_proof_is_the_definitions_and_leads_to_the_root() -> None:
    leaves = some(70)
    tiles = tiles_of(leaves)
    for size in range(1, 71):
        root = by_definition(leaves[:size])
        for index in range(size):
            path = inclusion_proof(index, size, tiles)
            assert path == path_by_definition(index, leaves[:size])
            assert root_of_path(leaves[index], index, size, path) == root


@pytest.mark.parametrize("size", [255, 256, 257, 511, 512, 65_536, 65_537, 70_001])
def test_proofs_across_tiles_read_few_of_them(size: int) -> None:
    leaves = some(size)
    tiles, edge = tiles_of(leaves, size), RightEdge()
    for leaf in leaves:
        edge.add(leaf)
    for index in {0, size // 2, size - 1, size // 3, max(0, (size // TILE_HASHES) * TILE_HASHES - 1)}:
        needed = proof_tiles(index, size)
        assert len(needed) <= 6
        path = inclusion_proof(index, size, {tile: tiles[tile] for tile in needed})
        assert root_of_path(leaves[index], index, size, path) == edge.root


def test_a_proof_of_an_older_tree_comes_from_the_same_tiles() -> None:
    leaves = some(3_000)
    tiles = tiles_of(leaves)
    assert root_of_path(leaves[700], 700, 1_234, inclusion_proof(700, 1_234, tiles)) == by_definition(leaves[:1_234])


def test_tiles_hold_each_hash_once() -> None:
    tiles = tiles_of(some(70_001))
    assert sum(map(len, tiles.values())) == HASH_BYTES * (70_001 + 70_001 // 256 + 70_001 // 65_536)


def test_what_does_not_fit_is_refused() -> None:
    tiles = tiles_of(some(300))
    with pytest.raises(ValueError, match="no such leaf"):
        inclusion_proof(300, 300, tiles)
    with pytest.raises(ValueError, match="missing or too short"):
        inclusion_proof(3, 600, tiles)
    with pytest.raises(ValueError, match="unfinished tile"):
        grown(300, {}, some(1))
    with pytest.raises(ValueError, match="one hash per set bit"):
        RightEdge(3, some(1))
    with pytest.raises(ValueError, match="whole number"):
        split(b"x" * 33)
    with pytest.raises(ValueError, match="another length"):
        root_of_path(some(1)[0], 3, 300, some(2))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 300, 512, 700, 70_000])
def test_tiles_give_the_edge_of_every_earlier_size_and_the_leaves_since(size: int) -> None:
    leaves = some(70_000)
    tiles = grown(0, {}, leaves)
    expected = RightEdge()
    for leaf in leaves[:size]:
        expected.add(leaf)
    needed = {tile: tiles[tile] for tile in edge_tiles(size)}
    assert edge_within(size, needed).hashes == expected.hashes
    for end in {size + 1, min(size + 600, 70_000), 70_000}:
        if end <= 70_000:
            needed = {tile: tiles[tile] for tile in leaf_tiles(size, end)}
            assert leaves_within(size, end, needed) == leaves[size:end]


def test_tiles_that_are_missing_or_short_give_neither_edge_nor_leaves() -> None:
    tiles = grown(0, {}, some(700))
    short = {**tiles, TileId(0, 2): tiles[TileId(0, 2)][:HASH_BYTES]}
    for wrong in ({}, {tile: tiles[tile] for tile in tiles if tile != TileId(0, 2)}, short):
        with pytest.raises(ValueError, match="tile"):
            edge_within(700, wrong)
        with pytest.raises(ValueError, match="tile"):
            leaves_within(300, 700, wrong)
    with pytest.raises(ValueError, match="tile"):
        leaves_within(300, 701, tiles)
