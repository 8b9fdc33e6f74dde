// peer.mjs: one measurement of llama.cpp, as packaged for Node, in a process of its own.
//
//   node peer.mjs '{"what": "decode", "model": FILE, "threads": 2, "flash": false, …}'   prints one JSON object
//
// It calls the addon's own functions (llama_decode and what loads a model), below the package's sessions
// and samplers, so that what is timed is llama.cpp: the same work that `graft bench` times. Batches are
// 512 tokens, the cache is F16, weights are mapped. Times are medians of `samples` after one that warms up.
import {getLlama} from "node-llama-cpp";

const BATCH = 512;
const job = JSON.parse(process.argv[2]);
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const bindings = llama._bindings;
const wide = Math.max(job.context ?? 0, job.prompt ?? 0) + (job.tokens ?? 0) + 1;
const contextSize = Math.ceil(wide / 256) * 256;

const now = () => performance.now() / 1e3;

async function open() {
    const model = new bindings.AddonModel(job.model, {addonExports: bindings, gpuLayers: 0, useMmap: true,
        useMlock: false, checkTensors: false});
    if (!await model.init()) throw new Error("the model does not load");
    const context = new bindings.AddonContext(model, {contextSize: contextSize * (job.rows ?? 1),
        batchSize: BATCH, sequences: job.rows ?? 1, flashAttention: job.flash, threads: job.threads});
    if (!await context.init()) throw new Error("the context does not open");
    return {model, context};
}

async function close({model, context}) {
    await context.dispose();
    await model.dispose();
}

const idOf = (i) => (i * 7919 + 11) % 1000;
const none = new Uint32Array(), first = Uint32Array.of(0);

// Tokens [from, to) of one sequence, without logits.
async function fill(context, sequence, from, to) {
    for (let at = from; at < to; at += BATCH) {
        const n = Math.min(BATCH, to - at);
        context.initBatch(n);
        context.addToBatch(sequence, at, Uint32Array.from({length: n}, (_, i) => idOf(at + i)), none);
        await context.decodeBatch();
    }
}

// One token with logits for each of the sequences.
async function step(context, rows, at) {
    context.initBatch(rows);
    for (let i = 0; i < rows; i++) context.addToBatch(i, at, Uint32Array.of(idOf(at + i)), first);
    await context.decodeBatch();
}

function median(values) {
    const v = [...values].sort((a, b) => a - b), n = v.length;
    return n % 2 ? v[(n - 1) / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

async function timed(work) {
    const begun = now();
    const result = await work();
    return [now() - begun, result];
}

// Runs `sample` once to warm up and then job.samples times; `reset` is not timed.
async function times(reset, sample) {
    const found = [];
    for (let i = 0; i <= job.samples; i++) {
        await reset();
        const [seconds] = await timed(sample);
        if (i) found.push(seconds);
    }
    return found;
}

async function load() {
    let opened = null;
    const seconds = await times(async () => opened && await close(opened), async () => {
        opened = await open();
        await step(opened.context, 1, 0);
    });
    await close(opened);
    return 1e3 * median(seconds);
}

async function prefill() {
    const opened = await open(), {context} = opened;
    const seconds = await times(() => context.disposeSequence(0), () => fill(context, 0, 0, job.prompt));
    await close(opened);
    return job.prompt / median(seconds);
}

async function decode() {
    const opened = await open(), {context} = opened, rows = job.rows ?? 1;
    for (let i = 0; i < rows; i++) await fill(context, i, 0, job.context);
    const reset = () => {
        for (let i = 0; i < rows; i++) context.removeTokenCellsFromSequence(i, job.context, -1);
    };
    const seconds = await times(reset, async () => {
        for (let i = 0; i < job.tokens; i++) await step(context, rows, job.context + i);
    });
    await close(opened);
    return rows * job.tokens / median(seconds);
}

// Decode and prefill by turns without and with the adapter: tokens per second of each.
async function adapter() {
    const opened = await open(), {model, context} = opened;
    const lora = new bindings.AddonModelLora(model, job.adapter);
    await model.loadLora(lora);
    const ways = [() => context.setLoras([], []), () => context.setLoras([lora], [1])];
    const steps = async () => {
        for (let i = 0; i < job.tokens; i++) await step(context, 1, job.context + i);
    };
    const found = {decode: [[], []], prefill: [[], []]};
    for (let i = 0; i <= job.samples; i++)
        for (const [way, use] of ways.entries()) {
            use();
            context.disposeSequence(0);
            const [prompt] = await timed(() => fill(context, 0, 0, job.prompt));
            context.removeTokenCellsFromSequence(0, job.context, -1);
            await step(context, 1, job.context); // the first with another adapter builds its graph anew
            context.removeTokenCellsFromSequence(0, job.context, -1);
            const [tokens] = await timed(steps);
            if (i) found.prefill[way].push(job.prompt / prompt);
            if (i) found.decode[way].push(job.tokens / tokens);
        }
    await close(opened);
    return Object.fromEntries(Object.entries(found).map(([what, [base, one]]) => [what,
        {base: median(base), adapter: median(one), ratio: median(one.map((x, i) => x / base[i]))}]));
}

const value = await {load, prefill, decode, adapter}[job.what]();
console.log(JSON.stringify({...job, batch: BATCH, value, unit: job.what === "load" ? "ms" : "tokens/s",
    release: llama.llamaCppRelease.release, system: llama.systemInfo.trim()}));
await llama.dispose();
