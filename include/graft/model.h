/* graft/model.h: open a base model, ask what it is, tokenise, render chats, convert.
 *
 * A model is immutable after open; any number of threads may use it and open sessions on it. Close
 * it after its sessions. Paths may be a Hugging Face directory (safetensors), an MLX quantised
 * directory or a GGUF file.
 */
#ifndef GRAFT_PUBLIC_MODEL_H
#define GRAFT_PUBLIC_MODEL_H

#include <graft/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_model graft_model;
typedef struct graft_tokenizer graft_tokenizer;

typedef enum graft_load { GRAFT_LOAD_MAP = 0, GRAFT_LOAD_COPY = 1 } graft_load;

/* An adapter by its path, to be baked into weights. */
typedef struct graft_fuse_member {
    const char *path; /* PEFT or MLX directory, the weights in one, or a GGUF file */
    float weight;     /* of its change of the weights: 1 as trained */
    double scale;     /* MLX: in place of what its configuration says; 0: the file's */
    bool strict_base; /* refuse it, with SHAPE, if it was made for another base (graft/adapter.h) */
} graft_fuse_member;

typedef struct graft_model_options {
    size_t struct_size;
    graft_load
        load; /* MAP (default): weights stay in the file's pages; COPY: for files that may change */
    /* Weights that are packed at open, for speed: copied into large pages of the runtime's memory, in the order
     * in which this tier multiplies them fastest; the pages of the file under them are given back. "auto"
     * (default): those of all linear layers (MLX: none), unless they are more than half of the memory there is;
     * "none"; or those whose tensors have one of these names: "blk.*.ffn_*,output.weight" (* any text, ? any
     * byte). Results are the same, bit by bit. NULL is "auto". */
    const char *pack;
    /* Adapters that are baked into private copies of the weights they change ([n_fuse], 64 at most; default none).
     * What is opened is then a model of its own: the fused weights take memory (graft_model_fused_bytes),
     * adapters can be grafted on top, and the base comes back by opening it without. A quantised matrix keeps
     * its type if that retains 0.9 of the change, else it gets 8 bits. `pack` does not count then. UNSUPPORTED: a bias of
     * the head; INVALID_ARGUMENT: two of them have the same content; else errors are those of graft_adapter_open. */
    const graft_fuse_member *fuse;
    size_t n_fuse;
} graft_model_options;

GRAFT_API void graft_model_options_init(graft_model_options *options, size_t struct_size);
static inline graft_model_options graft_model_options_default(void)
{
    graft_model_options options;
    graft_model_options_init(&options, sizeof options);
    return options;
}

/* Opens a directory, a file, or a name "org/name" that lies in the local Hugging Face cache (a miss
 * is GRAFT_NOT_FOUND and says how to download it). All of it is checked before anything is visible:
 * FORMAT, SHAPE (with the tensor and both shapes) and UNSUPPORTED name the file. Any thread; the model
 * is the caller's to close. */
GRAFT_API graft_status graft_model_open(graft_runtime *runtime, const char *path,
                                        const graft_model_options *options, graft_model **out,
                                        graft_error *error);
/* All its sessions must be closed before. */
GRAFT_API void graft_model_close(graft_model **model);

/* Strings live as long as the model. */
typedef struct graft_model_info {
    const char *architecture; /* "Qwen2ForCausalLM" */
    const char *path;
    int n_layer, d_model, d_ff, n_head, n_kv, d_head, n_vocab;
    int n_ctx;    /* positions the model was made for */
    int n_labels; /* classes of a classifier, else 0 */
    bool has_tokenizer, has_chat_template;
    uint64_t n_params;     /* weights, shared ones once */
    uint64_t weight_bytes; /* as stored */
} graft_model_info;

GRAFT_API graft_status graft_model_describe(const graft_model *model, graft_model_info *out,
                                            graft_error *error);
/* Memory of the weights that graft_model_options.fuse made; 0: none. */
GRAFT_API uint64_t graft_model_fused_bytes(const graft_model *model);
/* Name of class `label` of a classifier; "LABEL_n" where the model names none; NULL out of range.
 * Borrowed from the model. */
GRAFT_API const char *graft_model_label(const graft_model *model, int label);

/* ---- tokenizer: immutable; any number of threads may use one ---- */

/* The model's own (borrowed, do not close); NULL when it has none. */
GRAFT_API const graft_tokenizer *graft_model_tokenizer(const graft_model *model);
/* A tokenizer alone: from a directory, a GGUF file (a vocabulary-only one will do), a tokenizer.json,
 * or a name in the Hugging Face cache. The caller's to close. */
GRAFT_API graft_status graft_tokenizer_open(graft_runtime *runtime, const char *path,
                                            graft_tokenizer **out, graft_error *error);
GRAFT_API void graft_tokenizer_close(graft_tokenizer **tokenizer);

enum {
    GRAFT_TOKENIZE_BOS = 1,    /* put BOS first, where there is one */
    GRAFT_TOKENIZE_SPECIAL = 2 /* special tokens written in the text become themselves */
};

/* Ids of `size` bytes of text (any bytes): *ids is an array of *n, never NULL; release it with
 * graft_free. */
GRAFT_API graft_status graft_tokenize(const graft_tokenizer *tokenizer, const char *text,
                                      size_t size, int flags, graft_token_id **ids, size_t *n,
                                      graft_error *error);
/* Exact text of ids, NUL-terminated at *size; release with graft_free. An id that is not in the
 * vocabulary is GRAFT_INVALID_ARGUMENT. */
GRAFT_API graft_status graft_detokenize(const graft_tokenizer *tokenizer, const graft_token_id *ids,
                                        size_t n, bool with_special, char **text, size_t *size,
                                        graft_error *error);
/* What one token stands for in the midst of a text, as *size bytes, which need be no whole characters and have no NUL behind
 * them; special tokens as they are written. Borrowed from the tokenizer; "" for an id that is not in the vocabulary. */
GRAFT_API const char *graft_token_bytes(const graft_tokenizer *tokenizer, graft_token_id id,
                                        size_t *size);

typedef struct graft_tokenizer_info {
    const char *kind; /* "byte-level BPE", "SentencePiece BPE", "unigram" */
    int32_t size;
    graft_token_id bos, eos, pad; /* -1: none */
    bool adds_bos;                /* its own configuration begins texts with BOS */
} graft_tokenizer_info;
GRAFT_API graft_status graft_tokenizer_describe(const graft_tokenizer *tokenizer,
                                                graft_tokenizer_info *out, graft_error *error);

/* ---- chat ---- */

typedef struct graft_message {
    const char *role;    /* "system", "user", "assistant", "tool" */
    const char *content; /* UTF-8 */
} graft_message;

/* The prompt text that the model's chat template makes of the messages, with the opening of the
 * assistant's answer when `add_generation_prompt`. Tokenise it with GRAFT_TOKENIZE_SPECIAL and without BOS
 * (the template writes it). The template sees messages, tools and documents (none), the model's special
 * tokens by their names (bos_token, …) and the present time in UTC. GRAFT_NOT_FOUND: the model has no
 * template. GRAFT_INVALID_ARGUMENT: text that is not UTF-8, or the template refused the messages (in its own
 * words). Any thread. Release with graft_free. */
GRAFT_API graft_status graft_chat_render(const graft_model *model, const graft_message *messages,
                                         size_t n_messages, bool add_generation_prompt, char **text,
                                         size_t *size, graft_error *error);
/* The same from JSON: an object of template variables with at least the array "messages"; "tools",
 * "documents", "add_generation_prompt" (default false) and others are passed on, and replace what the
 * model would give. */
GRAFT_API graft_status graft_chat_render_json(const graft_model *model, const char *variables,
                                              char **text, size_t *size, graft_error *error);

/* ---- inspection and conversion ---- */

/* A JSON description (docs/inspect.md has the schema) of a model directory, a safetensors or a GGUF
 * file, also one that graft could not run: config, metadata, tensors (name, type, shape, bytes, file),
 * totals by type, tokenizer, template. *json is NUL-terminated; release with graft_free. */
GRAFT_API graft_status graft_inspect(graft_runtime *runtime, const char *path, char **json,
                                     graft_error *error);

/* Progress of a long call, on the calling thread: return false to cancel it (GRAFT_CANCELLED). `what`
 * names the work in a word or two; units of done and total are the call's own. Must not use the object
 * that is being worked on. */
typedef bool (*graft_progress_fn)(void *user, uint64_t done, uint64_t total, const char *what);

typedef enum graft_format {
    GRAFT_FORMAT_GGUF = 0,
    GRAFT_FORMAT_HF = 1,
    GRAFT_FORMAT_MLX = 2
} graft_format;

typedef struct graft_convert_options {
    size_t struct_size;
    graft_format format; /* GGUF (default), an HF or an MLX quantised directory */
    /* "q8_0", "q4_0", "q4_k_m", "f16", "bf16", "f32", …; HF: "f32", "f16", "bf16"; MLX: "mlx4", "mlx8"
     * (groups of 64). NULL (default): "q8_0", "bf16" for HF, "mlx4" for MLX. */
    const char *type;
    graft_progress_fn progress; /* NULL: none; units: bytes */
    void *progress_user;
} graft_convert_options;
GRAFT_API void graft_convert_options_init(graft_convert_options *options, size_t struct_size);
static inline graft_convert_options graft_convert_options_default(void)
{
    graft_convert_options options;
    graft_convert_options_init(&options, sizeof options);
    return options;
}

/* Writes a complete model (weights, config, tokenizer, template) in another format or type. A GGUF file
 * that exists is replaced only when all is written; an HF directory must be absent or empty. A failed or
 * cancelled call leaves nothing behind. GRAFT_INVALID_ARGUMENT: there is no such type, or the format cannot
 * hold it; GRAFT_UNSUPPORTED: this model cannot be expressed so; GRAFT_IO, among others: out_path is a file that is
 * read, under whatever name. */
GRAFT_API graft_status graft_convert(graft_runtime *runtime, const char *model_path,
                                     const char *out_path, const graft_convert_options *options,
                                     graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
