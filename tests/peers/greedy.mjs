// greedy.mjs: greedy continuation of token ids by llama.cpp, as one JSON line.
//
//   node greedy.mjs MODEL.gguf N 1,2,3   →  {"ids":[…],"text":"…"}
//   node greedy.mjs MODEL.gguf tokenize "text"   →  {"ids":[…]}
import {getLlama} from "node-llama-cpp";

const [modelPath, what, argument] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath});

if (what === "tokenize") {
    console.log(JSON.stringify({ids: model.tokenize(argument, false)}));
} else {
    const context = await model.createContext({contextSize: 512, threads: 2});
    const sequence = context.getSequence();
    const ids = [];
    const prompt = argument.split(",").map(Number);
    for await (const id of sequence.evaluate(prompt, {temperature: 0})) {
        ids.push(id);
        if (model.isEogToken(id) || ids.length >= Number(what)) break;
    }
    console.log(JSON.stringify({ids, text: model.detokenize(ids, false)}));
    await context.dispose();
}
await model.dispose();
await llama.dispose();
process.exit(0);
