/* batch_summary.c: what became of a file of requests: a line for people, an object for machines.
 */
#include "batch.h"

static size_t all_of(const struct batch_index *index)
{
    return index->done + index->failed + index->open;
}

static void tell_interrupted(const struct batch_told *t)
{
    if (!t->output->begun) {
        cli_fail_text("interrupted before anything was asked: results are as they were; the same "
                      "command begins again");
        return;
    }
    cli_fail_text("interrupted: %zu of %zu requests have results; the same command goes on%s",
                  t->index->done + t->index->failed, all_of(t->index),
                  t->output->again == BATCH_OVERWRITE ? ", without --overwrite" : "");
}

/* What failed, for those who see nothing else on stderr. */
static void tell_failed(const struct batch_told *t)
{
    if (t->index->failed > 0) {
        cli_fail_text("%zu of %zu requests failed: %s says why; --retry-failed asks them again",
                      t->index->failed, all_of(t->index), t->output->path);
    }
}

static void tell_counts(const struct batch_told *t)
{
    const struct batch_sums *sums = t->sums;
    const char *again = t->index->failed > 0 ? " (--retry-failed asks them again)" : "";
    size_t all = all_of(t->index);
    if (all == 0) {
        fprintf(stderr, "%s: no requests in it\n", t->input);
        return;
    }
    fprintf(stderr, "%zu requests: %zu done, %zu failed%s; ", all, t->index->done, t->index->failed,
            again);
    if (sums->answered == 0) {
        fprintf(stderr, "all had results already, nothing was asked\n");
        return;
    }
    if (sums->answered < all) {
        fprintf(stderr, "%zu had results already; ", all - sums->answered);
    }
    if (sums->cut_off > 0) {
        fprintf(stderr, "%zu cut off before their schema or grammar ends; ", sums->cut_off);
    }
    fprintf(stderr, "%llu tokens in %.1f s", (unsigned long long)sums->tokens, sums->seconds);
    if (sums->tokens > 0 && sums->seconds > 0) {
        fprintf(stderr, ", %.0f/s", (double)sums->tokens / sums->seconds);
    }
    fputc('\n', stderr);
}

static void tell_drafts(const struct batch_sums *sums)
{
    if (sums->passes > 0) {
        fprintf(stderr, "drafts: %llu of %llu right (%.0f %%), %.2f tokens a pass\n",
                (unsigned long long)sums->accepted, (unsigned long long)sums->drafted,
                sums->drafted > 0 ? 100.0 * (double)sums->accepted / (double)sums->drafted : 0,
                (double)sums->tokens / (double)sums->passes);
    }
}

static json_t *drafts_json(const struct batch_sums *sums)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "passes", (json_int_t)sums->passes, "tokens",
                     (json_int_t)sums->tokens, "drafted", (json_int_t)sums->drafted, "accepted",
                     (json_int_t)sums->accepted);
}

static int print_json(const struct batch_told *t)
{
    const struct batch_index *index = t->index;
    const struct batch_sums *sums = t->sums;
    json_t *json = json_object();
    json_put(&json, "output", json_any_text(t->output->path, strlen(t->output->path)));
    json_put(&json, "requests", json_integer((json_int_t)all_of(index)));
    json_put(&json, "done", json_integer((json_int_t)index->done));
    json_put(&json, "failed", json_integer((json_int_t)index->failed));
    json_put(&json, "remaining", json_integer((json_int_t)index->open));
    json_put(&json, "answered", json_integer((json_int_t)sums->answered));
    json_put(&json, "cut_off", json_integer((json_int_t)sums->cut_off));
    json_put(&json, "interrupted", json_boolean(cli_interrupted()));
    json_put(&json, "prompt_tokens", json_integer((json_int_t)sums->prompt_tokens));
    json_put(&json, "cached_tokens", json_integer((json_int_t)sums->cached_tokens));
    json_put(&json, "tokens", json_integer((json_int_t)sums->tokens));
    json_put(&json, "seconds", json_real(sums->seconds));
    json_put(&json, "adapters_opened", json_integer((json_int_t)t->adapters->opened));
    json_put(&json, "adapter_bytes", json_integer((json_int_t)t->adapters->most));
    if (t->drafts) {
        json_put(&json, "drafts", drafts_json(sums));
    }
    return cli_print_json(json);
}

int batch_tell(const struct batch_told *t, const struct cli_common *common)
{
    bool counts = !common->quiet && !common->json;
    if (cli_interrupted()) {
        tell_interrupted(t);
    } else if (counts) {
        tell_counts(t);
    } else {
        tell_failed(t);
    }
    if (t->drafts && (counts || common->verbose)) {
        tell_drafts(t->sums);
    }
    int status = common->json ? print_json(t) : CLI_OK;
    return status == CLI_OK && (t->index->failed > 0 || t->index->open > 0) ? CLI_FAILED : status;
}
