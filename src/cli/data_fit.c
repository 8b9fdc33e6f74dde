/* data_fit.c: `graft data fit`: the factors of one module from vectors, as an adapter.
 *
 * Options are read, one fit is run and written, and what came of it is told, in a line or as JSON. Whether a fit succeeded is
 * the library's to say: what it gives has losses that are numbers.
 */
#include "adapter.h"
#include "data.h"

#include <math.h>

enum {
    KEY_MODULE = 0xA00,
    KEY_RANK,
    KEY_ALPHA,
    KEY_EPOCHS,
    KEY_BATCH,
    KEY_RATE,
    KEY_DECAY,
    KEY_NORM,
    KEY_SHARE,
    KEY_QUALITY,
    KEY_SEED,
    KEY_JSON
};

struct fit_args {
    struct cli_output out;
    graft_fit_options options;
    const char *path, *module;
    int threads;
    bool json, quiet;
};

static error_t parse_numbers(int key, char *arg, struct argp_state *state)
{
    graft_fit_options *o = &((struct fit_args *)state->input)->options;
    switch (key) {
    case KEY_RANK:
        o->rank = (int)cli_parse_int(state, "--rank", arg, 1, 4096);
        return 0;
    case KEY_ALPHA:
        o->alpha = cli_parse_number(state, "--alpha", arg, 1e-6, 1e6);
        return 0;
    case KEY_EPOCHS:
        o->num_epochs = (int)cli_parse_int(state, "--epochs", arg, 1, 1000000);
        return 0;
    case KEY_BATCH:
        o->batch_size = (int)cli_parse_int(state, "--batch-size", arg, 1, 1 << 20);
        return 0;
    case KEY_RATE:
        o->learning_rate = cli_parse_number(state, "--learning-rate", arg, 1e-12, 1000);
        return 0;
    case KEY_DECAY:
        o->weight_decay = cli_parse_number(state, "--weight-decay", arg, 0, 1000);
        return 0;
    case KEY_NORM:
        o->max_grad_norm = cli_parse_number(state, "--max-grad-norm", arg, 0, 1e30);
        return 0;
    case KEY_SHARE:
        o->valid_share = cli_parse_number(state, "--valid-share", arg, 0, 0.99);
        return 0;
    case KEY_QUALITY:
        o->min_quality = cli_parse_number(state, "--min-quality", arg, 0, 1);
        return 0;
    case KEY_SEED:
        o->seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_fit(int key, char *arg, struct argp_state *state)
{
    struct fit_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->out;
        return 0;
    case KEY_MODULE:
        a->module = cli_parse_name(state, "--module", arg);
        return 0;
    case 't':
        a->threads = (int)cli_parse_int(state, "--threads", arg, 1, 1024);
        return 0;
    case 'q':
        a->quiet = true;
        return 0;
    case KEY_JSON:
        a->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->path != NULL) {
            argp_error(state, "one file, not \"%s\" too", arg);
        }
        a->path = cli_parse_name(state, "FILE", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->path == NULL) {
            argp_error(state, "which vectors? give a file; `graft data generate` makes one");
        }
        return 0;
    default:
        return parse_numbers(key, arg, state);
    }
}

static const struct argp_option fit_options[] = {
    {"module", KEY_MODULE, "NAME", 0,
     "What the adapter is of; default: model.layers.0.self_attn.q_proj", 1},
    {"rank", KEY_RANK, "R", 0, "Default 8", 2},
    {"alpha", KEY_ALPHA, "A", 0, "The scale is A / R; default 16", 2},
    {"epochs", KEY_EPOCHS, "N", 0, "Default 10", 2},
    {"batch-size", KEY_BATCH, "N", 0, "Default 32", 2},
    {"learning-rate", KEY_RATE, "X", 0, "Of AdamW; default 2e-3", 2},
    {"lr", 0, NULL, OPTION_ALIAS, NULL, 2},
    {"weight-decay", KEY_DECAY, "X", 0, "Default 0", 2},
    {"max-grad-norm", KEY_NORM, "X", 0, "Default 1; 0: gradients are not clipped", 2},
    {"valid-share", KEY_SHARE, "S", 0, "Share of the examples that is held out; default 0.2", 2},
    {"min-quality", KEY_QUALITY, "Q", 0, "Leave out examples whose quality is less", 2},
    {"seed", KEY_SEED, "N", 0, "Of A, of the split and of the order; default 0", 2},
    {"threads", 't', "N", 0, "Default: one per core; results are the same", 3},
    {"quiet", 'q', NULL, 0, "No progress", 3},
    {"json", KEY_JSON, NULL, 0, "One JSON object on stdout, for machines", 3},
    {0},
};
static const struct argp_child fit_children[] = {{&cli_output_folder_argp, 0, NULL, 0}, {0}};
static const struct argp fit_argp = {
    .options = fit_options,
    .parser = parse_fit,
    .children = fit_children,
    .args_doc = "FILE",
    .doc = "Fit the low-rank factors of one module to vectors: y = x + scale B A x to their "
           "targets, by squared errors that their quality weighs.\v"
           "Example:\n"
           "  graft data fit vectors.jsonl --rank 4 -o my-module\n"};

static int tell(const struct fit_args *a, const graft_fit_info *f)
{
    if (a->json) {
        json_t *json =
            json_pack("{s:o, s:s, s:I, s:I, s:I, s:i, s:i, s:i, s:f, s:f}", "output",
                      json_any_text(a->out.path, strlen(a->out.path)), "module", a->module,
                      "examples", (json_int_t)f->examples, "held_out", (json_int_t)f->held, "steps",
                      (json_int_t)f->steps, "rank", f->rank, "n_in", f->n_in, "n_out", f->n_out,
                      "loss_before", f->first_loss, "loss", f->last_loss);
        if (!isnan(f->last_valid)) {
            json_put(&json, "valid_loss_before", json_real(f->first_valid));
            json_put(&json, "valid_loss", json_real(f->last_valid));
        }
        return cli_print_json(json);
    }
    printf("%s: rank %d of %s, %lld steps on %lld examples, loss %.4g -> %.4g", a->out.path,
           f->rank, a->module, (long long)f->steps, (long long)f->examples, f->first_loss,
           f->last_loss);
    if (!isnan(f->last_valid)) {
        printf(", of %lld held out %.4g -> %.4g", (long long)f->held, f->first_valid,
               f->last_valid);
    }
    putchar('\n');
    return CLI_OK;
}

static int fit(struct fit_args *a, graft_runtime *runtime, const graft_vectors *v)
{
    struct cli_progress progress;
    graft_fit *result = NULL;
    graft_fit_info info;
    graft_error error = {0};
    a->options.progress = cli_progress_step;
    a->options.progress_user = &progress;
    cli_progress_begin(&progress, "fitting", a->quiet);
    graft_status status = graft_fit_run(runtime, v, &a->options, &result, &error);
    cli_progress_end(&progress);
    if (status == GRAFT_OK) {
        status = graft_fit_describe(result, &info, &error);
    }
    if (status == GRAFT_OK) {
        status = graft_fit_write(result, a->module, a->out.path, &error);
    }
    int done = status == GRAFT_OK ? tell(a, &info) : cli_fail_writing(&error);
    graft_fit_close(&result);
    return done;
}

int verb_data_fit(int argc, char **argv)
{
    struct fit_args args = {.out.what = "DIR",
                            .options = graft_fit_options_default(),
                            .module = "model.layers.0.self_attn.q_proj"};
    struct cli_common common = {.threads = 0};
    graft_runtime *runtime = NULL;
    graft_vectors *v = NULL;
    graft_error error = {0};
    argp_parse(&fit_argp, argc, argv, 0, NULL, &args);
    common.threads = args.threads;
    cli_catch_interrupt();
    int done = cli_open_runtime(&common, &runtime);
    if (done == CLI_OK && graft_vectors_read(runtime, args.path, &v, &error) != GRAFT_OK) {
        done = cli_fail(&error);
    }
    if (done == CLI_OK) {
        done = fit(&args, runtime, v);
    }
    graft_vectors_close(&v);
    graft_runtime_close(&runtime);
    return done;
}
