/* train_options.c: the options of `graft train`: what is typed, on top of what settings said.
 *
 * The command line is read twice: once for the settings that it names, and once on top of what those came to.
 */
#include "train.h"

#include <math.h>

enum {
    KEY_RANK = 0x700,
    KEY_ALPHA,
    KEY_DROPOUT,
    KEY_TARGETS,
    KEY_SAVED,
    KEY_RSLORA,
    KEY_DORA,
    KEY_BIAS,
    KEY_INIT,
    KEY_KIND,
    KEY_OPTIM,
    KEY_MUON,
    KEY_PRESET,
    KEY_NAME,
    KEY_DESCRIPTION,
    KEY_EPOCHS,
    KEY_STEPS,
    KEY_BATCH,
    KEY_ACCUMULATE,
    KEY_RATE,
    KEY_SCHEDULE,
    KEY_WARMUP,
    KEY_DECAY,
    KEY_LORAPLUS,
    KEY_NORM,
    KEY_EVAL,
    KEY_SAVE,
    KEY_PATIENCE,
    KEY_IMPROVEMENT,
    KEY_EWC,
    KEY_LAMBDA,
    KEY_EWC_DECAY,
    KEY_PACKING,
    KEY_NO_SHUFFLE,
    KEY_NO_CHECKPOINTING,
    KEY_F32,
    KEY_FORMAT,
    KEY_TYPE,
    KEY_RUN,
    KEY_RESUME,
    KEY_SAMPLES,
    KEY_DRY,
    KEY_CONFIG,
    KEY_SET
};
enum { MAX_TARGETS = 64 };

/* ---- options ------------------------------------------------------------------------------- */

/* Names with commas between; of the one recipe of this process. */
struct name_list {
    const char *names[MAX_TARGETS];
    char text[4096];
};
static struct name_list target_list, saved_list;

/* The command line is read twice: it stays as it is. */
static size_t read_names(struct argp_state *state, const char *option, const char *arg,
                         struct name_list *list)
{
    char *left = NULL;
    size_t n = 0;
    if ((size_t)snprintf(list->text, sizeof list->text, "%s", arg) >= sizeof list->text) {
        argp_error(state, "%s: the list is too long", option);
    }
    for (char *word = strtok_r(list->text, ", ", &left); word != NULL;
         word = strtok_r(NULL, ", ", &left)) {
        if (n == MAX_TARGETS) {
            argp_error(state, "%s: at most %d names", option, MAX_TARGETS);
        }
        list->names[n++] = word;
    }
    if (n == 0) {
        argp_error(state, "%s: the list is empty", option);
    }
    return n;
}

static void collect(struct argp_state *state, const char *option, const char *arg,
                    const char *list[TRAIN_TYPED], int *n)
{
    if (*n == TRAIN_TYPED) {
        argp_error(state, "%s: at most %d times", option, TRAIN_TYPED);
    }
    list[(*n)++] = arg;
}

/* dora is lora with magnitudes. */
static void read_kind(struct argp_state *state, const char *arg, struct train_args *a)
{
    const bool full = strcmp(arg, "full") == 0, dora = strcmp(arg, "dora") == 0;
    if (!full && !dora && strcmp(arg, "lora") != 0) {
        argp_error(state, "--fine-tune-type: \"%s\" is none of lora, dora, full", arg);
    }
    a->options.fine_tune_type = full ? "full" : "lora";
    a->options.use_dora = dora || a->typed.dora; /* --dora may stand before it */
}

static error_t parse_recipe(int key, char *arg, struct argp_state *state)
{
    struct train_args *a = state->input;
    graft_adapter_recipe *r = &a->recipe;
    switch (key) {
    case KEY_PRESET:
        collect(state, "--preset", arg, a->typed.presets, &a->typed.n_presets);
        return 0;
    case KEY_SET:
        collect(state, "--set", arg, a->typed.sets, &a->typed.n_sets);
        return 0;
    case KEY_CONFIG:
        a->typed.config = cli_parse_name(state, "--config", arg);
        return 0;
    case KEY_RANK:
        r->rank = (int)cli_parse_int(state, "--rank", arg, 1, 65536);
        return 0;
    case KEY_ALPHA:
        r->alpha = cli_parse_number(state, "--alpha", arg, 1e-6, 1e6);
        return 0;
    case KEY_DROPOUT:
        r->dropout = cli_parse_number(state, "--dropout", arg, 0, 0.999999);
        return 0;
    case KEY_TARGETS:
        r->n_targets = read_names(state, "--targets", arg, &target_list);
        r->targets = target_list.names;
        return 0;
    case KEY_SAVED:
        r->n_modules_to_save = read_names(state, "--modules-to-save", arg, &saved_list);
        r->modules_to_save = saved_list.names;
        return 0;
    case KEY_RSLORA:
        r->rslora = true;
        return 0;
    case KEY_DORA:
        a->options.use_dora = a->typed.dora = true;
        return 0;
    case KEY_BIAS:
        a->options.lora_bias = true;
        return 0;
    case KEY_INIT:
        a->options.init = cli_parse_name(state, "--init", arg);
        return 0;
    case KEY_KIND:
        read_kind(state, arg, a);
        return 0;
    case KEY_NAME:
        r->name = cli_parse_name(state, "--name", arg);
        return 0;
    case KEY_DESCRIPTION:
        r->description = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* "0.1" is a share of the steps, "20" is steps. */
static void read_warmup(struct argp_state *state, const char *arg, graft_train_options *o)
{
    double value = cli_parse_number(state, "--warmup", arg, 0, 1e9);
    bool share = value < 1;
    if (!share && value != floor(value)) {
        argp_error(state, "--warmup: steps, or a share below 1, not %s", arg);
    }
    o->warmup_steps = share ? -1 : (int64_t)value;
    o->warmup_ratio = share ? value : 0;
}

static error_t parse_steps(int key, char *arg, struct argp_state *state)
{
    graft_train_options *o = &((struct train_args *)state->input)->options;
    switch (key) {
    case KEY_EPOCHS:
        o->num_epochs = cli_parse_number(state, "--epochs", arg, 1e-6, 1e6);
        return 0;
    case KEY_STEPS:
        o->max_steps = cli_parse_int(state, "--steps", arg, 1, INT64_C(1000000000));
        return 0;
    case KEY_BATCH:
        o->batch_size = (int)cli_parse_int(state, "--batch-size", arg, 1, 65536);
        return 0;
    case KEY_ACCUMULATE:
        o->gradient_accumulation_steps = (int)cli_parse_int(state, "--accumulate", arg, 1, 65536);
        return 0;
    case KEY_RATE:
        o->learning_rate = cli_parse_number(state, "--learning-rate", arg, 0, 1000);
        return 0;
    case KEY_OPTIM:
        o->optim = cli_parse_name(state, "--optim", arg);
        return 0;
    case KEY_MUON:
        o->muon_lr = cli_parse_number(state, "--muon-lr", arg, 0, 1000);
        return 0;
    case KEY_SCHEDULE:
        o->lr_scheduler = cli_parse_name(state, "--schedule", arg);
        if (strcmp(arg, "wsd") == 0) {
            o->lr_scheduler = "warmup_stable_decay";
        }
        return 0;
    case KEY_WARMUP:
        read_warmup(state, arg, o);
        return 0;
    case KEY_DECAY:
        o->weight_decay = cli_parse_number(state, "--weight-decay", arg, 0, 1000);
        return 0;
    case KEY_LORAPLUS:
        o->loraplus_lr_ratio = cli_parse_number(state, "--loraplus", arg, 1e-6, 1e6);
        return 0;
    case KEY_LAMBDA:
        o->ewc_lambda = cli_parse_number(state, "--ewc-lambda", arg, 0, 1e30);
        return 0;
    case KEY_EWC_DECAY:
        o->ewc_decay = cli_parse_number(state, "--ewc-decay", arg, 0, 1);
        return 0;
    case KEY_NORM:
        o->max_grad_norm = cli_parse_number(state, "--max-grad-norm", arg, 0, 1e30);
        return 0;
    default:
        return parse_recipe(key, arg, state);
    }
}

static error_t parse_switches(int key, char *arg, struct argp_state *state)
{
    struct train_args *a = state->input;
    (void)arg;
    switch (key) {
    case KEY_PACKING:
        a->options.packing = true;
        return 0;
    case KEY_NO_SHUFFLE:
        a->options.shuffle = false;
        return 0;
    case KEY_NO_CHECKPOINTING:
        a->options.gradient_checkpointing = false;
        return 0;
    case KEY_F32:
        a->options.bf16 = false;
        return 0;
    case KEY_EWC:
        a->options.ewc = true;
        return 0;
    case KEY_RESUME:
        a->resume = true;
        return 0;
    case KEY_DRY:
        a->dry_run = a->out.optional = true;
        return 0;
    default:
        return parse_steps(key, arg, state);
    }
}

static error_t parse_train(int key, char *arg, struct argp_state *state)
{
    struct train_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->out;
        state->child_inputs[1] = &a->data;
        state->child_inputs[2] = &a->common;
        return 0;
    case 'd':
        a->data.path = cli_parse_name(state, "--data", arg);
        return 0;
    case 'a':
        a->options.adapter = cli_parse_name(state, "--adapter", arg);
        return 0;
    case KEY_EVAL:
        a->options.eval_steps = cli_parse_int(state, "--eval-steps", arg, 0, INT32_MAX);
        return 0;
    case KEY_SAVE:
        a->options.save_steps = cli_parse_int(state, "--save-steps", arg, 0, INT32_MAX);
        return 0;
    case KEY_PATIENCE:
        a->options.patience = (int)cli_parse_int(state, "--patience", arg, 0, 1000000);
        return 0;
    case KEY_IMPROVEMENT:
        a->options.min_improvement = cli_parse_number(state, "--min-improvement", arg, 0, 1e30);
        return 0;
    case KEY_FORMAT:
        a->format = cli_parse_adapter_format(state, arg);
        return 0;
    case KEY_TYPE:
        a->type = cli_parse_name(state, "--type", arg);
        return 0;
    case KEY_SAMPLES:
        a->samples = (int)cli_parse_int(state, "--samples", arg, 0, TRAIN_SAMPLES);
        return 0;
    case KEY_RUN:
        a->run = cli_parse_name(state, "--run", arg);
        return 0;
    default:
        return parse_switches(key, arg, state);
    }
}

static const struct argp_option train_options[] = {
    {"data", 'd', "FILE|DIR", 0, "Examples; `graft data check` looks at them first", 1},
    {"adapter", 'a', "ADAPTER", 0,
     "Go on with this one, as it is: a path, or a name as registered or that ships", 1},
    {"config", KEY_CONFIG, "FILE", 0, "Settings, as YAML or JSON; options go first", 1},
    {"set", KEY_SET, "KEY=VALUE", 0, "One setting by its name; `graft train settings` lists them",
     1},
    {"format", KEY_FORMAT, "FORMAT", 0, "peft (default), mlx or gguf", 1},
    {"type", KEY_TYPE, "TYPE", 0,
     "Of what is written: f32 (default of adapters), f16, bf16; a model's default is its own", 1},
    {"run", KEY_RUN, "DIR", 0, "History and checkpoint; default: OUT.run", 1},
    {"resume", KEY_RESUME, NULL, 0, "Go on from the checkpoint there", 1},
    {"samples", KEY_SAMPLES, "N", 0, "Answers before and after that are kept; default 3", 1},
    {"dry-run", KEY_DRY, NULL, 0, "Say what it would take: steps, memory, time; train nothing", 1},
    {"fine-tune-type", KEY_KIND, "TYPE", 0,
     "lora (default), dora, or full: every parameter of the model; OUT is then a model", 1},
    {NULL, 0, NULL, 0, "The adapter:", 3},
    {"preset", KEY_PRESET, "NAME", 0,
     "quick or stable; coder, researcher, security, architect or reviewer; or one of each", 3},
    {"rank", KEY_RANK, "R", 0, "Default 8", 3},
    {"alpha", KEY_ALPHA, "A", 0, "The scale is A / R; default 16", 3},
    {"dropout", KEY_DROPOUT, "P", 0, "Of the inputs of A; default 0", 3},
    {"targets", KEY_TARGETS, "LIST", 0,
     "Linear layers, as q_proj,v_proj (default), or all-linear; embed_tokens", 3},
    {"modules-to-save", KEY_SAVED, "LIST", 0,
     "Trained whole beside factors: norms, embed_tokens, lm_head, score", 3},
    {"rslora", KEY_RSLORA, NULL, 0, "The scale is A / sqrt(R)", 3},
    {"dora", KEY_DORA, NULL, 0, "Magnitudes too", 3},
    {"lora-bias", KEY_BIAS, NULL, 0, "A bias beside each B", 3},
    {"init", KEY_INIT, "NAME", 0,
     "How factors begin: default, gaussian, pissa or olora (parts of the weights)", 3},
    {"name", KEY_NAME, "NAME", 0, "On its card; default: the preset's, or \"adapter\"", 3},
    {"description", KEY_DESCRIPTION, "TEXT", 0, "What it is for", 3},
    {NULL, 0, NULL, 0, "Steps:", 4},
    {"epochs", KEY_EPOCHS, "N", 0, "Default 3", 4},
    {"steps", KEY_STEPS, "N", 0, "In place of epochs", 4},
    {"batch-size", KEY_BATCH, "N", 0, "Sequences that go through the model at once; default 4", 4},
    {"accumulate", KEY_ACCUMULATE, "N", 0, "Batches in a step; default 1", 4},
    {"learning-rate", KEY_RATE, "X", 0, "Default 2e-4", 4},
    {"lr", 0, NULL, OPTION_ALIAS, NULL, 4},
    {"schedule", KEY_SCHEDULE, "NAME", 0,
     "constant, linear, cosine (default), exponential, step, one_cycle or wsd (constant, the last "
     "quarter down to 0)",
     4},
    {"optim", KEY_OPTIM, "NAME", 0,
     "adamw (default), or muon: of full, for the matrices of the blocks", 4},
    {"muon-lr", KEY_MUON, "X", 0,
     "Of what muon learns; --learning-rate is that of the rest; default 0.02", 4},
    {"warmup", KEY_WARMUP, "N", 0, "Steps, or a share of them; default 0.03", 4},
    {"weight-decay", KEY_DECAY, "X", 0, "Default 0.01", 4},
    {"loraplus", KEY_LORAPLUS, "X", 0, "The rate of B in rates of A; 16 is usual; default 1", 4},
    {"max-grad-norm", KEY_NORM, "X", 0, "Default 1; 0: gradients are not clipped", 4},
    {"ewc", KEY_EWC, NULL, 0,
     "Tasks one after the other: hold what those before learned (-a), keep what the next has to",
     4},
    {"ewc-lambda", KEY_LAMBDA, "X", 0, "How firmly; default 2000", 4},
    {"ewc-decay", KEY_EWC_DECAY, "X", 0, "Of what earlier tasks need, by task; default 0.999", 4},
    {"packing", KEY_PACKING, NULL, 0, "Short examples share a sequence, unseen by each other", 4},
    {"no-shuffle", KEY_NO_SHUFFLE, NULL, 0, "In the order of the file", 4},
    {"no-checkpointing", KEY_NO_CHECKPOINTING, NULL, 0, "Keep activations: faster, more memory", 4},
    {"f32", KEY_F32, NULL, 0, "Compute with floats, not bf16", 4},
    {NULL, 0, NULL, 0, "Validation:", 5},
    {"eval-steps", KEY_EVAL, "N", 0, "Steps between two; default: an epoch", 5},
    {"save-steps", KEY_SAVE, "N", 0, "Steps between checkpoints; default: with each validation", 5},
    {"patience", KEY_PATIENCE, "N", 0,
     "End after so many without a better loss; default 3; 0: never", 5},
    {"min-improvement", KEY_IMPROVEMENT, "X", 0, "What counts as better; default 0", 5},
    {0},
};
static const struct argp_child train_children[] = {{&cli_output_argp, 0, NULL, 0},
                                                   {&cli_data_argp, 0, NULL, 0},
                                                   {&cli_common_argp, 0, NULL, 0},
                                                   {0}};
static const struct argp train_argp = {
    .options = train_options,
    .parser = parse_train,
    .children = train_children,
    .doc =
        "Train an adapter on examples. The model's weights stay as they are, quantised or not. "
        "With --fine-tune-type full they are what is trained, and OUT becomes a new model. "
        "Of the validations after its steps the best is written.\v"
        "Examples:\n"
        "  graft train -m DIR -d examples.jsonl -o my-skill\n"
        "  graft train -m model.gguf -d data/ --preset coder --dora -o my-coder\n"
        "  graft train -m DIR -d examples.jsonl -o my-skill --dry-run\n"
        "  graft train -m DIR -d examples.jsonl -o my-skill --resume\n"
        "  graft train -m DIR -d examples.jsonl -o my-model --fine-tune-type full --optim muon\n"
        "  graft train --config train.yaml --preset quick --set lora_alpha=32\n\n"
        "`graft train plot RUN` draws a run, `graft train report RUN` makes a page of it, `graft "
        "train settings` lists the names for --set and --config.\n"};

/* Settings first, whatever stands behind them, then options: the command line is read twice. */
void train_read_words(int argc, char **argv, const graft_train_config *config, struct train_args *a)
{
    *a = (struct train_args){.out.what = "OUT", .samples = 3};
    cli_data_init(&a->data);
    if (config != NULL) {
        train_from_config(config, a);
    } else {
        a->recipe = graft_adapter_recipe_default();
        a->options = graft_train_options_default();
        a->data.fallback = "";
        a->out.optional = true;
    }
    argp_parse(&train_argp, argc, argv, 0, NULL, a);
}
