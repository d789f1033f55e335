from __future__ import annotations
import random, time
from datetime import UTC, datetime
from domain.audit_chain import entry_of, genesis, head_after
from domain.checkpoints import SignedCheckpoint
from domain.receipts import Archiving
from storage.audit_tree_postgres import PostgresAuditTrees, PostgresInclusions
from tests.support.audit_lines import a_line
from tests.support.proof import signed
from tests.support.memory_trees import MemorySigner

async def test_measure(postgres) -> None:
    trees, incl, signer = PostgresAuditTrees(postgres), PostgresInclusions(postgres), MemorySigner()
    head, bodies, size = genesis("acme"), [], 0
    out = open("/tmp/w/tmp-proof/measure.txt", "w")
    for upto in (10_000, 100_000):
        while head.seq < upto:
            batch = []
            for _ in range(1000):
                e = entry_of(a_line(), head); head = head_after(e); batch.append(e); bodies.append(e.body)
            await trees.add(batch)
        async with postgres.connection() as c:
            await c.execute("INSERT INTO audit_heads (tenant, seq, hash, updated_at) VALUES ('acme',$1,$2,now()) ON CONFLICT (tenant) DO UPDATE SET seq=$1", head.seq, head.hash)
        while True:
            t = time.perf_counter(); made = await trees.fix("acme", size, datetime.now(UTC)); dt = time.perf_counter() - t
            if made is None: break
            print(f"fix {size}->{made.size}: {dt*1000:.1f} ms", file=out)
            size = made.size; await trees.finish(signed(made, signer))
        for n in range(3):
            e = entry_of(a_line(), head); head = head_after(e); bodies.append(e.body); await trees.add([e])
            t = time.perf_counter(); made = await trees.fix("acme", size, datetime.now(UTC)); dt = time.perf_counter() - t
            print(f"fix one entry at {size}: {dt*1000:.1f} ms", file=out); size = made.size; await trees.finish(signed(made, signer))
        from uuid import uuid4
        for kind, lo in (("any", 1), ("latest 1000", upto - 1000)):
            times = []
            for _ in range(200):
                seq = random.randint(lo, upto)
                t = time.perf_counter()
                got = await incl.inclusion(Archiving(document_id=uuid4(), tenant="acme", seq=seq, entry=bodies[seq - 1]))
                times.append(time.perf_counter() - t); assert got
            times.sort(); print(f"proof at {upto} ({kind}): median {times[100]*1000:.2f} ms, p95 {times[190]*1000:.2f} ms, path {len(got.path)}", file=out)
        # in the newest checkpoint's tree: the longest way
        async with postgres.connection() as c:
            await c.execute("DELETE FROM audit_checkpoints WHERE size < (SELECT max(size) FROM audit_checkpoints)")
        times = []
        for _ in range(200):
            seq = random.randint(1, upto); t = time.perf_counter()
            got = await incl.inclusion(Archiving(document_id=uuid4(), tenant="acme", seq=seq, entry=bodies[seq - 1])); times.append(time.perf_counter() - t)
        times.sort(); print(f"proof at {upto} (newest tree): median {times[100]*1000:.2f} ms, p95 {times[190]*1000:.2f} ms, path {len(got.path)}", file=out)
        async with postgres.connection() as c:
            r = await c.fetchrow("SELECT count(*), sum(length(hashes)) FROM audit_tiles")
            print(f"tiles {r[0]}, bytes {r[1]}", file=out); out.flush()
