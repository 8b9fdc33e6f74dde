// run.mjs: graft and llama.cpp on the same files, in turn, and what came out as JSON.
//
//   node run.mjs --graft PROGRAM --files FOLDER --out RESULTS.json
//       [--commit NAME] [--quick] [--anyway] [--minutes N] [--rounds N] [--only REGEXP]
//
// --commit: what PROGRAM was built from, for the record. --quick: a small model and two rounds, to see that it
// works. --anyway: on a busy machine too. --minutes: no round begins that would end later (14). --only: the cases
// whose names match.
//
// A round runs every case once: graft, then the peer, each in a process of its own that warms up and takes
// a few samples. Rounds are repeated (graft, peer, graft, peer, …), so that what a machine does over
// minutes meets both. The ratio of a case is the median of the ratios of its rounds. The peer gets whichever
// of flash attention on and off is the faster one for it, found before the first round and recorded.
import {execFileSync} from "node:child_process";
import {mkdirSync, readFileSync, rmSync, statSync, writeFileSync} from "node:fs";
import {join, relative} from "node:path";
import {fileURLToPath} from "node:url";

const options = {minutes: 14, rounds: 5};
for (let i = 2; i < process.argv.length; i++) {
    const name = process.argv[i].replace(/^--/, "");
    if (name === "quick" || name === "anyway") options[name] = true;
    else options[name] = process.argv[++i];
}
const THREADS = 2;
const here = fileURLToPath(new URL(".", import.meta.url));
const begun = Date.now();
const minutes = () => (Date.now() - begun) / 60e3;
const say = (text) => process.stderr.write(`${text}\n`);

// ---- what is compared ----

// adapters: how graft holds the factors of its adapters; the peer holds those of the same one as F16.
const FILES = [
    {shape: "qwen2.5-0.5b", type: "q8_0", contexts: [128, 4096], adapters: ["bf16", "int8", "q4"]},
    {shape: "qwen2.5-0.5b", type: "f16", contexts: [128], adapters: ["bf16"]},
    {shape: "qwen2.5-0.5b", type: "q4_0", contexts: [128], adapters: ["bf16", "int8"]},
    {shape: "llama-3.2-1b", type: "q4_k_m", contexts: [128], adapters: ["bf16"]}
];
// Without a peer, once: what else the budgets are about.
const ALONE = [
    ["limits"],
    ["decode", "--type", "q8_0", "--context", "128", "--rows", "1,16"],
    ["decode", "--type", "q8_0", "--context", "128,4096"],
    ["prefill", "--type", "q8_0"],
    ["linear", "--type", "q8_0"],
    ["attention"],
    ["swap", "--type", "q8_0"],
    ["presets", "--shape", "width-768", "--adapter-type", "f16"]
];
if (options.quick) {
    FILES.splice(0, FILES.length, {shape: "mini", type: "q8_0", contexts: [128], adapters: ["bf16"]});
    ALONE.splice(0, ALONE.length, ["limits"], ["decode", "--shape", "mini", "--context", "128"],
        ["prefill", "--shape", "mini"], ["linear", "--shape", "mini"]);
    options.rounds = 2;
}

function casesOf(file) {
    const prompt = 512, tokens = 16, all = [];
    for (const context of file.contexts)
        all.push({file, name: `decode, context ${context}`, what: "decode", context, tokens, samples: 3,
            every: context > 1000 ? 2 : 1,
            graft: ["decode", "--context", String(context), "-n", String(tokens)]});
    all.push({file, name: `prefill, ${prompt} tokens`, what: "prefill", prompt, samples: 2, every: 2,
        graft: ["prefill", "-n", String(prompt)]});
    all.push({file, name: "load to first token", what: "load", samples: 3, every: 2, graft: ["load"]});
    return all.map((one) => ({...one, id: `${file.shape} ${file.type}, ${one.name}`, values: []}));
}

// ---- the two programs ----

function run(program, words) {
    return execFileSync(program, words, {encoding: "utf8", maxBuffer: 1 << 26,
        stdio: ["ignore", "pipe", "inherit"]});
}

const jsonLines = (text) => text.trim().split("\n").map((line) => JSON.parse(line));

function runGraft(one) {
    const words = ["bench", ...one.graft, "-m", one.file.path, "-t", String(THREADS), "--samples",
        String(one.samples), "--json", "-q"];
    return jsonLines(run(options.graft, words))[0];
}

let last = null; // what the peer said of itself

function askPeer(job) {
    last = JSON.parse(run(process.execPath, [join(here, "peer.mjs"), JSON.stringify(job)]));
    return last;
}

function runPeer(one, flash) {
    const {what, context, prompt, tokens, samples} = one;
    return askPeer({what, model: one.file.path, threads: THREADS, flash, context, prompt, tokens, samples});
}

// How much of the machine nobody uses: its idle time over half a second in which this program sleeps.
function idleShare() {
    const read = () => readFileSync("/proc/stat", "utf8").split("\n")[0].trim().split(/\s+/).slice(1, 9)
        .map(Number);
    const before = read();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    const spent = read().map((x, i) => x - before[i]), all = spent.reduce((a, b) => a + b, 0);
    return all ? (spent[3] + spent[4]) / all : 1;
}

// ---- rounds ----

const faster = (one, a, b) => (one.what === "load" ? a < b : a > b);

// Flash attention for the peer, by shape and kind of case.
function chooseFlash(cases) {
    const chosen = new Map();
    for (const one of cases) {
        const key = `${one.file.shape} ${one.name}`;
        if (one.what === "load") {
            one.flash = false;
            continue;
        }
        if (!chosen.has(key)) {
            const [off, on] = [false, true].map((flash) => runPeer({...one, samples: 2}, flash).value);
            chosen.set(key, {flash: faster(one, on, off), off, on});
            say(`  peer, ${key}: flash attention off ${off.toFixed(1)}, on ${on.toFixed(1)}`);
        }
        one.flash = chosen.get(key).flash;
    }
    return Object.fromEntries(chosen);
}

function round(cases, index) {
    for (const one of cases) {
        if (index % one.every) continue;
        const ours = runGraft(one), theirs = runPeer(one, one.flash);
        const ratio = faster(one, 1, 2) ? theirs.value / ours.value : ours.value / theirs.value;
        one.unit = ours.unit;
        one.limit = ours.limit;
        one.subject = ours.subject;
        one.command = ours.command;
        one.checked = ours.checked;
        one.peer = theirs;
        one.values.push({graft: ours.value, peer: theirs.value, ratio, share: ours.limit_share});
        say(`  ${one.id}: graft ${ours.value.toFixed(1)}, peer ${theirs.value.toFixed(1)} ${ours.unit}, ` +
            `ratio ${ratio.toFixed(2)}`);
    }
}

// ---- adapters ----

// The same adapter for both: one of graft's random ones, and that converted.
function writeAdapter(file) {
    const folder = file.path.replace(/gguf$/, "r16");
    const converted = `${folder}.gguf`;
    for (const old of [folder, converted]) rmSync(old, {recursive: true, force: true});
    run(options.graft, ["bench", "adapters", "-m", file.path, "-o", folder]);
    run(options.graft, ["adapter", "convert", folder, "-m", file.path, "-o", converted, "--type", "f16", "-q"]);
    return converted;
}

const adaptersName = (file) => `${file.shape} ${file.type}, adapters`;

// What an adapter costs either program, as the ratio of its own speeds with and without, by turns.
function adaptersOf(file) {
    const job = {what: "adapter", model: file.path, adapter: writeAdapter(file), threads: THREADS, flash: true,
        context: 128, prompt: 512, tokens: 16, samples: 5};
    const graft = file.adapters.map((type) => ({type, lines: jsonLines(run(options.graft, ["bench", "adapters", "-m",
        file.path, "--adapter-type", type, "-t", String(THREADS), "--json", "-q"]))}));
    const peer = askPeer(job).value;
    for (const {type, lines} of graft)
        say(`  ${file.shape} ${file.type}, ${type}: ` + lines.filter((line) => line.ratio)
            .map((line) => `${line.case} ${line.ratio.toFixed(3)}`).join(", "));
    say(`  peer: decode ${peer.decode.ratio.toFixed(3)}, prefill ${peer.prefill.ratio.toFixed(3)}`);
    return {shape: file.shape, file: file.type, graft, peer};
}

// ---- all ----

mkdirSync(options.files, {recursive: true});
let files = FILES.map((file) => ({...file, path: join(options.files, `${file.shape}-${file.type}.gguf`)}));
let cases = files.flatMap(casesOf);
if (options.only) {
    const wanted = new RegExp(options.only);
    cases = cases.filter((one) => wanted.test(one.id));
    files = files.filter((file) => cases.some((one) => one.file === file) || wanted.test(adaptersName(file)));
}
const idle = [idleShare()];
if (idle[0] < 0.9 && !options.quick && !options.anyway) {
    say(`peers: only ${(100 * idle[0]).toFixed(0)} % of this machine is idle. llama.cpp waits in loops for its ` +
        "threads and suffers from company more than graft does: try when it is quiet (or with --anyway; the " +
        "report will then say that its figures are not to be quoted)");
    process.exit(1);
}
for (const file of files) {
    say(`writing ${file.path}`);
    run(options.graft, ["bench", "model", "--shape", file.shape, "--type", file.type, "-o", file.path,
        "-t", String(THREADS)]);
    file.bytes = statSync(file.path).size;
}
say("which way of attention suits the peer");
const flash = chooseFlash(cases);
let rounds = 0;
for (let longest = 0; rounds < Number(options.rounds); rounds++) {
    const at = minutes();
    if (rounds >= 2 && at + longest > Number(options.minutes) - 2) break;
    say(`round ${rounds + 1} of ${options.rounds}, after ${at.toFixed(1)} minutes`);
    idle.push(idleShare());
    round(cases, rounds);
    longest = Math.max(longest, minutes() - at);
}
say("adapters");
const adapters = files.filter((file) => !options.only || new RegExp(options.only).test(adaptersName(file)))
    .map(adaptersOf);
say("graft alone");
const alone = ALONE.flatMap((words) => jsonLines(run(options.graft, ["bench", ...words, "-t",
    String(THREADS), "--json", "-q"])));
const version = JSON.parse(run(options.graft, ["version", "--json"]));
const results = {
    date: new Date().toISOString().slice(0, 10),
    quick: Boolean(options.quick),
    idle: Math.min(...idle),
    rounds,
    threads: THREADS,
    machine: {processor: version.processor, cores: version.cores, tier: version.tier},
    graft: {version: version.version, compiler: version.compiler, commit: options.commit},
    peer: {
        package: "node-llama-cpp",
        version: JSON.parse(readFileSync(join(here, "node_modules/node-llama-cpp/package.json"), "utf8")).version,
        release: last.release, system: last.system, batch: last.batch, cache: "f16", mmap: true
    },
    flash,
    files: files.map(({shape, type, bytes}) => ({shape, type, bytes})),
    cases: cases.map(({id, name, file, unit, limit, subject, command, checked, flash: on, values}) => ({
        id, name, shape: file.shape, type: file.type, unit, limit, subject, checked,
        command: command.replaceAll(file.path, relative(options.files, file.path)), flash: on, values
    })),
    adapters,
    alone
};
writeFileSync(options.out, JSON.stringify(results, null, 1) + "\n");
say(`${minutes().toFixed(1)} minutes; results in ${options.out}`);
