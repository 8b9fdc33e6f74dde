// report.mjs: BENCHMARKS.md from the results of run.mjs and the text of profile.md.
//
//   node report.mjs RESULTS.json PROFILE.md TRAINING.md >BENCHMARKS.md
import {readFileSync} from "node:fs";

const results = JSON.parse(readFileSync(process.argv[2], "utf8"));
const profile = readFileSync(process.argv[3], "utf8").trim();
const training = readFileSync(process.argv[4], "utf8").trim();
const merging = readFileSync(process.argv[5], "utf8").trim();
const streams = readFileSync(process.argv[6], "utf8").trim();

function median(values) {
    const v = [...values].sort((a, b) => a - b), n = v.length;
    return n % 2 ? v[(n - 1) / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}
const spread = (v) => (Math.max(...v) - Math.min(...v)) / median(v);
const number = (x) => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2));
const percent = (x) => `${(100 * x).toFixed(0)} %`;
const table = (head, rows) => [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`)
    .join("\n");

function compared() {
    return table(["file", "case", "unit", "graft", "llama.cpp", "ratio", "spread", "graft's share of the limit",
        "llama.cpp's", "limit"], results.cases.map((one) => {
        const of = (key) => one.values.map((value) => value[key]);
        const ratio = median(of("ratio")), share = median(of("share"));
        return [`${one.shape} ${one.type}`, one.name, one.unit, number(median(of("graft"))),
            number(median(of("peer"))), `**${ratio.toFixed(2)}**`, percent(spread(of("ratio"))), share.toFixed(2),
            (share / ratio).toFixed(2), one.limit];
    }));
}

// What an adapter costs each program, in percent of its own speed without.
function withAdapter() {
    const loss = (ratio) => (ratio === undefined ? "" : `${(100 * (1 - ratio)).toFixed(1)} %`);
    return table(["file", "graft's factors", "case", "graft", "with the adapter", "graft loses", "spread", "llama.cpp",
        "with the adapter", "llama.cpp loses"], results.adapters.flatMap(({shape, file, graft, peer}) =>
        graft.flatMap(({type, lines}, i) => ["decode", "prefill"].map((what) => {
            const line = lines.find((one) => one.case === `${what}, adapter`), theirs = peer[what];
            return [`${shape} ${file}`, type, what, number(line.baseline), number(line.value),
                `**${loss(line.ratio)}**`, percent(line.ratio_spread ?? 0),
                ...(i ? ["", "", ""] : [number(theirs.base), number(theirs.adapter), loss(theirs.ratio)])];
        }))));
}

// The other figures of \`graft bench adapters\`: DoRA, many adapters in one batch, the base beside adapters.
function adaptersAlone() {
    return table(["file", "factors", "case", "value", "spread", "compared"], results.adapters.flatMap(({shape, file,
        graft}) => graft.flatMap(({type, lines}) => lines.filter((one) => !/^(decode|prefill), (base|adapter)$/
        .test(one.case)).map((one) => [`${shape} ${file}`, type, one.case, `${number(one.value)} ${one.unit}`,
        percent(one.ratio_spread ?? one.share_spread), one.ratio ? `${one.ratio.toFixed(3)} × ${one.baseline_case}`
            : `${(one.limit_share ?? 0).toFixed(2)} of ${one.limit}`]))));
}

function alone() {
    return table(["bench", "of", "case", "value", "spread", "share of the limit", "compared"],
        results.alone.map((one) => [one.bench, one.subject, one.case, `${number(one.value)} ${one.unit}`, percent(one.spread),
            one.limit ? `${one.limit_share.toFixed(2)} of ${one.limit}` : "",
            one.ratio ? `${one.ratio.toFixed(2)} × ${one.baseline_case}` : ""]));
}

// Where the time of a decoded token and of a prompt goes, from the products measured one by one.
function parts() {
    const lines = results.alone.filter((one) => one.bench === "linear" && one.seconds);
    const groups = [["q, k, v", ["q", "k", "v"]], ["o", ["o"]], ["gate, up", ["gate", "up"]], ["down", ["down"]],
        ["head", ["head"]]];
    const of = (kinds, way) => lines.filter((one) => kinds.includes(one.case.split(",")[0]) &&
        one.case.includes(way)).reduce((sum, one) => sum + 1e3 * one.seconds, 0);
    const whole = (bench) => results.alone.find((one) => one.bench === bench && !one.baseline &&
        one.subject === lines[0]?.subject);
    const token = whole("decode"), prompt = whole("prefill");
    if (!token || !prompt) return "";
    const tokenMs = 1e3 / token.value, promptMs = 1e3 * prompt.seconds;
    const rows = groups.map(([name, kinds]) => [name, of(kinds, "decode"), of(kinds, "prefill")]);
    const sums = [1, 2].map((i) => rows.reduce((sum, row) => sum + row[i], 0));
    rows.push(["attention, norms, waiting", tokenMs - sums[0], promptMs - sums[1]]);
    const cell = (ms, all) => (ms ? `${ms.toFixed(2)} (${percent(ms / all)})` : "");
    return `\n${lines[0].subject}: milliseconds of one token after 128 (${tokenMs.toFixed(1)} in all) and of a prompt ` +
        `of 512 without the head (${promptMs.toFixed(0)}), from the products one by one; the rest is by difference.\n\n` +
        table(["", "token", "prompt"], rows.map(([name, one, many]) => [name, cell(one, tokenMs), cell(many, promptMs)])) +
        "\n";
}

const {machine, peer, graft} = results;
const commands = [...new Set(results.cases.map((one) => one.command)),
    ...new Set(results.alone.map((one) => one.command)),
    ...new Set(results.adapters.flatMap(({shape, file, graft}) => graft.map(({lines}) => lines[0].command.replace(/-m \S+/,
        `-m ${shape}-${file}.gguf`)))) ];
const caution = results.quick || results.idle < 0.9
    ? `\n**Not to be quoted**: ${results.quick ? "a quick run that only shows that it works"
        : `other programs used this machine (${percent(results.idle)} idle at the least)`}.\n` : "";

console.log(`# Benchmarks

Made by \`./dev bench peers\` from \`bench/peers/results.json\`; \`docs/bench.md\` says what each figure means.
${caution}
- ${results.date}, ${machine.processor}, ${machine.cores} cores, ${results.threads} threads; graft's tier: ${machine.tier}
- graft ${graft.version}${graft.commit ? `, commit ${graft.commit}` : ""}, built with ${graft.compiler}; ${results.rounds} rounds
- llama.cpp ${peer.release}, as packaged in ${peer.package} ${peer.version}: ${peer.system.replace(/ \|$/, "")}
- The same files for both, with random weights; ${results.files.map((f) => `${f.shape} ${f.type} ` +
    `${(f.bytes / 1e6).toFixed(0)} MB`).join(", ")}. Both: ${results.threads} threads, cache F16, batches of ${peer.batch} tokens
- Both as they are by default: graft packs weights into large pages when it opens a file, llama.cpp maps it

## Beside llama.cpp

Medians of ${results.rounds} rounds at most (graft, llama.cpp, graft, llama.cpp, …), each in a new process that warms
up and takes the median of a few samples. The ratio is of speeds, above 1 graft is the faster one: the median of
the rounds' ratios; the spread is that of these ratios, (largest − smallest) / median. llama.cpp is called below
its package's sessions and samplers (\`llama_decode\` alone is timed), with flash attention on or off, whichever
is faster for it: ${Object.entries(results.flash).map(([key, value]) => `${key}: ${value.flash ? "on" : "off"}`).join("; ")}.
The limit is sampled beside graft's samples; llama.cpp's share follows from the ratio. Prefill asks neither program
for logits.

${compared()}

## With an adapter

The same random adapter for both, rank 16 on the seven linears of every block; graft's factors as said, llama.cpp's
in F16. What a program loses is beside its own speed without an adapter, in alternation (\`graft bench adapters\`,
median of the ratios of neighbours; \`bench/peers/peer.mjs\`, likewise).

${withAdapter()}

And what else \`graft bench adapters\` measures. Here and above the spread is that of what is compared, between the
quartiles of its samples (\`docs/bench.md\`):

${adaptersAlone()}

## graft alone

The spread is that of the value, between the quartiles of its samples.

${alone()}

${profile}
${parts()}
${training}

${merging}

${streams}

## Commands

    ./dev bench peers

runs all of it and writes this file. One by one (\`graft bench model --shape S --type T -o FILE\` makes the files):

${commands.map((command) => `    ${command}`).join("\n")}`);
