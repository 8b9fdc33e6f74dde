/* version.c: `graft version`: what was built, and what this machine makes of it. */
#include "cli.h"

enum { KEY_JSON = 0x200 };

static error_t parse_version(int key, char *arg, struct argp_state *state)
{
    bool *json = state->input;
    if (key == KEY_JSON) {
        *json = true;
        return 0;
    }
    if (key == ARGP_KEY_ARG) {
        argp_error(state, "unexpected argument \"%s\"", arg);
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp_option version_options[] = {
    {"json", KEY_JSON, NULL, 0, "One JSON object", 0},
    {0},
};
static const struct argp version_argp = {
    .options = version_options,
    .parser = parse_version,
    .doc = "Print the version, the compiler, the processor and the kernel tiers it can run. "
           "GRAFT_TIER=scalar (or another of them) lowers the tier.\v"
           "Example:\n  graft version --json\n"};

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

int verb_version(int argc, char **argv)
{
    bool json = false;
    argp_parse(&version_argp, argc, argv, 0, NULL, &json);
    struct cli_common common = {0};
    graft_runtime *runtime = NULL;
    int status = cli_open_runtime(&common, &runtime);
    if (status != CLI_OK) {
        return status;
    }
    graft_runtime_info info;
    graft_error error = {0};
    if (graft_runtime_describe(runtime, &info, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    } else if (json) {
        status = cli_print_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i}", "version",
                                          graft_version(), "compiler", COMPILER, "processor",
                                          info.processor, "tier", info.tier, "tiers", info.tiers,
                                          "cores", info.cores, "threads", info.threads));
    } else {
        printf("graft %s\n", graft_version());
        printf("  built with  %s\n", COMPILER);
        printf("  processor   %s, %d cores\n", info.processor, info.cores);
        printf("  tiers       %s (in use: %s)\n", info.tiers, info.tier);
    }
    graft_runtime_close(&runtime);
    return status;
}
