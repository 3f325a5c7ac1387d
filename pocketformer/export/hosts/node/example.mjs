import { load } from "./pocketformer/index.mjs";

const model = await load(new URL("model/", import.meta.url));
const [answer] = await model.predict([process.argv[2] ?? "What is the capital of France ?"]);
console.log(`${answer.label}  ${(100 * answer.score).toFixed(1)}%`);
