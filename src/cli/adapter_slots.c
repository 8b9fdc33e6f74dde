/* adapter_slots.c: the verbs of `graft adapter` that change what an address means: one change each, and afterwards
 * the name as it is now.
 */
#include "adapter.h"

enum { KEY_JSON = 0x200, KEY_OFF };

typedef graft_status (*slot_change)(graft_registry *registry, const char *address,
                                    graft_error *error);

struct slot_verb {
    slot_change work;
    const char *address; /* what it wants */
    const char *doc;
    const char *hint; /* what to do when the state forbids it; NULL: the error says so itself */
};

struct slot_args {
    const char *address;
    bool json, off;
};

static error_t parse_slot(int key, char *arg, struct argp_state *state)
{
    struct slot_args *a = state->input;
    switch (key) {
    case KEY_JSON:
        a->json = true;
        return 0;
    case KEY_OFF:
        a->off = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->address != NULL) {
            argp_error(state, "unexpected argument \"%s\"", arg);
        }
        if (strpbrk(arg, "/=") != NULL) {
            argp_error(state, "\"%s\" is no NAME[@VERSION]", arg);
        }
        a->address = cli_parse_name(state, "NAME", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->address == NULL) {
            argp_error(state, "which adapter? `graft adapter list` shows them");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option slot_options[] = {
    {"json", KEY_JSON, NULL, 0, "One JSON object on stdout, for machines", 0},
    {0},
};
static const struct argp_option pin_options[] = {
    {"off", KEY_OFF, NULL, 0, "No longer, like `graft adapter unpin`", 0},
    {"json", KEY_JSON, NULL, 0, "One JSON object on stdout, for machines", 0},
    {0},
};

static int change_failed(graft_error *error, const char *hint)
{
    if (error->status == GRAFT_NOT_FOUND) {
        hint = "`graft adapter list` shows what there is";
    } else if (strstr(error->message, "is pinned") != NULL) {
        hint = "`graft adapter unpin` takes the pin away";
    } else if (error->status != GRAFT_STATE) {
        hint = NULL;
    }
    int status = cli_fail_hint(error, hint);
    return error->status == GRAFT_INVALID_ARGUMENT ? CLI_USAGE : status;
}

static int change(const struct slot_args *args, slot_change work, const char *hint)
{
    struct cli_store store;
    graft_error error = {0};
    int status = cli_open_store(&store, true);
    if (status != CLI_OK) {
        return status;
    }
    if (work(store.registry, args->address, &error) != GRAFT_OK) {
        status = change_failed(&error, hint);
    } else {
        char name[80];
        size_t size = strcspn(args->address, "@");
        snprintf(name, sizeof name, "%.*s", (int)size, args->address);
        status = cli_print_entry(&store, name, args->json);
    }
    cli_close_store(&store);
    return status;
}

static int run_slot_verb(const struct slot_verb *verb, int argc, char **argv)
{
    struct slot_args args = {0};
    const struct argp argp = {
        .options = slot_options, .parser = parse_slot, .args_doc = verb->address, .doc = verb->doc};
    argp_parse(&argp, argc, argv, 0, NULL, &args);
    return change(&args, verb->work, verb->hint);
}

/* ---- slots ---- */

int verb_adapter_stage(int argc, char **argv)
{
    static const struct slot_verb verb = {
        graft_registry_stage, "NAME@VERSION",
        "Put a version on standby: `graft adapter promote` makes it the active one.\v"
        "Example:\n  graft adapter stage coder@1.1.0\n",
        "nothing is left to do"};
    return run_slot_verb(&verb, argc, argv);
}

static graft_status promote(graft_registry *registry, const char *address, graft_error *error)
{
    return graft_registry_promote(registry, address, NULL, error);
}

int verb_adapter_promote(int argc, char **argv)
{
    static const struct slot_verb verb = {
        promote, "NAME",
        "Make the version on standby the active one. Sessions that run keep theirs; those that ask "
        "from now on get the new one.\v"
        "Example:\n  graft adapter promote coder\n",
        "`graft adapter stage NAME@VERSION` puts one on standby"};
    return run_slot_verb(&verb, argc, argv);
}

int verb_adapter_publish(int argc, char **argv)
{
    static const struct slot_verb verb = {graft_registry_publish, "NAME@VERSION",
                                          "Make a version active, in one step with staging it.\v"
                                          "Example:\n  graft adapter publish coder@1.1.0\n",
                                          NULL};
    return run_slot_verb(&verb, argc, argv);
}

int verb_adapter_activate(int argc, char **argv)
{
    static const struct slot_verb verb = {
        graft_registry_activate, "NAME@VERSION",
        "Make a version active; another one that is on standby stays there.\v"
        "Example:\n  graft adapter activate coder@1.0.0\n",
        NULL};
    return run_slot_verb(&verb, argc, argv);
}

static graft_status rollback(graft_registry *registry, const char *address, graft_error *error)
{
    return graft_registry_rollback(registry, address, NULL, error);
}

int verb_adapter_rollback(int argc, char **argv)
{
    static const struct slot_verb verb = {
        rollback, "NAME",
        "Make the version active that was so before; again: back to this one.\v"
        "Example:\n  graft adapter rollback coder\n",
        "`graft adapter activate NAME@VERSION` takes any"};
    return run_slot_verb(&verb, argc, argv);
}

/* ---- pins ---- */

static graft_status pin(graft_registry *registry, const char *address, graft_error *error)
{
    return graft_registry_pin(registry, address, true, error);
}

static graft_status unpin(graft_registry *registry, const char *address, graft_error *error)
{
    return graft_registry_pin(registry, address, false, error);
}

int verb_adapter_pin(int argc, char **argv)
{
    static const struct argp argp = {
        .options = pin_options,
        .parser = parse_slot,
        .args_doc = "NAME[@VERSION]",
        .doc =
            "Keep a version, or whichever is active, in memory once a program has opened it, and "
            "guard it from removal.\v"
            "Examples:\n  graft adapter pin coder\n  graft adapter pin --off coder\n"};
    struct slot_args args = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &args);
    return change(&args, args.off ? unpin : pin, NULL);
}

int verb_adapter_unpin(int argc, char **argv)
{
    static const struct slot_verb verb = {unpin, "NAME[@VERSION]",
                                          "Take a pin away.\v"
                                          "Example:\n  graft adapter unpin coder\n",
                                          NULL};
    return run_slot_verb(&verb, argc, argv);
}

/* ---- memory ---- */

int verb_adapter_evict(int argc, char **argv)
{
    static const struct slot_verb verb = {
        graft_registry_evict_everywhere, "NAME[@VERSION]",
        "Have every running program let a version, or the active one, go from its memory: it does "
        "when it next "
        "looks at the registry, or when the last session there that uses it ends. What is opened "
        "afterwards stays as ever, and nothing is deleted.\v"
        "Examples:\n  graft adapter evict coder\n  graft adapter evict coder@1.0.0\n",
        NULL};
    return run_slot_verb(&verb, argc, argv);
}

/* ---- removal ---- */

int verb_adapter_remove(int argc, char **argv)
{
    static const struct argp argp = {
        .options = slot_options,
        .parser = parse_slot,
        .args_doc = "NAME[@VERSION]",
        .doc =
            "Delete a version that is not active, or a name with all its versions. One on standby "
            "is off standby then. What is pinned is refused.\v"
            "Examples:\n  graft adapter remove coder@1.0.0\n  graft adapter remove coder\n"};
    struct slot_args args = {0};
    struct cli_store store;
    graft_error error = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &args);
    int status = cli_open_store(&store, true);
    if (status != CLI_OK) {
        return status;
    }
    if (graft_registry_remove(store.registry, args.address, &error) != GRAFT_OK) {
        status = change_failed(&error, NULL);
    } else if (args.json) {
        status = cli_print_json(json_pack("{s:s}", "removed", args.address));
    } else {
        printf("removed %s\n", args.address);
    }
    cli_close_store(&store);
    return status;
}
