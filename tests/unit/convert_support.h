/* convert_support.h: what the tests of conversions share: a folder and a runtime per test, conversions by
 * name, models compared by their logits and their bytes. For tests only: failures abort through cmocka.
 */
#ifndef GRAFT_CONVERT_SUPPORT_H
#define GRAFT_CONVERT_SUPPORT_H

#include "conformance/conformance_support.h"
#include "conformance/oracle_model.h"
#include "model/convert/convert.h"

enum { N_TOKENS = 24 }; /* of the sequence that models are compared on */

extern struct graft_runtime rt;
extern char logged[2048]; /* what the runtime logged */
int setup(void **state);
int teardown(void **state);

int count_files(void); /* in the test's folder, which all names below are in */

/* in → out, into a GGUF when the name ends so. */
graft_status try_convert(struct graft_runtime *runtime, const char *in, const char *out,
                         const char *type, graft_error *error);
void convert(const char *in, const char *out, const char *type);
/* ... fails with that status and those words, and leaves nothing behind. */
void refuse(const char *in, const char *out, const char *type, graft_status status,
            const char *words);
/* A random model: the names of oracle_config, and yarn, a qwen2 with that scaling. */
void write_model(const char *arch, const char *name, graft_type type);

float *logits_of(const char *name, size_t *count); /* of the sequence; free() */
double distance(const char *a, const char *b);     /* max|a - b| / max|b|; 0: equal */
/* Every tensor of a is in b, byte for byte, and b has no other. */
void assert_same_tensors(const char *a, const char *b);
void assert_same_files(const char *a, const char *b);

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
