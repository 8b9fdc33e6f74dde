/* gguf_internal.h: what the GGUF reader, its values and the writer share. */
#ifndef GRAFT_GGUF_INTERNAL_H
#define GRAFT_GGUF_INTERNAL_H

#include "formats/formats_internal.h"

/* Bytes of one value; 0 for strings, whose size is in the file, and for arrays. */
size_t gguf_width(enum gguf_type type);

#endif
