// Node's own fetch: forms as FormData, bodies of unknown length as streams. Reads the plan (JSON) named by the first argument and
// writes a line of JSON for each upload.
import { createReadStream, readFileSync } from "node:fs";
import { Readable } from "node:stream";

const plan = JSON.parse(readFileSync(process.argv[2], "utf-8"));
const waiting = [...plan.uploads];

async function send(upload) {
  const headers = { ...upload.headers };
  let body;
  if (upload.chunked) {
    headers["Content-Type"] = `multipart/form-data; boundary=${plan.boundary}`;
    body = Readable.toWeb(createReadStream(upload.body));
  } else {
    body = new FormData();
    body.set("metadata", upload.metadata);
    body.set("file", new Blob([readFileSync(upload.file)], { type: "application/pdf" }), "piece.pdf");
  }
  const answer = await fetch(plan.url, { method: "POST", headers, body, duplex: "half" });
  return { status: answer.status, code: (await answer.json()).code };
}

async function run() {
  for (let upload = waiting.shift(); upload; upload = waiting.shift()) {
    let said;
    try {
      said = await send(upload);
    } catch (error) {
      said = { error: String(error.cause?.code ?? error.cause?.message ?? error.message) };
    }
    console.log(JSON.stringify({ reason: upload.reason, ...said }));
  }
}

await Promise.all(Array.from({ length: plan.at_once }, run));
