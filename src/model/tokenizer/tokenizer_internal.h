/* tokenizer_internal.h: the parts of a tokenizer and how they are joined.
 *
 * Text passes through: added tokens that match the raw text → normaliser steps → added tokens that
 * match the normalised text → pre-tokenizer steps, which cut it into words → the model (BPE or
 * unigram), which turns a word into ids. Everything around the vocabulary is one JSON object in the
 * form of tokenizer.json, the *spec*: files of other kinds (vocab.json, GGUF) are read by making the
 * spec they imply, so that there is one reader of settings, and one thing to write back.
 *
 * Internal to this folder. All of it is immutable once open; a call's state lives in struct encoder.
 */
#ifndef GRAFT_TOKENIZER_INTERNAL_H
#define GRAFT_TOKENIZER_INTERNAL_H

#include "model/tokenizer/tokenizer.h"

#define SPACE_MARK "\xE2\x96\x81" /* U+2581, the space of SentencePiece */

enum {
    SPACE_MARK_BYTES = 3,
    MAX_VOCAB = 1 << 24,       /* ids */
    MAX_TOKEN_BYTES = 1 << 16, /* of one stored token */
    MAX_ADDED_BYTES = 512,     /* of one added token: bounds the matcher's work per byte of text */
    MAX_STEPS = 24,            /* normaliser or pre-tokenizer steps */
    MAX_PATTERN_BYTES = 16 << 10, /* of a regular expression from a file */
    MAX_TEXT_BYTES = 1 << 30,     /* of one call */
};

/* ---- vocabulary: id → stored text, text → id ------------------------------------------------- */

/* The values of tokenizer.ggml.token_type. */
enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER,
    TOKEN_UNUSED,
    TOKEN_BYTE
};

struct token {
    const char *text;  /* as stored; NULL: no token has this id */
    const char *bytes; /* what it adds to decoded text */
    uint32_t length, n_bytes;
    double score;
    uint8_t type;
    bool special, added;
};

struct vocab {
    struct mem *mem;
    struct arena strings;
    char *store; /* the rest of the newest block of strings */
    size_t store_left;
    struct token *tokens;
    int32_t count, capacity;
    struct str_map index;
};

void vocab_init(struct vocab *v, struct mem *mem);
void vocab_free(struct vocab *v);
/* Room for ids 0..count-1; those without a text stay empty. */
bool vocab_reserve(struct vocab *v, int32_t count);
/* Copies bytes into the vocabulary's memory, NUL-terminated; NULL: no memory. */
char *vocab_store(struct vocab *v, const char *bytes, size_t size);
/* Gives an id its text. FORMAT when it has another one already. The first id of a text is the one
 * that is found by it. */
graft_status vocab_set(struct vocab *v, int32_t id, const char *text, size_t length,
                       graft_error *error);
int32_t vocab_find(const struct vocab *v, const char *text, size_t length);
/* The byte of a name like <0x0A>, or -1. */
int byte_token_value(const char *text, size_t length);

/* ---- the printable form of bytes that byte-level vocabularies store ---------------------------- */

uint32_t byte_char(uint8_t byte);  /* 0x20 → U+0120 */
int byte_from_char(uint32_t code); /* -1: stands for no byte */
/* Stored text → bytes, at most length of them: false when a character stands for no byte. */
bool bytes_from_chars(const char *text, size_t length, char *out, size_t *size);
bool chars_from_bytes(const char *bytes, size_t size, struct buf *out);

/* ---- patterns: a regular expression or a literal ----------------------------------------------- */

struct pattern;
struct match_state; /* one call's scratch for matching; made at the first use */

/* Compiles what tokenizer.json calls {"Regex": …} in Oniguruma's syntax, or a literal. UNSUPPORTED
 * for a construct that would mean something else in PCRE2 or that can run away. */
graft_status pattern_open(struct mem *mem, const char *text, size_t length, bool literal,
                          struct pattern **out, graft_error *error);
void pattern_close(struct pattern **pattern);
bool pattern_is_literal(const struct pattern *pattern);
const char *pattern_text(const struct pattern *pattern); /* as it was written */
/* The next match at or after `from`; NOT_FOUND when there is none. text is valid UTF-8 unless the
 * pattern is a literal. LIMIT when the search takes too many steps. */
graft_status pattern_find(const struct pattern *p, struct match_state **state, const char *text,
                          size_t size, size_t from, size_t *start, size_t *end, graft_error *error);
void match_state_free(struct match_state **state);
/* Oniguruma's syntax in PCRE2's. */
graft_status regex_translate(const char *text, size_t length, struct buf *out, graft_error *error);

bool utf8_valid(const char *text, size_t size);
/* Length of the longest well-formed prefix. */
size_t utf8_valid_prefix(const char *text, size_t size);

/* ---- normaliser -------------------------------------------------------------------------------- */

enum norm_kind {
    NORM_NFC,
    NORM_NFD,
    NORM_NFKC,
    NORM_NFKD,
    NORM_LOWERCASE,
    NORM_STRIP_ACCENTS,
    NORM_STRIP,
    NORM_REPLACE,
    NORM_PREPEND,
    NORM_CHARSMAP
};

struct charsmap; /* SentencePiece's compiled table of replacements */
struct norm_step {
    enum norm_kind kind;
    bool left, right;        /* STRIP */
    struct pattern *pattern; /* REPLACE */
    char *content;           /* REPLACE, PREPEND */
    size_t content_size;
    struct charsmap *charsmap;
};
struct normalizer {
    struct norm_step steps[MAX_STEPS];
    int count;
};

/* Appends the normal form of text to out. Malformed bytes are kept as they are. `inside`: the text goes on
 * from other text, so nothing is put before it or stripped there. */
graft_status normalize(const struct normalizer *n, struct mem *mem, struct match_state **state,
                       const char *text, size_t size, bool inside, struct buf *out,
                       graft_error *error);
graft_status unicode_normalize(enum norm_kind form, const char *text, size_t size, struct buf *out,
                               graft_error *error);
bool unicode_strip_accents(const char *text, size_t size, struct buf *out);
bool unicode_lowercase(const char *text, size_t size, struct buf *out);
bool unicode_is_space(uint32_t code);
bool unicode_is_word(uint32_t code);
graft_status charsmap_open_base64(struct mem *mem, const char *text, size_t size,
                                  struct charsmap **out, graft_error *error);
void charsmap_close(struct charsmap **map);
bool charsmap_apply(const struct charsmap *map, const char *text, size_t size, struct buf *out);

/* ---- pre-tokenizer ----------------------------------------------------------------------------- */

enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_CONTIGUOUS,
    SPLIT_MERGED_PREVIOUS,
    SPLIT_MERGED_NEXT
};
enum pre_kind {
    PRE_SPLIT,
    PRE_PREFIX_SPACE, /* a space before a piece that does not begin with one */
    PRE_METASPACE,    /* spaces become marks, one is put in front, cut before each mark */
    PRE_BYTE_CHARS    /* bytes become their printable form; only when more steps follow */
};
enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct pre_step {
    enum pre_kind kind;
    struct pattern *pattern;
    enum split_behavior behavior;
    bool invert;
    bool split; /* METASPACE */
    enum prepend_scheme scheme;
    char mark[8];
};
struct pretokenizer {
    struct pre_step steps[MAX_STEPS];
    int count;
    bool byte_level;
    bool chars; /* words come out in the printable form of bytes */
};

/* ---- BPE --------------------------------------------------------------------------------------- */

struct merge {
    uint32_t left, right; /* left UINT32_MAX: free slot */
    uint32_t rank, result;
};
/* (left, right) → (rank, result), open addressing. */
struct merge_table {
    struct mem *mem;
    struct merge *slots;
    size_t count, capacity;
};
bool merge_table_reserve(struct merge_table *m, size_t count);
/* All merges by rank; mem_free them with the tokenizer's memory. NULL: no memory. */
struct merge *merges_in_order(const struct tokenizer *t, size_t *count);
const struct merge *merge_table_get(const struct merge_table *m, uint32_t left, uint32_t right);

struct bpe {
    struct merge_table merges;
    int32_t byte_ids[256];  /* byte-level: the token of each byte; else of <0xNN>; -1: none */
    int32_t ascii_ids[128]; /* not byte-level: the token of each character; -1: none */
    struct str_map words;   /* byte-level with ignore_merges: bytes of a token → id */
    struct str_map extra; /* characters that only occur inside tokens: symbols above the last id */
    int32_t n_extra;
    bool byte_level, byte_fallback, fuse_unk, ignore_merges;
    bool by_score; /* made from scores: pairs with one result share a rank */
};

/* ---- unigram ------------------------------------------------------------------------------------ */

/* Double-array trie over byte strings; value -1: no string ends here. */
struct trie {
    struct mem *mem;
    int32_t *base, *check, *value;
    int32_t size, capacity;
};
struct trie_key {
    const char *text;
    uint32_t length;
    int32_t value;
};
/* Sorts keys, which are not empty. Of equal ones the lowest value counts. NO_MEMORY. */
graft_status trie_build(struct trie *trie, struct mem *mem, struct trie_key *keys, size_t count,
                        graft_error *error);
void trie_free(struct trie *trie);
/* One step from a state (0: the root); -1: there is none. */
static inline int32_t trie_step(const struct trie *t, int32_t state, uint8_t byte)
{
    int32_t next = t->base[state] + byte;
    return next < t->size && t->check[next] == state ? next : -1;
}

struct unigram {
    struct trie trie;
    int32_t byte_ids[256];
    bool byte_fallback;
    double unk_score;
};

/* ---- added tokens -------------------------------------------------------------------------------- */

struct added_token {
    int32_t id;
    const char *text; /* what is looked for: the content, normalised when it says so */
    uint32_t length;
    bool special, lstrip, rstrip, single_word, normalized;
};
struct added_matcher {
    struct trie trie;    /* value: index into tokens */
    bool first[256];     /* bytes that some token begins with */
    bool any, any_plain; /* any at all; any that is not special */
};

/* ---- the tokenizer -------------------------------------------------------------------------------- */

enum model_kind { MODEL_BPE, MODEL_UNIGRAM };

struct tokenizer {
    struct mem *mem;
    enum model_kind kind;
    struct vocab vocab;
    struct normalizer normalizer;
    struct pretokenizer pre;
    struct bpe bpe;
    struct unigram unigram;
    struct added_token *added;
    size_t n_added, added_capacity;
    struct added_matcher raw, normal; /* match raw text; match normalised text */

    /* Words may be cut before each space mark that follows another character: no token crosses. */
    bool cut_at_marks;

    /* decoding */
    bool decode_bytes;               /* byte-level */
    bool decode_fallback;            /* <0xNN> are bytes */
    bool join_spaces;                /* no decoder: tokens are joined by a space */
    bool strip_first;                /* one space at the very beginning is not text */
    char *replace_from, *replace_to; /* in stored texts; NULL: nothing */

    int32_t bos, eos, pad, unk;
    int32_t model_unk; /* what unknown text becomes; -1: nothing */
    bool adds_bos, has_adds_bos;
    char *chat_template;
    char *role_text[4]; /* bos, eos, pad, unk */
    char *spec;         /* tokenizer.json without vocabulary and merges */
};

enum { ROLE_BOS, ROLE_EOS, ROLE_PAD, ROLE_UNK, ROLE_COUNT };

/* ---- building -------------------------------------------------------------------------------------- */

struct tokenizer *tokenizer_new(struct mem *mem); /* NULL: no memory */
/* Reads normalizer, pre_tokenizer, decoder, post_processor, model settings (not its vocabulary or
 * merges) and added_tokens. Tokens of the model must be there already. */
graft_status spec_read(struct tokenizer *t, const json_t *spec, graft_error *error);
graft_status spec_read_normalizer(struct tokenizer *t, const json_t *node, graft_error *error);
graft_status spec_read_pretokenizer(struct tokenizer *t, const json_t *node, graft_error *error);
/* {"String": …} or {"Regex": …}. */
graft_status spec_read_pattern(struct tokenizer *t, const json_t *node, struct pattern **out,
                               graft_error *error);
/* "the tokenizer uses the WHAT NAME, which graft does not support" */
graft_status spec_refuse(graft_error *error, const char *what, const char *name);
/* Adds an added token; flags absent from node are false. One with that id already: kept. */
graft_status added_add(struct tokenizer *t, int32_t id, const json_t *node, graft_error *error);
/* After spec and vocabulary: decoded pieces, byte tables, matchers, roles. */
graft_status tokenizer_finish(struct tokenizer *t, graft_error *error);
/* Keeps the settings of spec (all but vocabulary, merges, added tokens) as text. */
graft_status spec_keep(struct tokenizer *t, const json_t *spec, graft_error *error);
graft_status added_build(struct tokenizer *t, graft_error *error);
/* From tokenizer_config.json or special_tokens_map.json; what is known already stays. */
graft_status config_read(struct tokenizer *t, const json_t *config, graft_error *error);
/* Gives a role its text unless it has one. */
graft_status role_set(struct tokenizer *t, int role, const char *text, graft_error *error);
/* Adds the merge of two stored texts; FORMAT when a part or the result is no token. */
graft_status bpe_add_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right,
                           size_t n_right, uint32_t rank, graft_error *error);
/* "left right" */
graft_status bpe_add_merge_line(struct tokenizer *t, const char *line, size_t length, uint32_t rank,
                                graft_error *error);
/* Merges from the scores of the tokens: every cut of a token into two symbols. */
graft_status bpe_merges_from_scores(struct tokenizer *t, graft_error *error);
graft_status bpe_finish(struct tokenizer *t, graft_error *error);
graft_status unigram_finish(struct tokenizer *t, graft_error *error);
void bpe_free(struct bpe *b);
void unigram_free(struct unigram *u);

/* The pattern of GPT-2, which ByteLevel with use_regex means; and that of Qwen2. */
extern const char gpt2_pattern[];
extern const char qwen2_pattern[];

/* ---- GGUF ---------------------------------------------------------------------------------------- */

/* What surrounds the vocabulary, as JSON; beside the keys that llama.cpp knows. */
#define SPEC_KEY "graft.tokenizer.spec"

enum { PRE_PATTERNS = 6 };
struct pre_rule {
    const char *names; /* separated by spaces; the first is the one that is written */
    const char *patterns[PRE_PATTERNS];
    bool ignore_merges, adds_bos;
};
const struct pre_rule *pre_rule_named(const char *name, size_t length); /* NULL: unknown */
const struct pre_rule *pre_rule_of(const struct tokenizer *t);
/* The spec that GGUF metadata implies; a new reference, NULL with the error set. */
json_t *gguf_spec(const struct tokenizer *t, const struct gguf *g, graft_error *error);
/* The spec with added tokens, as text. */
graft_status spec_text(const struct tokenizer *t, struct buf *out, graft_error *error);

/* ---- encoding ---------------------------------------------------------------------------------------- */

struct bpe_symbol {
    int32_t id;
    uint32_t start, length;
    int32_t prev, next;
};
struct bpe_candidate {
    uint32_t rank;
    int32_t left, right;
    int32_t left_id, right_id;
};
struct viterbi_node {
    double score;
    int32_t id, start; /* start -1: not reached */
};
struct word_cache;

struct encoder {
    const struct tokenizer *t;
    struct mem *mem;
    struct tokens *out;
    graft_error *error;
    int flags;
    bool valid_utf8;
    bool
        inside; /* the next word goes on from text, not from a token or the beginning: no space before it */
    struct match_state *match;
    struct buf normal;
    struct buf scratch[MAX_STEPS + 1];
    struct word_cache *cache;
    struct bpe_symbol *symbols;
    size_t symbols_capacity;
    struct bpe_candidate *heap;
    size_t heap_count, heap_capacity;
    struct viterbi_node *nodes;
    size_t nodes_capacity;
};

/* Cuts a normalised piece into words and encodes each. at_start: the text begins here. */
graft_status pretokenize(struct encoder *e, const char *text, size_t size, bool at_start);
graft_status encode_word(struct encoder *e, const char *word, size_t size);
graft_status bpe_encode(struct encoder *e, const char *word, size_t size);
graft_status unigram_encode(struct encoder *e, const char *word, size_t size);
graft_status encoder_no_memory(struct encoder *e);

/* The next added token in text at or after `from`: false when there is none. start and end are what
 * it takes, with the spaces it eats. */
struct added_match {
    size_t start, end;
    const struct added_token *token;
};
bool added_find(const struct tokenizer *t, const struct added_matcher *m, bool special,
                const char *text, size_t size, size_t from, struct added_match *out);

#endif
