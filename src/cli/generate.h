/* generate.h: what `run` and `chat` share: rendering a conversation, feeding it, streaming an answer.
 * Private to the command line.
 */
#ifndef GRAFT_CLI_GENERATE_H
#define GRAFT_CLI_GENERATE_H

#include "cli.h"

/* What an answer took, for the speed line and for --json. */
struct answer {
    size_t prompt_tokens, tokens;
    double prompt_seconds, seconds;
    double logprob_sum;
    graft_finish finish;
    struct buf text;
    json_t *token_records; /* array; NULL: not wanted, or no memory */
    int top;               /* alternatives per token record; -1: no records wanted */
};
void answer_init(struct answer *a);
void answer_free(struct answer *a);

/* Feeds ids (a progress bar for long prompts). The session keeps what it has. */
int generate_prompt(struct cli_session *s, const graft_token_id *ids, size_t n, bool quiet,
                    struct answer *a);
/* Streams the answer to stdout unless `silent`, gathers it in *a. Ctrl-C ends it as cancelled. */
int generate_answer(struct cli_session *s, int64_t max_tokens, bool silent, struct answer *a);
/* One line of speed on stderr. */
void generate_print_speed(const struct answer *a);
/* The part of --json that every answer has. */
json_t *generate_json(const struct answer *a);

#endif
