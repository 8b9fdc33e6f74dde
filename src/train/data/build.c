/* build.c: the bytes of one source become examples of a dataset, and issues.
 *
 * A record that fails costs itself; memory, and a caller who cancels, end the reading. Examples longer than max_len
 * are cut at their end, and dropped when nothing to learn is left.
 */
#include "train/data/data_internal.h"

enum { TEXT_BYTES = 1 << 30 };

static graft_status out_of_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for training data");
}

/* ---- what is kept -------------------------------------------------------------------------- */

bool names_find(struct names *n, struct text text, int32_t *out)
{
    *out = str_map_get(&n->map, text.data, text.size);
    if (*out >= 0) {
        return true;
    }
    if (n->count == n->capacity) {
        int32_t capacity = n->capacity > 0 ? 2 * n->capacity : 16;
        char **grown = mem_resize(n->map.mem, n->text, (size_t)capacity * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        n->text = grown;
        n->capacity = capacity;
    }
    char *copy = arena_strndup(n->arena, text.data, text.size);
    if (copy == NULL || !str_map_put(&n->map, copy, text.size, n->count, NULL)) {
        return false;
    }
    n->text[n->count] = copy;
    *out = n->count++;
    return true;
}

static bool issue_room(struct dataset *d)
{
    if (d->n_issues < d->issue_capacity) {
        return true;
    }
    int64_t capacity = d->issue_capacity > 0 ? 2 * d->issue_capacity : 64;
    struct data_issue *grown = mem_resize(d->mem, d->issues, (size_t)capacity * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    d->issues = grown;
    d->issue_capacity = capacity;
    return true;
}

/* A copy in one line, whatever a file put into it. */
static char *one_line(struct arena *arena, const char *text)
{
    char *copy = arena_strndup(arena, text, strlen(text));
    for (char *c = copy; c != NULL && *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x20 || *c == 0x7F ? ' ' : *c;
    }
    return copy;
}

graft_status issue_add(struct dataset *d, enum data_issue_kind kind, int file, int64_t line,
                       const struct why *why, graft_error *error)
{
    d->stats.dropped += kind == DATA_DROPPED;
    d->stats.truncated += kind == DATA_TRUNCATED;
    if (d->n_issues == DATA_ISSUES_KEPT) {
        return GRAFT_OK;
    }
    char *kept = one_line(&d->arena, why->error.message);
    char *fix = one_line(&d->arena, why->fix);
    if (kept == NULL || fix == NULL || !issue_room(d)) {
        return out_of_memory(error);
    }
    d->issues[d->n_issues++] = (struct data_issue){kind, file, line, kept, fix};
    return GRAFT_OK;
}

static bool example_room(struct dataset *d)
{
    if (d->n_examples < d->capacity) {
        return true;
    }
    int64_t capacity = d->capacity > 0 ? 2 * d->capacity : 256;
    struct stored *grown = mem_resize(d->mem, d->own_examples, (size_t)capacity * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    d->own_examples = grown;
    d->capacity = capacity;
    return true;
}

/* n_tok + 1 ids with their marks become an example; marks are those of the next token. */
static graft_status keep(struct builder *b, const graft_token_id *ids, const uint8_t *next,
                         const struct stored *facts)
{
    struct dataset *d = b->d;
    size_t n = (size_t)facts->n_tok;
    struct stored s = *facts;
    s.at = d->own_ids.count;
    if (!example_room(d) || !buf_reserve(&d->own_learned, n + 1)) {
        return GRAFT_NO_MEMORY;
    }
    for (size_t i = 0; i <= n; i++) {
        if (!tokens_push(&d->own_ids, ids[i])) {
            return GRAFT_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < n; i++) {
        d->own_learned.data[d->own_learned.size + i] = (char)next[i + 1];
        s.n_learned += next[i + 1];
    }
    d->own_learned.data[d->own_learned.size + n] = 0;
    d->own_learned.size += n + 1;
    d->own_examples[d->n_examples++] = s;
    return GRAFT_OK;
}

/* ---- one example --------------------------------------------------------------------------- */

/* The last id that is learned, in 1..most; 0: none is. */
static size_t last_learned(const struct encoded *e, size_t most)
{
    size_t last = e->ids.count > 0 ? e->ids.count - 1 : 0;
    for (last = last < most ? last : most; last > 0 && !e->learned.data[last]; last--) {
    }
    return last;
}

static graft_status check_ids(const struct builder *b, const struct encoded *e, bool classes,
                              struct why *why)
{
    for (size_t i = 0; i + classes < e->ids.count; i++) {
        if (e->ids.ids[i] < 0 || e->ids.ids[i] >= b->model->n_vocab) {
            return why_drop(why, "remove that token from the text",
                            "its token %d is beyond the model's vocabulary of %d",
                            (int)e->ids.ids[i], b->model->n_vocab);
        }
    }
    return GRAFT_OK;
}

static void note_length(struct builder *b, size_t n_tok)
{
    struct data_stats *stats = &b->d->stats;
    if ((int64_t)n_tok > stats->longest) {
        stats->longest = (int)n_tok;
        stats->longest_file = b->file;
        stats->longest_line = b->line;
    }
}

static graft_status note_cut(struct builder *b, size_t whole, size_t kept, struct why *why,
                             graft_error *error)
{
    int64_t learned = 0;
    for (size_t i = kept + 1; i <= whole; i++) {
        learned += b->scratch.learned.data[i];
    }
    b->d->stats.tokens_cut += (int64_t)(whole - kept);
    char fix[96];
    snprintf(fix, sizeof fix, "raise --max-seq-length to %zu, or split it", whole);
    why_drop(why, fix, "of its %zu tokens the last %zu are cut off, %lld of them to be learned",
             whole, whole - kept, (long long)learned);
    return issue_add(b->d, DATA_TRUNCATED, b->file, b->line, why, error);
}

/* Fills in what the record says of its examples. False: no memory. */
static bool record_facts(struct builder *b, const struct record *r, struct stored *s)
{
    *s = (struct stored){.line = b->line,
                         .record = b->record,
                         .weight = (float)(r->quality * r->weight),
                         .task = -1,
                         .domain = -1,
                         .file = b->file,
                         .part = (uint8_t)b->part,
                         .format = (uint8_t)r->format,
                         .rewarded = r->rewarded,
                         .reward = (float)r->reward};
    if (r->session.size > 0) {
        if (!names_find(&b->d->names, r->session, &s->session)) {
            return false;
        }
        s->session++;
    }
    return (r->task.size == 0 || names_find(&b->d->names, r->task, &s->task)) &&
           (r->domain.size == 0 || names_find(&b->d->names, r->domain, &s->domain));
}

static graft_status keep_sheet(struct builder *b, const struct sheet *sheet, struct why *why)
{
    const struct encoded *e = &b->scratch;
    struct stored facts;
    graft_status status = sheet_encode(&b->maker, sheet, &b->scratch, why);
    if (status == GRAFT_OK) {
        status = check_ids(b, e, sheet->label >= 0, why);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    size_t whole = last_learned(e, SIZE_MAX), most = (size_t)b->d->options.max_len;
    size_t kept = last_learned(e, most);
    if (whole > INT32_MAX - 1) {
        return why_drop(why, "split it", "it has %zu tokens", whole);
    }
    note_length(b, whole);
    if (whole > most && (kept == 0 || sheet->label >= 0)) {
        char fix[96];
        snprintf(fix, sizeof fix, "raise --max-seq-length to %zu, or shorten what comes before",
                 whole);
        return why_drop(why, fix, "nothing to learn is in its first %zu tokens", most);
    }
    if (kept == 0) {
        return why_drop(why, "remove the record", "it has nothing to learn");
    }
    if (!record_facts(b, b->now, &facts)) {
        return why_no_memory(why);
    }
    facts.truncated = whole > most;
    facts.n_tok = (int32_t)kept;
    if (facts.truncated && note_cut(b, whole, kept, why, &why->error) != GRAFT_OK) {
        return GRAFT_NO_MEMORY;
    }
    status = keep(b, e->ids.ids, (const uint8_t *)e->learned.data, &facts);
    return status == GRAFT_OK ? GRAFT_OK : why_no_memory(why);
}

/* A sheet_fn. One sheet of several may be dropped without the others. */
static graft_status take_sheet(void *user, const struct sheet *sheet, struct why *why)
{
    struct builder *b = user;
    graft_status status = keep_sheet(b, sheet, why);
    if (status == GRAFT_FORMAT) {
        return issue_add(b->d, DATA_DROPPED, b->file, b->line, why, &why->error);
    }
    b->made += status == GRAFT_OK;
    return status;
}

/* ---- one record ---------------------------------------------------------------------------- */

static graft_status check_worth(const struct builder *b, const struct record *r, struct why *why)
{
    if (r->quality < b->d->options.min_quality) {
        b->d->stats.below_quality++;
        return why_drop(why, "lower --min-quality to keep it", "its quality %g is below %g",
                        r->quality, b->d->options.min_quality);
    }
    if (!((float)(r->quality * r->weight) > 0)) {
        return why_drop(why, "remove the record, or give it a weight", "its weight is 0");
    }
    if (b->d->names.count >= DATA_NAMES) {
        return why_drop(why, "use fewer names of tasks and domains",
                        "there are more than %d tasks and domains", DATA_NAMES);
    }
    return GRAFT_OK;
}

static graft_status take_record(struct builder *b, struct text bytes, struct why *why)
{
    struct record r;
    struct data_stats *stats = &b->d->stats;
    b->made = 0;
    graft_status status = record_read(b->d->mem, &b->rules, bytes.data, bytes.size, &r, why);
    if (status == GRAFT_OK) {
        status = check_worth(b, &r, why);
    }
    if (status == GRAFT_OK) {
        b->now = &r;
        status = sheets_make(&b->maker, &r, take_sheet, b, &stats->reopened, why);
        b->now = NULL;
    }
    if (b->made > 0) {
        stats->formats[r.format]++;
        stats->divided += b->made > 1;
    }
    record_free(&r);
    return status;
}

static graft_status tell(struct builder *b, size_t at, graft_error *error)
{
    const struct data_options *o = &b->d->options;
    if (o->progress == NULL || o->progress(o->progress_user, b->done + at, b->total, "reading")) {
        return GRAFT_OK;
    }
    return error_set(error, GRAFT_CANCELLED, "cancelled");
}

graft_status build_records(struct builder *b, const char *bytes, size_t size, graft_error *error)
{
    struct records records;
    struct text record;
    const char *broken;
    graft_status status = GRAFT_OK;
    records_begin(&records, bytes, size);
    while (status == GRAFT_OK && records_next(&records, &record, &b->line, &broken)) {
        struct why why = {0};
        b->d->stats.records++;
        status = broken != NULL ? why_drop(&why, "write the file again", "%s", broken)
                                : take_record(b, record, &why);
        if (status == GRAFT_FORMAT) {
            status = issue_add(b->d, DATA_DROPPED, b->file, b->line, &why, error);
        } else if (status != GRAFT_OK && error != NULL) {
            *error = why.error;
        }
        b->record++;
        if (status == GRAFT_OK && b->record % 64 == 0) {
            status = tell(b, records.at, error);
        }
    }
    return status;
}

/* ---- texts in windows ---------------------------------------------------------------------- */

static int64_t newlines(const struct builder *b, const graft_token_id *ids, size_t n)
{
    struct buf text;
    int64_t count = 0;
    buf_init(&text, b->d->mem, SIZE_MAX);
    tokenizer_decode(b->model->tokenizer, ids, n, true, &text, NULL);
    for (size_t i = 0; i < text.size; i++) {
        count += text.data[i] == '\n';
    }
    buf_free(&text);
    return count;
}

/* One window: ids[at, …) of n, behind BOS where texts begin with it, which then predicts only at the beginning of the
 * text. Returns how many ids it takes; the next one begins there. */
static size_t cut_window(struct builder *b, const struct tokens *ids, size_t at, bool bos)
{
    struct encoded *e = &b->scratch;
    size_t fed = (size_t)b->d->options.max_len, left = ids->count - at;
    size_t own = bos ? fed : fed + 1; /* with what follows the last one fed */
    own = own < left ? own : left;
    encoded_clear(e);
    bool ok = !bos || tokens_push(&e->ids, tokenizer_bos(b->model->tokenizer));
    for (size_t i = 0; i < own && ok; i++) {
        ok = tokens_push(&e->ids, ids->ids[at + i]);
    }
    if (!ok || !buf_reserve(&e->learned, e->ids.count)) {
        return 0;
    }
    memset(e->learned.data, 1, e->ids.count);
    e->learned.size = e->ids.count;
    if (bos && at > 0) {
        e->learned.data[1] = 0;
    }
    return own == left ? left : own - 1;
}

static graft_status keep_window(struct builder *b, const struct tokens *ids, size_t at, bool bos,
                                size_t *taken, graft_error *error)
{
    static const struct record plain = {.format = DATA_FORMAT_FILE, .quality = 1, .weight = 1};
    struct stored facts;
    struct why why = {0};
    const struct encoded *e = &b->scratch;
    *taken = cut_window(b, ids, at, bos);
    if (*taken == 0 || !record_facts(b, &plain, &facts)) {
        return out_of_memory(error);
    }
    graft_status status = check_ids(b, e, false, &why);
    size_t kept = last_learned(e, SIZE_MAX);
    if (status != GRAFT_OK) {
        return issue_add(b->d, DATA_DROPPED, b->file, b->line, &why, error);
    }
    if (kept == 0) { /* one token is left, and was the last one's target */
        return GRAFT_OK;
    }
    facts.n_tok = (int32_t)kept;
    note_length(b, kept);
    b->d->stats.formats[DATA_FORMAT_FILE]++;
    return keep(b, e->ids.ids, (const uint8_t *)e->learned.data, &facts) == GRAFT_OK
               ? GRAFT_OK
               : out_of_memory(error);
}

graft_status build_text(struct builder *b, const char *bytes, size_t size, graft_error *error)
{
    const struct tokenizer *t = b->model->tokenizer;
    struct tokens ids = {.mem = b->d->mem};
    graft_token_id eos = tokenizer_eos(t);
    bool bos = tokenizer_adds_bos(t);
    struct why why = {0};
    b->line = 1;
    if (b->d->options.loss == DATA_LOSS_ASSISTANT || b->d->options.loss == DATA_LOSS_COMPLETION ||
        b->d->options.verdicts == DATA_VERDICTS_FEEDBACK || b->model->n_labels > 0 ||
        size > TEXT_BYTES || size == 0) {
        b->d->stats.records++;
        const char *reason = size == 0           ? "the file is empty"
                             : size > TEXT_BYTES ? "a text of more than 1 GiB is too long"
                             : b->model->n_labels > 0
                                 ? "a classifier learns from a text and a label"
                             : b->d->options.verdicts == DATA_VERDICTS_FEEDBACK
                                 ? "a plain text does not say how good it is"
                                 : "a text has nothing but itself to learn";
        why_drop(&why, size > TEXT_BYTES ? "split it" : "use --loss all, or other data", "%s",
                 reason);
        return issue_add(b->d, DATA_DROPPED, b->file, 1, &why, error);
    }
    size_t mark = size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    graft_status status =
        tokenizer_encode(t, bytes + mark, size - mark, TOKENIZE_SPECIAL, &ids, error);
    if (status == GRAFT_OK && eos >= 0 && !tokens_push(&ids, eos)) {
        status = out_of_memory(error);
    }
    for (size_t at = 0, taken; at < ids.count && status == GRAFT_OK; at += taken) {
        b->d->stats.records++;
        status = keep_window(b, &ids, at, bos, &taken, error);
        b->line += status == GRAFT_OK ? newlines(b, ids.ids + at, taken) : 0;
        b->record++;
        if (status == GRAFT_OK) {
            status = tell(b, size / ids.count * at, error);
        }
    }
    tokens_free(&ids);
    return status;
}
