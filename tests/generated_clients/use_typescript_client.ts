// Uploads and downloads with openapi-fetch over the types that openapi-typescript made; throws where something is wrong.
// Environment: API_URL, API_TOKEN (roles portal and validator), API_FILE (the file to upload).
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.d.ts";

type Metadata = components["schemas"]["UploadMetadata"];

const env = (name: string): string => process.env[name] ?? assert.fail(name);
const baseUrl = env("API_URL");
const content = await readFile(env("API_FILE"));
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${env("API_TOKEN")}` } });
const ends = Date.now() + 120_000;

const pause = async (): Promise<void> => {
  assert.ok(Date.now() < ends, "it took too long");
  await new Promise((resolve) => setTimeout(resolve, 200));
};

const bytes = async (blob: Blob): Promise<Buffer> => Buffer.from(await blob.arrayBuffer());

/** The two parts in their order, metadata first. */
const form = ({ metadata, file }: { metadata: Metadata; file: Blob }): FormData => {
  const data = new FormData();
  data.append("metadata", new Blob([JSON.stringify(metadata)], { type: "application/json" }));
  data.append("file", file, "carte.pdf");
  return data;
};

const made = await api.POST("/api/v1/dossiers", {
  body: { number: `TS-${randomUUID()}`, client_id: "C-1", journey_type: "LOAN" },
});
const dossier = made.data ?? assert.fail(JSON.stringify(made.error));

const key = randomUUID();
const upload = () =>
  api.POST("/api/v1/documents", {
    params: { header: { "Idempotency-Key": key } },
    body: {
      metadata: {
        type: "JUSTIFICATIF_DOMICILE",
        dossier_id: dossier.id,
        depositor: { email: "marie@example.org", language: "fr" },
      },
      file: new Blob([content], { type: "application/pdf" }),
    },
    bodySerializer: (body) => form(body as Parameters<typeof form>[0]),
  });
const first = await upload();
const taken = first.data ?? assert.fail(JSON.stringify(first.error));
assert.equal(first.response.status, 201);
assert.equal(taken.status, "STORED");
assert.equal(taken.size, content.length);
const again = await upload();
assert.equal(again.data?.id, taken.id);
assert.equal(again.response.headers.get("Idempotent-Replayed"), "true");

const path = { document_id: taken.id };
for (;;) {
  const { data, error } = await api.GET("/api/v1/documents/{document_id}", { params: { path } });
  const status: components["schemas"]["Status"] = data?.status ?? assert.fail(JSON.stringify(error));
  if (status === "VERIFIED") break;
  await pause();
}

const whole = await api.GET("/api/v1/documents/{document_id}/content", { params: { path }, parseAs: "blob" });
assert.deepEqual(await bytes(whole.data ?? assert.fail()), content);
const part = await api.GET("/api/v1/documents/{document_id}/content", {
  params: { path, header: { Range: "bytes=10-19" } },
  parseAs: "blob",
});
assert.equal(part.response.status, 206);
assert.deepEqual(await bytes(part.data ?? assert.fail()), content.subarray(10, 20));
for (;;) {
  const { data } = await api.GET("/api/v1/documents/{document_id}/thumbnail", {
    params: { path, query: { size: 256 } },
    parseAs: "blob",
  });
  if (data) break;
  await pause();
}

const linked = await api.POST("/api/v1/documents/{document_id}/links", {
  params: { path },
  body: { purpose: "partner-review", seconds: 60 },
});
const link = linked.data ?? assert.fail(JSON.stringify(linked.error));
const token = link.url.split("/").at(-1) ?? assert.fail();
const opened = await createClient<paths>({ baseUrl }).GET("/api/v1/links/{token}", {
  params: { path: { token } },
  parseAs: "blob",
});
assert.deepEqual(await bytes(opened.data ?? assert.fail()), content);

const none = await api.GET("/api/v1/documents/{document_id}/receipt", { params: { path }, parseAs: "text" });
assert.equal(none.error?.code, "receipt_not_available");
