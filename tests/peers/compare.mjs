// compare.mjs: does llama.cpp make of a file what graft makes of it?
//
//   node compare.mjs JOB.json
//   JOB: {"graft": PROGRAM, "cases": [{"name", "model", "tokens": N, "class", "prompts": [TEXT…],
//         "adapter": what graft applies, "lora": the GGUF adapter that the peer applies}…]}; the last two may be absent
//
// For each prompt: the token ids are equal; the greedy continuations are equal; and over the whole
// sequence, given the same tokens, the two distributions agree (mean KL divergence). The two programs round
// differently, so that a continuation may part ways where two tokens are as good as equally likely: that
// is accepted only where graft's own margin between the two is below the class's near-tie, and it is
// printed. The bounds are a few times what was measured on the models here.
import {execFileSync} from "node:child_process";
import {mkdtempSync, readFileSync, rmSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {getLlama} from "node-llama-cpp";

const CLASSES = {
    // exact weights: the order of additions differs, and llama.cpp rounds activations to F16 for F16
    plain: {nearTie: 0.01, kl: 1e-5},
    // llama.cpp rounds activations to BF16 too (8 bits of precision), graft does not
    bf16: {nearTie: 0.03, kl: 1e-4},
    // both round activations to 8 bits in every product, the scales of the blocks differently, so that
    // each has its own rounding noise: graft's own prompt and decode arithmetic are as far apart
    // (6.6e-4 on tiny q6_k)
    quantised: {nearTie: 0.2, kl: 2e-3}
};
const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const scratch = mkdtempSync(join(tmpdir(), "graft-peers-"));
let passed = 0, failed = 0;

function check(good, sentence, detail = "") {
    if (good) {
        passed++;
    } else {
        failed++;
        console.log(`[  FAILED  ] ${sentence}${detail ? "\n    " + detail : ""}`);
    }
    return good;
}

function graft(...words) {
    return execFileSync(job.graft, words, {encoding: "utf8", stdio: ["ignore", "pipe", "pipe"],
        maxBuffer: 1 << 28});
}

// ---- the peer ----

async function peerGreedy(sequence, prompt, count) {
    const ids = [];
    await sequence.clearHistory();
    for await (const id of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
        ids.push(id);
        if (ids.length >= count) break;
    }
    return ids;
}

// Logits after each token: an array of maps from id to logit.
async function peerLogits(sequence, ids) {
    const asIs = {logits: true, options: {temperature: 1, topK: 0, topP: 1, minP: 0}};
    await sequence.clearHistory();
    const found = await sequence.controlledEvaluate(ids.map((id) => [id, {generateNext: asIs}]));
    return found.map((result) => result.next.logits);
}

// ---- graft ----

// Greedy records: [{id, top: [{id, logprob}]}].
function graftGreedy(model, adapter, ids, count) {
    // `run` takes text, so the prompt's ids come back through a text that has exactly them.
    const out = graft("run", "--raw", "-m", model, ...adapter, "-p", ids.text, "-n", String(count), "--temp", "0",
        "--json", "--logprobs", "8", "--ignore-eos", "--repeat-penalty", "1");
    return JSON.parse(out).records;
}

function graftLogits(model, adapter, ids) {
    const path = join(scratch, "logits.npy");
    graft("logits", "-m", model, ...adapter, "--decode", "--tokens", ids.join(","), "--out", path);
    const bytes = readFileSync(path), header = bytes.readUInt16LE(8);
    const width = Number(/, (\d+)\)/.exec(bytes.toString("latin1", 10, 10 + header))[1]);
    const floats = new Float32Array(bytes.buffer.slice(bytes.byteOffset + 10 + header,
        bytes.byteOffset + bytes.length));
    return {width, row: (i) => floats.subarray(i * width, (i + 1) * width)};
}

// ---- comparison ----

function logNormal(values) {
    let top = -Infinity, sum = 0;
    for (const x of values) top = x > top ? x : top;
    for (const x of values) sum += Math.exp(x - top);
    return top + Math.log(sum);
}

// Mean over positions of KL(peer || graft).
function meanKl(ours, theirs) {
    let total = 0;
    theirs.forEach((logits, i) => {
        const mine = ours.row(i), mineZ = logNormal(mine), theirZ = logNormal([...logits.values()]);
        for (const [id, x] of logits) total += Math.exp(x - theirZ) * ((x - theirZ) - (mine[id] - mineZ));
    });
    return total / theirs.length;
}

// Where two greedy lists part, and graft's margin there; null when they do not.
function parting(records, theirs) {
    const at = theirs.findIndex((id, i) => records[i]?.id !== id);
    if (at < 0) return null;
    const top = records[at]?.top ?? [];
    const other = top.find((candidate) => candidate.id === theirs[at]);
    return {at, margin: other ? top[0].logprob - other.logprob : Infinity};
}

async function runCase({name, model: modelPath, tokens, class: kind, prompts, adapter, lora}) {
    const bounds = CLASSES[kind];
    const model = await llama.loadModel({modelPath});
    const grafted = adapter ? ["-a", adapter] : [];
    const context = await model.createContext({contextSize: 512, threads: 2, lora});
    const sequence = context.getSequence();
    const bosFirst = JSON.parse(graft("inspect", modelPath, "--json")).tokenizer.adds_bos;
    let worst = 0, parted = [], before = failed;
    for (const text of prompts) {
        const ids = JSON.parse(graft("tokenize", "-m", modelPath, "-p", text, "--json")).ids;
        const peerIds = model.tokenize(text, false);
        if (!check(ids.join() === peerIds.join(), `${name}: token ids of ${JSON.stringify(text)}`,
            `graft ${ids}\n    peer  ${peerIds}`)) continue;
        const prompt = bosFirst && ids[0] !== model.tokens.bos ? [model.tokens.bos, ...ids] : ids;
        const theirs = await peerGreedy(sequence, prompt, tokens);
        const records = graftGreedy(modelPath, grafted, Object.assign(prompt, {text}), tokens);
        const apart = parting(records, theirs);
        if (apart) parted.push(`token ${apart.at}, margin ${apart.margin.toFixed(4)}`);
        check(!apart || apart.margin < bounds.nearTie, `${name}: greedy text after ${JSON.stringify(text)}`,
            `graft ${JSON.stringify(model.detokenize(records.map((r) => r.id)))}\n    peer  ` +
            `${JSON.stringify(model.detokenize(theirs))}\n    ${parted.at(-1)}`);
        const all = [...prompt, ...theirs];
        const kl = meanKl(graftLogits(modelPath, grafted, all), await peerLogits(sequence, all));
        worst = Math.max(worst, kl);
        check(kl <= bounds.kl, `${name}: distributions after ${JSON.stringify(text)}`, `mean KL ${kl}`);
    }
    if (failed === before) console.log(`[       OK ] ${name}: mean KL at most ${worst.toExponential(1)}` +
        (parted.length ? `; greedy text parted at near-ties: ${parted.join("; ")}` : "; greedy text equal"));
    await context.dispose();
    await model.dispose();
}

for (const one of job.cases) {
    try {
        await runCase(one);
    } catch (error) {
        check(false, `${one.name}: ${error.message}`);
    }
}
rmSync(scratch, {recursive: true});
console.log(`${passed} passed, ${failed} failed`);
await llama.dispose();
process.exit(failed || !passed ? 1 : 0);
