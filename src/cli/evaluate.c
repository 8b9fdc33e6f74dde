/* evaluate.c: what the verbs that only look at a text share (classify, perplexity, logits): the same options,
 * and the way from a text to an open model and back. What they compute is theirs.
 */
#include "cli.h"

static error_t parse_evaluation(int key, char *arg, struct argp_state *state)
{
    struct cli_evaluation *e = state->input;
    (void)arg;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = &e->input;
        state->child_inputs[1] = &e->session;
        state->child_inputs[2] = &e->common.adapters;
        state->child_inputs[3] = &e->common;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp_child evaluation_children[] = {{&cli_input_argp, 0, NULL, 0},
                                                        {&cli_context_argp, 0, NULL, 0},
                                                        {&cli_adapters_argp, 0, NULL, 0},
                                                        {&cli_common_argp, 0, NULL, 0},
                                                        {0}};
const struct argp cli_evaluation_argp = {.parser = parse_evaluation,
                                         .children = evaluation_children};

void cli_evaluation_init(struct cli_evaluation *e)
{
    *e = (struct cli_evaluation){.session = graft_session_options_default()};
}

int cli_evaluate(const struct cli_evaluation *e, cli_evaluate_fn work, void *args)
{
    char *text = NULL;
    size_t size = 0;
    int status = cli_read_input(&e->input, &text, &size);
    if (status != CLI_OK) {
        return status;
    }
    cli_catch_interrupt(); /* no half-written file is left behind */
    struct cli_session session;
    status = cli_open_model(&e->common, &session);
    if (status == CLI_OK) {
        status = work(&session, args, text, size);
        cli_close(&session);
    }
    mem_free(NULL, text);
    return status;
}
