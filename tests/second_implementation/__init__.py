"""What docs/ENVELOPE.md describes, implemented from that page alone: the standard library and ``cryptography``, nothing of ours.

``forms``: common forms. ``documents``: stores, keys, envelopes, sealed texts. ``proofs``: audit log, checkpoints, receipts, exports.
It is written to be plain, not fast: whole objects in memory. Where it and the product disagree, the page or the product is wrong.
"""
