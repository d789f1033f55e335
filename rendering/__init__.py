"""Thumbnails and technical facts of documents, made in child processes that can be killed.

``protocol`` is what goes over the pipe, ``child`` what runs inside, ``images`` and ``pdf`` the decoders it uses, ``pool``
the parent's side. Only ``child``, ``images`` and ``pdf`` ever parse a document; but for its first 8 KiB, which intake compares with
libmagic's table of patterns (``ingest_api.sniffing``).
"""
