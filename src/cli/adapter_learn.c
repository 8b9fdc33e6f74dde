/* adapter_learn.c: `graft adapter learn`: an active version, what people said of its answers, and, if the held-out loss is
 * not worse for it, the next version. Nothing is kept beside the registry.
 */
#include "adapter.h"

#include <math.h>

enum {
    KEY_FEEDBACK = 0x800,
    KEY_HELD,
    KEY_RANK,
    KEY_TARGETS,
    KEY_RATE,
    KEY_DECAY,
    KEY_NORM,
    KEY_BUFFER,
    KEY_STEPS,
    KEY_QUALITY,
    KEY_TOLERANCE,
    KEY_SEED,
    KEY_MAX,
    KEY_DRY
};
enum { MAX_TARGETS = 64, ISSUES_SHOWN = 5 };

struct learn_args {
    struct cli_common common;
    graft_learn_options options;
    const char *targets[MAX_TARGETS];
    const char *name, *feedback;
    bool dry_run;
};

/* ---- options ------------------------------------------------------------------------------- */

static void read_targets(struct learn_args *a, struct argp_state *state, char *arg)
{
    char *left = NULL;
    a->options.n_targets = 0;
    for (char *word = strtok_r(arg, ", ", &left); word != NULL;
         word = strtok_r(NULL, ", ", &left)) {
        if (a->options.n_targets == MAX_TARGETS) {
            argp_error(state, "--targets: at most %d names", MAX_TARGETS);
        }
        a->targets[a->options.n_targets++] = word;
    }
    if (a->options.n_targets == 0) {
        argp_error(state, "--targets: the list is empty");
    }
    a->options.targets = a->targets;
}

static void take_name(struct learn_args *a, struct argp_state *state, char *arg)
{
    if (a->name != NULL) {
        argp_error(state, "one adapter, not \"%s\" too", arg);
    }
    if (strchr(arg, '/') != NULL) {
        argp_error(state,
                   "\"%s\" is no name: `graft adapter add PATH --name NAME` registers an adapter, "
                   "and its versions are learned",
                   arg);
    }
    if (strpbrk(arg, "=@") != NULL) {
        argp_error(state, "\"%s\": the active version is learned from: give the name alone", arg);
    }
    a->name = cli_parse_name(state, "NAME", arg);
}

static error_t parse_steps(int key, char *arg, struct argp_state *state)
{
    graft_learn_options *o = &((struct learn_args *)state->input)->options;
    switch (key) {
    case KEY_RATE:
        o->learning_rate = cli_parse_number(state, "--learning-rate", arg, 1e-12, 1000);
        return 0;
    case KEY_DECAY:
        o->weight_decay = cli_parse_number(state, "--weight-decay", arg, 0, 1000);
        return 0;
    case KEY_NORM:
        o->max_grad_norm = cli_parse_number(state, "--max-grad-norm", arg, 0, 1e30);
        return 0;
    case KEY_BUFFER:
        o->buffer = (int)cli_parse_int(state, "--buffer", arg, 1, 65536);
        return 0;
    case KEY_STEPS:
        o->steps = (int)cli_parse_int(state, "--steps", arg, 1, 65536);
        return 0;
    case KEY_QUALITY:
        o->min_quality = cli_parse_number(state, "--min-quality", arg, 0, 1);
        return 0;
    case KEY_TOLERANCE:
        o->tolerance = cli_parse_number(state, "--tolerance", arg, 0, 1e30);
        return 0;
    case KEY_SEED:
        o->seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX);
        return 0;
    case KEY_MAX:
        o->max_seq_length = (int)cli_parse_int(state, "--max-seq-length", arg, 2, 1 << 24);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void check_together(const struct learn_args *a, struct argp_state *state)
{
    if (a->name == NULL) {
        argp_error(state, "which adapter? `graft adapter list` shows the names");
    }
    if (a->feedback == NULL) {
        argp_error(state, "--feedback FILE: answers, each with a \"quality\" or a \"reward\"");
    }
    if (a->options.held_out == NULL) {
        argp_error(state, "--held-out FILE: right answers that the result is checked by");
    }
}

static error_t parse_learn(int key, char *arg, struct argp_state *state)
{
    struct learn_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case KEY_FEEDBACK:
        a->feedback = cli_parse_name(state, "--feedback", arg);
        return 0;
    case KEY_HELD:
        a->options.held_out = cli_parse_name(state, "--held-out", arg);
        return 0;
    case KEY_RANK:
        a->options.rank = (int)cli_parse_int(state, "--rank", arg, 1, 2);
        return 0;
    case KEY_TARGETS:
        read_targets(a, state, arg);
        return 0;
    case KEY_DRY:
        a->dry_run = true;
        return 0;
    case ARGP_KEY_ARG:
        take_name(a, state, arg);
        return 0;
    case ARGP_KEY_END:
        check_together(a, state);
        return 0;
    default:
        return parse_steps(key, arg, state);
    }
}

static const struct argp_option learn_options[] = {
    {"feedback", KEY_FEEDBACK, "FILE", 0,
     "Answers in any format of training data, each with \"quality\" (0 to 1) or \"reward\" (any "
     "number), perhaps \"session\"",
     1},
    {"held-out", KEY_HELD, "FILE", 0, "Right answers, as records, that the result is checked by",
     1},
    {"dry-run", KEY_DRY, NULL, 0, "Learn and check, publish nothing", 1},
    {NULL, 0, NULL, 0, "What is learned:", 3},
    {"rank", KEY_RANK, "R", 0,
     "Ranks beside the adapter's own, 1 or 2 (default); at least those that earlier runs made", 3},
    {"targets", KEY_TARGETS, "LIST", 0, "Modules of the adapter, as q_proj,v_proj; default: all",
     3},
    {"buffer", KEY_BUFFER, "N", 0, "Feedback that is learned from at once; default 64", 3},
    {"steps", KEY_STEPS, "N", 0, "Of the optimiser on each buffer; default 8", 3},
    {"learning-rate", KEY_RATE, "X", 0, "Default 1e-3", 3},
    {"lr", 0, NULL, OPTION_ALIAS, NULL, 3},
    {"weight-decay", KEY_DECAY, "X", 0, "Default 0", 3},
    {"max-grad-norm", KEY_NORM, "X", 0, "Default 1; 0: gradients are not clipped", 3},
    {"min-quality", KEY_QUALITY, "Q", 0, "Leave out feedback whose \"quality\" is less", 3},
    {"tolerance", KEY_TOLERANCE, "X", 0,
     "By which the held-out loss may rise, over all buffers; default 0", 3},
    {"max-seq-length", KEY_MAX, "N", 0, "Tokens of an example; default: min(2048, model)", 3},
    {"seed", KEY_SEED, "N", 0, "Of fresh ranks; default 0", 3},
    {0},
};
static const struct argp_child learn_children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp learn_argp = {
    .options = learn_options,
    .parser = parse_learn,
    .children = learn_children,
    .args_doc = "NAME",
    .doc =
        "Learn from what people say of a registered adapter's answers. Where the loss of the "
        "held-out answers is not worse for it, what was learned becomes the next version and "
        "the active one; else nothing changes, and the status is 1.\v"
        "Examples:\n"
        "  graft adapter learn coder --feedback ratings.jsonl --held-out held-out.jsonl\n"
        "  graft adapter learn coder --feedback ratings.jsonl --held-out held-out.jsonl --dry-run\n"
        "  graft adapter rollback coder\n\n"
        "Lines of feedback:\n"
        "{\"prompt\": \"...\", \"completion\": \"...\", \"quality\": 0.9, \"session\": \"s1\"}\n"
        "{\"messages\": [...], \"reward\": -1}\n"};

/* ---- telling ------------------------------------------------------------------------------- */

struct telling {
    const struct learn_args *args;
    struct cli_progress progress;
    int64_t issues;
};

static bool tell_progress(void *user, uint64_t done, uint64_t total, const char *what)
{
    struct telling *t = user;
    return cli_progress_step(&t->progress, done, total, what);
}

static void tell_verdict(void *user, const graft_learn_verdict *v)
{
    struct telling *t = user;
    if (t->args->common.quiet) {
        return;
    }
    cli_progress_end(&t->progress);
    fprintf(stderr, "buffer %lld: %d examples", (long long)v->number, v->examples);
    if (isnan(v->after)) {
        fprintf(stderr, ", nothing to learn from them\n");
    } else {
        fprintf(stderr, ", held-out loss %.4f -> %.4f, %s\n", v->before, v->after,
                v->kept ? "kept" : "worse: taken back");
    }
    cli_progress_begin(&t->progress, "learning", false);
}

static void tell_issue(void *user, const graft_data_issue *issue)
{
    struct telling *t = user;
    if (!t->args->common.quiet && t->issues < ISSUES_SHOWN) {
        fputs("graft: warning: ", stderr);
        cli_put_text(stderr, issue->file, strlen(issue->file), '?');
        fprintf(stderr, ":%lld: %s: ", (long long)issue->line, issue->dropped ? "left out" : "cut");
        cli_put_text(stderr, issue->reason, strlen(issue->reason), ' ');
        fprintf(stderr, "; %s\n", issue->fix);
    }
    t->issues++;
}

static int print_json(const struct learn_args *a, const graft_learn_state *s,
                      const graft_adapter_id *now)
{
    return cli_print_json(json_pack(
        "{s:s, s:b, s:s, s:s, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "name", a->name,
        "published", now != NULL, "from", s->version, "version",
        now != NULL ? now->version : s->version, "loss_before", s->before, "loss_after", s->now,
        "feedback", (json_int_t)s->taken, "left_out", (json_int_t)s->refused, "sessions",
        (json_int_t)s->sessions, "buffers_kept", (json_int_t)s->kept, "buffers_taken_back",
        (json_int_t)s->reverted, "held_out", (json_int_t)s->held_out, "trained_values",
        (json_int_t)s->trained_values, "baseline", s->baseline));
}

static int print_outcome(const struct learn_args *a, const graft_learn_state *s,
                         const graft_adapter_id *now)
{
    if (a->common.json) {
        return print_json(a, s, now);
    }
    if (now != NULL) {
        printf("published %s@%s: held-out loss %.4f -> %.4f over %lld examples; `graft adapter "
               "rollback %s` goes back to %s\n",
               a->name, now->version, s->before, s->now, (long long)s->held_out, a->name,
               s->version);
    } else if (s->changed) {
        printf("%s@%s could be followed by a better one: held-out loss %.4f -> %.4f over %lld "
               "examples; without --dry-run it is published\n",
               a->name, s->version, s->before, s->now, (long long)s->held_out);
    } else {
        printf("kept %s@%s: nothing that was learned made the held-out loss better than %.4f\n",
               a->name, s->version, s->before);
    }
    return CLI_OK;
}

/* ---- the work ------------------------------------------------------------------------------ */

static int failed(const struct learn_args *a, const graft_error *error)
{
    static const char cancelled[] = "cancelled";
    if (error->status == GRAFT_CANCELLED) {
        return cli_fail_text("interrupted%s",
                             strncmp(error->message, cancelled, 9) == 0 ? error->message + 9 : "");
    }
    char hint[4400] = "";
    if (error->status == GRAFT_NOT_FOUND && strstr(error->message, "is registered") != NULL) {
        char *shipped = cli_shipped_adapter(a->name);
        snprintf(hint, sizeof hint, "`graft adapter add %.4000s --name %.64s` registers %s",
                 shipped != NULL ? shipped : "PATH", a->name,
                 shipped != NULL ? "the one that ships, which stays as it is" : "an adapter");
        mem_free(NULL, shipped);
    }
    return cli_fail_hint(error, hint[0] != '\0' ? hint : NULL);
}

static int learn_all(const struct learn_args *a, graft_learner *learner, struct telling *t)
{
    graft_error error = {0};
    int64_t taken = 0;
    graft_status status = graft_learner_read(learner, a->feedback, tell_issue, t, &taken, &error);
    if (status == GRAFT_OK && t->issues > ISSUES_SHOWN && !a->common.quiet) {
        fprintf(stderr, "graft: warning: %lld records more were left out or cut\n",
                (long long)(t->issues - ISSUES_SHOWN));
    }
    if (status == GRAFT_OK && taken == 0) {
        return cli_fail_text("%s: there is no feedback to learn from", a->feedback);
    }
    if (status == GRAFT_OK) {
        status = graft_learner_flush(learner, &error);
    }
    return status == GRAFT_OK ? CLI_OK : failed(a, &error);
}

static int finish(const struct learn_args *a, graft_learner *learner, struct telling *t)
{
    graft_learn_state state;
    graft_adapter_id id, *now = NULL;
    graft_error error = {0};
    graft_status status = graft_learner_describe(learner, &state, &error);
    if (status == GRAFT_OK && state.changed && !a->dry_run) {
        status = graft_learner_publish(learner, &id, &error);
        now = &id;
    }
    cli_progress_end(&t->progress);
    if (status != GRAFT_OK) {
        return failed(a, &error);
    }
    int done = print_outcome(a, &state, now);
    return done == CLI_OK && !state.changed ? CLI_FAILED : done;
}

static int learn(struct learn_args *a, struct cli_session *s)
{
    struct telling t = {.args = a};
    graft_learner *learner = NULL;
    graft_error error = {0};
    int done;
    a->options.progress = tell_progress;
    a->options.progress_user = &t;
    cli_progress_begin(&t.progress, "checking", a->common.quiet);
    if (graft_learner_open(s->model, s->registry, a->name, &a->options, tell_verdict, &t, &learner,
                           &error) != GRAFT_OK) {
        cli_progress_end(&t.progress);
        return failed(a, &error);
    }
    done = learn_all(a, learner, &t);
    if (done == CLI_OK) {
        done = finish(a, learner, &t);
    }
    cli_progress_end(&t.progress);
    graft_learner_close(&learner);
    return done;
}

int verb_adapter_learn(int argc, char **argv)
{
    struct learn_args args = {.options = graft_learn_options_default()};
    struct cli_session s = {0};
    argp_parse(&learn_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    args.common.pack = args.common.pack != NULL ? args.common.pack : "none";
    int status = cli_open_model(&args.common, &s);
    if (status == CLI_OK) {
        status = cli_open_registry(s.runtime, s.model, NULL, &s.registry);
    }
    if (status == CLI_OK) {
        status = learn(&args, &s);
    }
    cli_close(&s);
    return status;
}
