/* random_model.h: a small random model in a directory of its own, for tests that need some model.
 *
 * Llama or a Qwen2 classifier, F32, two layers, with a tokenizer of single bytes (so that every text of
 * two bytes spans tokens) and a chat template. Weights come from base's generator: the same on every
 * machine. Printable bytes are the likely tokens.
 */
#ifndef GRAFT_RANDOM_MODEL_H
#define GRAFT_RANDOM_MODEL_H

#include "formats/formats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { RM_BOS = 256, RM_EOS = 257, RM_PAD = 258, RM_VOCAB = 264 };
enum { RM_MODEL = 32, RM_FF = 48, RM_LAYERS = 2, RM_HEADS = 4, RM_KV = 2, RM_HEAD = 8 };
enum { RM_CTX = 512, RM_LABELS = 3, RM_NAN = 7 };

struct random_model {
    bool classifier;
    bool no_tokenizer, no_template;
    bool nan_token;         /* the embedding of token RM_NAN is NaN */
    bool unnamed;           /* classifier: no id2label */
    int extra_eos;          /* another end token; 0: none */
    uint64_t seed;          /* other weights */
    const char *generation; /* generation_config.json, or NULL */
};

static inline void rm_write(const char *dir, const char *name, const char *text)
{
    char *path = path_join(NULL, dir, name);
    assert_int_equal(file_write_atomic(NULL, path, text, strlen(text), NULL), GRAFT_OK);
    mem_free(NULL, path);
}

/* ---- weights ---- */

struct rm_tensors {
    struct tensor_decl decl[64];
    char names[64][96];
    float amplitude[64]; /* 0: all ones */
    size_t n;
};

static inline void rm_add(struct rm_tensors *t, const char *name, int64_t rows, int64_t columns,
                          float amplitude)
{
    snprintf(t->names[t->n], sizeof t->names[0], "%s", name);
    t->decl[t->n] = (struct tensor_decl){.name = t->names[t->n], .type = GRAFT_TYPE_F32};
    t->decl[t->n].n_dims = columns > 0 ? 2 : 1;
    t->decl[t->n].shape[0] = rows;
    t->decl[t->n].shape[1] = columns;
    t->amplitude[t->n++] = amplitude;
}

static inline void rm_add_layer(struct rm_tensors *t, const struct random_model *m, int layer)
{
    static const struct {
        const char *name;
        int rows, columns;
        bool classifier_only;
    } PARTS[] = {{"input_layernorm.weight", RM_MODEL, 0, false},
                 {"post_attention_layernorm.weight", RM_MODEL, 0, false},
                 {"self_attn.q_proj.weight", RM_HEADS * RM_HEAD, RM_MODEL, false},
                 {"self_attn.k_proj.weight", RM_KV * RM_HEAD, RM_MODEL, false},
                 {"self_attn.v_proj.weight", RM_KV * RM_HEAD, RM_MODEL, false},
                 {"self_attn.o_proj.weight", RM_MODEL, RM_HEADS * RM_HEAD, false},
                 {"self_attn.q_proj.bias", RM_HEADS * RM_HEAD, 0, true},
                 {"self_attn.k_proj.bias", RM_KV * RM_HEAD, 0, true},
                 {"self_attn.v_proj.bias", RM_KV * RM_HEAD, 0, true},
                 {"mlp.gate_proj.weight", RM_FF, RM_MODEL, false},
                 {"mlp.up_proj.weight", RM_FF, RM_MODEL, false},
                 {"mlp.down_proj.weight", RM_MODEL, RM_FF, false}};
    for (size_t i = 0; i < ARRAY_LEN(PARTS); i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, PARTS[i].name);
        if (m->classifier || !PARTS[i].classifier_only) {
            bool norm = strstr(PARTS[i].name, "norm") != NULL;
            rm_add(t, name, PARTS[i].rows, PARTS[i].columns, norm ? 0 : 0.4f);
        }
    }
}

/* Rows of the head for bytes that are no text are small: such tokens stay unlikely. */
static inline float rm_scale(const char *name, int64_t row)
{
    bool head = strcmp(name, "lm_head.weight") == 0;
    return head && (row < 32 || row > 126) ? 0.1f : 1.0f;
}

static inline void rm_write_weights(const char *dir, const struct random_model *m)
{
    static struct rm_tensors t;
    t.n = 0;
    rm_add(&t, "model.embed_tokens.weight", RM_VOCAB, RM_MODEL, 1);
    rm_add(&t, "model.norm.weight", RM_MODEL, 0, 0);
    if (m->classifier) {
        rm_add(&t, "score.weight", RM_LABELS, RM_MODEL, 1);
    } else {
        rm_add(&t, "lm_head.weight", RM_VOCAB, RM_MODEL, 0.8f);
    }
    for (int i = 0; i < RM_LAYERS; i++) {
        rm_add_layer(&t, m, i);
    }
    struct file_writer w;
    char *path = path_join(NULL, dir, "model.safetensors");
    assert_int_equal(file_writer_open(&w, NULL, path, NULL), GRAFT_OK);
    assert_int_equal(safetensors_write_header(&w, t.decl, t.n, NULL, NULL), GRAFT_OK);
    for (size_t i = 0; i < t.n; i++) {
        int64_t columns = t.decl[i].n_dims == 2 ? t.decl[i].shape[1] : 1;
        struct rng rng;
        rng_init(&rng, 42 + m->seed, i);
        for (int64_t k = 0; k < t.decl[i].shape[0] * columns; k++) {
            float x = (2 * (float)rng_uniform(&rng) - 1) * t.amplitude[i];
            x = t.amplitude[i] == 0 ? 1 : x * rm_scale(t.names[i], k / columns);
            x = m->nan_token && i == 0 && k / columns == RM_NAN ? NAN : x;
            assert_int_equal(file_writer_write(&w, &x, sizeof x, NULL), GRAFT_OK);
        }
    }
    assert_int_equal(file_writer_commit(&w, NULL), GRAFT_OK);
    mem_free(NULL, path);
}

/* ---- tokenizer: the bytes, each under the name that byte-level vocabularies give it ---- */

static inline void rm_byte_name(int byte, int *shifted, struct buf *out)
{
    bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    uint32_t code = itself ? (uint32_t)byte : 256 + (uint32_t)(*shifted)++;
    char text[4];
    if (code == '"' || code == '\\') {
        buf_putc(out, '\\');
    }
    buf_append(out, text, (size_t)utf8_encode(code, text));
}

static inline void rm_write_tokenizer(const char *dir, const struct random_model *m)
{
    struct buf json;
    buf_init(&json, NULL, 1 << 20);
    buf_puts(&json, "{\"version\":\"1.0\",\"added_tokens\":[");
    static const char *const SPECIAL[] = {"<s>", "</s>", "<pad>"};
    for (int i = 0; i < 3; i++) {
        buf_printf(&json,
                   "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                   "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                   i > 0 ? "," : "", RM_BOS + i, SPECIAL[i]);
    }
    buf_puts(&json, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                    "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
                    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                    "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
                    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":"
                    "{\"<s>\":{\"id\":\"<s>\",\"ids\":[256],\"tokens\":[\"<s>\"]}}},"
                    "\"decoder\":{\"type\":\"ByteLevel\"},"
                    "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    int shifted = 0;
    for (int byte = 0; byte < 256; byte++) {
        buf_puts(&json, byte > 0 ? ",\"" : "\"");
        rm_byte_name(byte, &shifted, &json);
        buf_printf(&json, "\":%d", byte);
    }
    buf_puts(&json, "}}}");
    assert_int_equal(json.status, GRAFT_OK);
    rm_write(dir, "tokenizer.json", json.data);
    buf_free(&json);
    rm_write(dir, "tokenizer_config.json",
             m->no_template
                 ? "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"pad_token\":\"<pad>\"}"
                 : "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"pad_token\":\"<pad>\","
                   "\"chat_template\":\"{{ bos_token }}{% for m in messages %}[{{ m.role }}] "
                   "{{ m.content }}{{ eos_token }}{% endfor %}"
                   "{% if add_generation_prompt %}[assistant] {% endif %}"
                   "{% if tools is none %}.{% endif %}\"}");
}

static inline void rm_write_config(const char *dir, const struct random_model *m)
{
    char text[2048], eos[32] = "257";
    if (m->extra_eos > 0) {
        snprintf(eos, sizeof eos, "[257, %d]", m->extra_eos);
    }
    const char *labels = m->unnamed ? "\"num_labels\":3"
                                    : "\"id2label\":{\"0\":\"cold\",\"1\":\"warm\",\"2\":\"hot\"}";
    snprintf(text, sizeof text,
             "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",\"vocab_size\":%d,"
             "\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,"
             "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"hidden_act\":\"silu\","
             "\"max_position_embeddings\":%d,\"rope_theta\":10000.0,\"rms_norm_eps\":1e-5,"
             "\"tie_word_embeddings\":false,\"bos_token_id\":256,\"eos_token_id\":%s,"
             "\"pad_token_id\":258,\"torch_dtype\":\"float32\"%s%s}",
             m->classifier ? "Qwen2ForSequenceClassification" : "LlamaForCausalLM",
             m->classifier ? "qwen2" : "llama", RM_VOCAB, RM_MODEL, RM_FF, RM_LAYERS, RM_HEADS,
             RM_KV, RM_CTX, eos, m->classifier ? "," : "", m->classifier ? labels : "");
    rm_write(dir, "config.json", text);
}

/* Makes the directory; free the name with random_model_remove. */
static inline char *random_model_make(const struct random_model *m)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = path_join(NULL, tmp != NULL ? tmp : "/tmp", "graft-model-XXXXXX");
    assert_non_null(mkdtemp(dir));
    rm_write_config(dir, m);
    rm_write_weights(dir, m);
    if (!m->no_tokenizer) {
        rm_write_tokenizer(dir, m);
    }
    if (m->generation != NULL) {
        rm_write(dir, "generation_config.json", m->generation);
    }
    return dir;
}

static inline void random_model_remove(char *dir)
{
    static const char *const FILES[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json", "generation_config.json"};
    for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
        char *path = path_join(NULL, dir, FILES[i]);
        unlink(path);
        mem_free(NULL, path);
    }
    rmdir(dir);
    mem_free(NULL, dir);
}

#endif
