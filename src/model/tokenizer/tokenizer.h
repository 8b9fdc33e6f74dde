/* tokenizer.h: text ↔ token ids.
 *
 * Three algorithms behind one object: byte-level BPE, SentencePiece-style BPE (by score or by
 * merges) and unigram, with added and special tokens, normalisers and pre-tokenizers. Loaded from
 * tokenizer.json, vocab.json + merges.txt or GGUF metadata. Immutable after open, so any number of
 * threads may encode and decode with one tokenizer at a time. Files are untrusted.
 */
#ifndef GRAFT_TOKENIZER_H
#define GRAFT_TOKENIZER_H

#include "base/base.h"
#include "formats/formats.h"

struct tokenizer;

/* From an HF directory: tokenizer.json, else vocab.json + merges.txt (byte-level BPE, Qwen2/GPT-2
 * split chosen by tokenizer_config.json's tokenizer_class), with tokenizer_config.json's
 * added_tokens_decoder, bos/eos/pad. Settings for truncation and padding are ignored. NOT_FOUND when
 * the directory has none of these files. */
graft_status tokenizer_open_dir(struct mem *mem, const char *dir, struct tokenizer **out,
                                graft_error *error);
/* The parser alone: pure, fuzzed. `config` is tokenizer_config.json or NULL. */
graft_status tokenizer_parse_json(struct mem *mem, const char *text, size_t size,
                                  const json_t *config, struct tokenizer **out, graft_error *error);
graft_status tokenizer_parse_vocab_merges(struct mem *mem, const char *vocab, size_t vocab_size,
                                          const char *merges, size_t merges_size,
                                          const json_t *config, struct tokenizer **out,
                                          graft_error *error);
/* From tokenizer.ggml.* (models gpt2 with its `pre`, llama, t5/unigram). NOT_FOUND: no vocabulary. */
graft_status tokenizer_open_gguf(struct mem *mem, const struct gguf *g, struct tokenizer **out,
                                 graft_error *error);
void tokenizer_close(struct tokenizer **tokenizer);

enum {
    TOKENIZE_BOS = 1,
    TOKENIZE_SPECIAL = 2, /* parse special tokens in the text */
    TOKENIZE_CONTINUE =
        4 /* the text goes on from what is in `out`: no space is put before it but where one
                             would stand behind the last token there anyway */
};

/* Growable ids. Zero-initialise; free with tokens_free. */
struct tokens {
    struct mem *mem;
    graft_token_id *ids;
    size_t count, capacity;
};
bool tokens_push(struct tokens *t, graft_token_id id);
void tokens_free(struct tokens *t);

/* Appends the ids of text (any bytes; malformed UTF-8 is encoded byte by byte where the vocabulary
 * can, else as the unknown token). TOKENIZE_BOS puts BOS first where the model has one. */
graft_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int flags,
                              struct tokens *out, graft_error *error);

/* Appends the exact bytes of the ids, malformed UTF-8 included. Special tokens are left out unless
 * with_special. The dummy prefix space that encoding added is removed at the very beginning only. */
graft_status tokenizer_decode(const struct tokenizer *t, const graft_token_id *ids, size_t n,
                              bool with_special, struct buf *out, graft_error *error);

/* Streaming: pieces join to what tokenizer_decode gives, and never break a UTF-8 sequence: bytes of an
 * unfinished character are held back; what can never finish, and at flush what never did, becomes
 * U+FFFD. Zero-initialise; a stream that continues a text sets started, so that the space of its
 * first token stays. */
struct detokenizer {
    char held[8];
    int n_held;
    bool started;
};
graft_status detokenizer_push(struct detokenizer *d, const struct tokenizer *t, graft_token_id id,
                              bool with_special, struct buf *out, graft_error *error);
graft_status detokenizer_flush(struct detokenizer *d, struct buf *out, graft_error *error);
/* Whether its bytes are what a push can leave: nothing, or the beginning of a character. */
bool detokenizer_is_sound(const struct detokenizer *d);

/* Facts. */
int32_t tokenizer_size(const struct tokenizer *t); /* ids are 0..size-1 */
const char *
tokenizer_kind(const struct tokenizer *t); /* "byte-level BPE", "SentencePiece BPE", "unigram" */
graft_token_id tokenizer_bos(const struct tokenizer *t); /* -1: none */
graft_token_id tokenizer_eos(const struct tokenizer *t);
graft_token_id tokenizer_pad(const struct tokenizer *t);
bool tokenizer_adds_bos(const struct tokenizer *t); /* its own post-processor would */
bool tokenizer_is_special(const struct tokenizer *t, graft_token_id id);
/* Ends a generation: EOS, and end-of-turn tokens known by name (<|im_end|>, <|eot_id|>, …). */
bool tokenizer_is_end(const struct tokenizer *t, graft_token_id id);
/* The stored form of a token (as in the vocabulary), for tables; NULL when out of range. */
const char *tokenizer_token(const struct tokenizer *t, graft_token_id id, size_t *length);
/* The bytes that a token adds to a text that has begun; NULL: none, as it is special, empty or out of range. *apart: one
 * space comes before them. */
const char *tokenizer_bytes(const struct tokenizer *t, graft_token_id id, size_t *size,
                            bool *apart);
/* The same with special tokens, as they are written; "": none. */
const char *tokenizer_piece(const struct tokenizer *t, graft_token_id id, size_t *size);
/* The chat template found beside the vocabulary (tokenizer_config.json, chat_template.jinja or GGUF),
 * NULL when there is none. With several, the one named "default". */
const char *tokenizer_chat_template(const struct tokenizer *t);
/* Text of a special token by role name: "bos_token", "eos_token", "pad_token", "unk_token"; NULL. */
const char *tokenizer_special_text(const struct tokenizer *t, const char *role);
/* Writes tokenizer.ggml.* (and tokenizer.chat_template) so that graft and llama.cpp read the same
 * tokenizer back; n_vocab pads the token list. UNSUPPORTED when GGUF cannot hold it. */
graft_status tokenizer_write_gguf(const struct tokenizer *t, int32_t n_vocab, struct gguf_writer *w,
                                  graft_error *error);
/* tokenizer.json text equal in behaviour, for a tokenizer that came from GGUF; mem_free it. */
graft_status tokenizer_write_json(const struct tokenizer *t, struct mem *mem, char **out,
                                  size_t *size, graft_error *error);

#endif
