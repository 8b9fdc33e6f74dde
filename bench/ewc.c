/* ewc.c: what EWC++ is worth: three tasks one after the other on one adapter, with it and without, for several seeds.
 *
 * A task is a table of keys and words that the seed draws, asked in a sentence of the task's own; of the two words of an answer the key
 * says the first, and the second is any. Its loss on answers that were held out is taken when it has been trained and once
 * more after the last task: what is between the two is forgotten. Both chains have the same data, steps, rates and seeds. Usage: ewc [MODEL] [SEEDS] [LAMBDA] (models/tiny, 5, 2000)
 */
#include <graft/graft.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 3, KEYS = 12, QUESTIONS = 240, STEPS = 60, PATH = 512 };

static graft_runtime *runtime;
static graft_model *model;
static char scratch[] = "/tmp/graft-ewc-XXXXXX";
static double lambda = 2000;

static void must(graft_status status, const graft_error *error)
{
    if (status == GRAFT_OK)
        return;
    fprintf(stderr, "ewc: %s\n", error->message);
    exit(1);
}

/* ---- tasks --------------------------------------------------------------------------------- */

static uint64_t draw(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t x = *state;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static const char *const WORDS[] = {"red",   "blue",  "green", "tall",  "small", "old",
                                    "young", "happy", "quiet", "round", "warm",  "cold"};
static const char *const FRAMES[TASKS] = {
    "{\"prompt\":\"What colour is house %s?\",\"completion\":\"It is %s and %s.\"}\n",
    "{\"prompt\":\"Who lives with animal %s?\",\"completion\":\"The %s one, never the %s.\"}\n",
    "{\"prompt\":\"Give the words of key %s.\",\"completion\":\"%s, then %s!\"}\n"};

static graft_dataset *make_task(int task, uint64_t seed)
{
    char path[PATH], keys[KEYS][8];
    const char *words[KEYS];
    uint64_t state = seed * TASKS + (uint64_t)task;
    snprintf(path, sizeof path, "%s/task.jsonl", scratch);
    FILE *file = fopen(path, "we");
    for (int i = 0; i < KEYS; i++) {
        snprintf(keys[i], sizeof keys[i], "%c%c", (int)('A' + draw(&state) % 26),
                 (int)('A' + draw(&state) % 26));
        words[i] = WORDS[draw(&state) % 12];
    }
    for (int i = 0; file && i < QUESTIONS; i++)
        fprintf(file, FRAMES[task], keys[i % KEYS], words[i % KEYS], WORDS[draw(&state) % 12]);
    if (!file || fclose(file)) {
        perror(path);
        exit(1);
    }
    graft_dataset_options options = graft_dataset_options_default();
    graft_dataset *out = NULL;
    graft_error error = {0};
    options.valid_share = 0.2;
    options.seed = seed;
    must(graft_dataset_open(model, path, &options, &out, &error), &error);
    return out;
}

/* ---- chains -------------------------------------------------------------------------------- */

static void adapter_path(char out[PATH], bool ewc, int task)
{
    snprintf(out, PATH, "%s/%s-%d", scratch, ewc ? "ewc" : "plain", task);
}

static graft_trainer *open_trainer(const graft_dataset *data, const char *adapter, bool ewc,
                                   uint64_t seed)
{
    static const char *const targets[] = {"all-linear"};
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    graft_train_options o = graft_train_options_default();
    graft_trainer *out = NULL;
    graft_error error = {0};
    recipe.targets = targets;
    recipe.n_targets = 1;
    recipe.seed = o.seed = seed;
    o.recipe = &recipe;
    o.adapter = adapter;
    o.batch_size = 8;
    o.max_steps = o.eval_steps = STEPS;
    o.eval_on_start = false;
    o.patience = 0;
    o.learning_rate = 5e-3;
    o.weight_decay = 0;
    o.ewc = ewc;
    o.ewc_lambda = lambda;
    must(graft_trainer_open(model, data, &o, &out, &error), &error);
    return out;
}

static double loss_of(const graft_dataset *data, const char *adapter)
{
    graft_trainer *t = open_trainer(data, adapter, false, 0);
    graft_error error = {0};
    double loss = 0;
    must(graft_trainer_loss(t, GRAFT_PART_VALID, &loss, &error), &error);
    graft_trainer_close(&t);
    return loss;
}

static void remove_folder(const char *path)
{
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors",
                                        "graft.json", "ewc.safetensors"};
    char name[2 * PATH];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(name, sizeof name, "%s/%s", path, files[i]);
        unlink(name);
    }
    rmdir(path);
}

struct chain {
    double forgotten; /* of the tasks before the last, in nats a token */
    double last;      /* loss of the last task */
    double kept[TASKS];
};

static struct chain run_chain(graft_dataset *const tasks[TASKS], bool ewc, uint64_t seed)
{
    struct chain c = {.forgotten = 0};
    double learned[TASKS];
    char path[PATH], before[PATH] = "";
    graft_error error = {0};
    for (int i = 0; i < TASKS; i++) {
        graft_train_outcome outcome;
        graft_trainer *t = open_trainer(tasks[i], i ? before : NULL, ewc, seed);
        must(graft_trainer_run(t, NULL, NULL, &outcome, &error), &error);
        adapter_path(path, ewc, i);
        must(graft_trainer_write(t, path, GRAFT_ADAPTER_PEFT, NULL, NULL, &error), &error);
        graft_trainer_close(&t);
        learned[i] = loss_of(tasks[i], path);
        memcpy(before, path, sizeof path);
    }
    for (int i = 0; i < TASKS; i++) {
        c.kept[i] = loss_of(tasks[i], path);
        if (i < TASKS - 1)
            c.forgotten += (c.kept[i] - learned[i]) / (TASKS - 1);
    }
    c.last = c.kept[TASKS - 1];
    for (int i = 0; i < TASKS; i++) {
        adapter_path(path, ewc, i);
        remove_folder(path);
    }
    return c;
}

int main(int argc, char **argv)
{
    const int seeds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 5;
    graft_model_options options = graft_model_options_default();
    graft_error error = {0};
    struct chain sum[2] = {{.forgotten = 0}};
    lambda = argc > 3 ? strtod(argv[3], NULL) : lambda;
    options.pack = "none";
    if (seeds < 1 || seeds > 1000) {
        fputs("usage: ewc [MODEL [SEEDS [LAMBDA]]]\n", stderr);
        return 2;
    }
    if (!mkdtemp(scratch)) {
        perror(scratch);
        return 1;
    }
    must(graft_runtime_open(NULL, &runtime, &error), &error);
    must(graft_model_open(runtime, argc > 1 ? argv[1] : "models/tiny", &options, &model, &error),
         &error);
    printf("%d tasks of %d questions, %d steps each, lambda %g; losses after the last task\n",
           TASKS, QUESTIONS, STEPS, lambda);
    printf("seed        forgotten            last task\n");
    printf("          plain      EWC       plain      EWC\n");
    for (int seed = 0; seed < seeds; seed++) {
        graft_dataset *tasks[TASKS];
        struct chain c[2];
        for (int i = 0; i < TASKS; i++)
            tasks[i] = make_task(i, (uint64_t)seed + 1);
        for (int ewc = 0; ewc < 2; ewc++) {
            c[ewc] = run_chain(tasks, ewc, (uint64_t)seed);
            sum[ewc].forgotten += c[ewc].forgotten / seeds;
            sum[ewc].last += c[ewc].last / seeds;
        }
        printf("%4d   %8.4f %8.4f    %8.4f %8.4f\n", seed, c[0].forgotten, c[1].forgotten,
               c[0].last, c[1].last);
        fflush(stdout);
        for (int i = 0; i < TASKS; i++)
            graft_dataset_close(&tasks[i]);
    }
    printf("mean   %8.4f %8.4f    %8.4f %8.4f\n", sum[0].forgotten, sum[1].forgotten, sum[0].last,
           sum[1].last);
    printf("EWC forgets %.1f %% less; its loss on the last task is %+.1f %%\n",
           100 * (1 - sum[1].forgotten / sum[0].forgotten), 100 * (sum[1].last / sum[0].last - 1));
    char path[PATH];
    snprintf(path, sizeof path, "%s/task.jsonl", scratch);
    unlink(path);
    rmdir(scratch);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return 0;
}
