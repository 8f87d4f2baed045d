// Prints what AsyncAPI's own parser says of the document on standard input: a JSON list of its diagnostics.
const { Parser } = require("@asyncapi/parser");

let text = "";
process.stdin.on("data", (part) => (text += part));
process.stdin.on("end", async () => {
  const { document, diagnostics } = await new Parser().parse(text);
  const found = diagnostics.map(({ message, path, severity }) => ({ message, path, severity }));
  console.log(JSON.stringify({ parsed: document !== undefined, diagnostics: found }));
});
