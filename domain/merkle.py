"""Merkle trees over a tenant's audit entries, as RFC 6962 section 2.1 defines them.

A leaf's hash is SHA-256 of ``0x00 | entry``, a node's of ``0x01 | left | right``; the tree of no entries is SHA-256 of nothing. Only
complete subtrees are ever kept, because their hashes never change again:

* the *right edge* (``RightEdge``) has one hash per set bit of the size; the root follows from it, and leaves are added to it;
* *tiles* have all hashes that an inclusion proof can need. A tile of level L holds up to 256 hashes of subtrees of 256^L leaves, in
  order; a full tile's own root is one hash of the level above. So a proof reads two tiles per level, however large the tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

HASH_BYTES: Final = 32
#: A tile has 2**TILE_HEIGHT hashes when it is full.
TILE_HEIGHT: Final = 8
TILE_HASHES: Final = 1 << TILE_HEIGHT

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


class Subtree(NamedTuple):
    """The complete subtree over leaves ``place * 2**height`` up to ``(place + 1) * 2**height``, counted from 0."""

    height: int
    place: int


class TileId(NamedTuple):
    """``number`` counts the tiles of a level from 0."""

    level: int
    number: int


#: Tile -> its hashes, one after the other.
Tiles = Mapping[TileId, bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Of an entry's canonical bytes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Of two neighbours."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class RightEdge:
    """Complete subtrees of a tree of ``size`` leaves, largest first. Raises ValueError if ``hashes`` are not as many as it has."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if size < 0 or len(hashes) != size.bit_count() or any(len(one) != HASH_BYTES for one in hashes):
            raise ValueError("a right edge has one hash per set bit of its size")
        self.size = size
        self.hashes = list(hashes)

    @classmethod
    def of_bytes(cls, size: int, joined: bytes) -> RightEdge:
        """From the hashes one after the other. Raises ValueError."""
        return cls(size, split(joined))

    def add(self, leaf: bytes) -> None:
        """Take the next leaf's hash."""
        self.hashes.append(leaf)
        self.size += 1
        merged = self.size
        while not merged & 1:
            right = self.hashes.pop()
            self.hashes.append(node_hash(self.hashes.pop(), right))
            merged >>= 1

    @property
    def root(self) -> bytes:
        return folded(self.hashes) if self.hashes else EMPTY_ROOT


def folded(hashes: Sequence[bytes]) -> bytes:
    """The hash over subtrees that stand side by side, largest first; at least one."""
    joined = hashes[-1]
    for left in reversed(hashes[:-1]):
        joined = node_hash(left, joined)
    return joined


def split(joined: bytes) -> list[bytes]:
    """Hashes that stand one after the other. Raises ValueError if a part of one is left."""
    if len(joined) % HASH_BYTES:
        raise ValueError("not a whole number of hashes")
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]


# --- tiles -----------------------------------------------------------------------------------------------------------


def unfinished_tiles(size: int) -> list[TileId]:
    """The tiles that the next leaves of a tree of ``size`` are written into: at most one per level."""
    found, level = [], 0
    while size:
        if size % TILE_HASHES:
            found.append(TileId(level, size // TILE_HASHES))
        size //= TILE_HASHES
        level += 1
    return found


def grown(size: int, unfinished: Tiles, leaves: Sequence[bytes]) -> dict[TileId, bytes]:
    """What tiles are, new or changed, once ``leaves`` are added to a tree of ``size``, whose ``unfinished_tiles`` are given.

    Raises ValueError if one of those is missing or has another number of hashes than a tree of that size.
    """
    changed: dict[TileId, bytes] = {}
    arriving, level = list(leaves), 0
    while arriving:
        number, within = divmod(size, TILE_HASHES)
        tile = bytearray(unfinished.get(TileId(level, number), b""))
        if len(tile) != within * HASH_BYTES:
            raise ValueError("an unfinished tile is not what the tree's size makes it")
        full = []
        for one in arriving:
            tile += one
            if len(tile) == TILE_HASHES * HASH_BYTES:
                changed[TileId(level, number)] = bytes(tile)
                full.append(_perfect_root(split(bytes(tile))))
                tile.clear()
                number += 1
        if tile:
            changed[TileId(level, number)] = bytes(tile)
        arriving, size, level = full, size // TILE_HASHES, level + 1
    return changed


def tile_of(subtree: Subtree) -> TileId:
    """The tile whose hashes give the subtree's."""
    level, height = divmod(subtree.height, TILE_HEIGHT)
    return TileId(level, (subtree.place << height) // TILE_HASHES)


def subtree_hash(subtree: Subtree, tiles: Tiles) -> bytes:
    """Raises ValueError if its tile is missing or too short."""
    height = subtree.height % TILE_HEIGHT
    first = ((subtree.place << height) % TILE_HASHES) * HASH_BYTES
    hashes = tiles.get(tile_of(subtree), b"")[first : first + (HASH_BYTES << height)]
    if len(hashes) != HASH_BYTES << height:
        raise ValueError("a tile is missing or too short")
    return _perfect_root(split(hashes))


def edge_tiles(size: int) -> list[TileId]:
    """The tiles that ``edge_within`` reads."""
    return sorted({tile_of(subtree) for subtree in _complete(0, size)})


def edge_within(size: int, tiles: Tiles) -> RightEdge:
    """The right edge that a tree had when it was of ``size``, from its tiles, grown since or not.

    Raises ValueError if a tile is missing or too short.
    """
    return RightEdge(size, [subtree_hash(subtree, tiles) for subtree in _complete(0, size)])


def leaf_tiles(first: int, end: int) -> list[TileId]:
    """The tiles that ``leaves_within`` reads."""
    return [TileId(0, number) for number in range(first // TILE_HASHES, (end - 1) // TILE_HASHES + 1)]


def leaves_within(first: int, end: int, tiles: Tiles) -> list[bytes]:
    """The hashes of leaves ``first`` (from 0) up to, not including, ``end``. Raises ValueError if a tile is missing or too short."""
    found: list[bytes] = []
    for tile in leaf_tiles(first, end):
        start = tile.number * TILE_HASHES
        upper = min(end - start, TILE_HASHES)
        found += split(tiles.get(tile, b"")[max(first - start, 0) * HASH_BYTES : upper * HASH_BYTES])
        if len(found) != start + upper - first:
            raise ValueError("a tile is missing or too short")
    return found


def _perfect_root(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


# --- inclusion -------------------------------------------------------------------------------------------------------


def proof_parts(index: int, size: int) -> list[list[Subtree]]:
    """The inclusion proof of leaf ``index`` (from 0) in the tree of ``size``: for each hash of the path, leaf's end first, the
    complete subtrees that it is folded from. Raises ValueError for a leaf that the tree does not have."""
    if not 0 <= index < size:
        raise ValueError("the tree has no such leaf")
    parts, low, high = [], 0, size
    while high - low > 1:
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        if index < middle:
            parts.append(_complete(middle, high))
            high = middle
        else:
            parts.append(_complete(low, middle))
            low = middle
    return parts[::-1]


def proof_tiles(index: int, size: int) -> list[TileId]:
    """The tiles that ``inclusion_proof`` reads."""
    return sorted({tile_of(subtree) for part in proof_parts(index, size) for subtree in part})


def inclusion_proof(index: int, size: int, tiles: Tiles) -> list[bytes]:
    """The path of RFC 6962 section 2.1.1. Raises ValueError for a leaf that is not there, or tiles that are not."""
    return [folded([subtree_hash(subtree, tiles) for subtree in part]) for part in proof_parts(index, size)]


def root_of_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a path leads to (RFC 9162 section 2.1.3.2). Raises ValueError if it has not the length it must have."""
    parts = proof_parts(index, size)
    if len(parts) != len(path):
        raise ValueError("the path has another length")
    joined = leaf
    for part, sibling in zip(parts, path, strict=True):
        left = part[0].place << part[0].height < index
        joined = node_hash(sibling, joined) if left else node_hash(joined, sibling)
    return joined


def _complete(low: int, high: int) -> list[Subtree]:
    """Complete subtrees over leaves ``low`` to ``high``, largest first; ``low`` is a multiple of the largest's leaves."""
    found = []
    while low < high:
        height = (high - low).bit_length() - 1
        found.append(Subtree(height, low >> height))
        low += 1 << height
    return found
