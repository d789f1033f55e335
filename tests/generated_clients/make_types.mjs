// openapi.json FILE.d.ts: the types of the API, with Blob where the document says binary (https://openapi-ts.dev/node).
import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const BLOB = ts.factory.createTypeReferenceNode(ts.factory.createIdentifier("Blob"));
const [source, target] = process.argv.slice(2);
const types = await openapiTS(JSON.parse(await readFile(source, "utf8")), {
  transform: (schema) => (schema.format === "binary" ? BLOB : undefined),
});
await writeFile(target, astToString(types));
