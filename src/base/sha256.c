/* sha256.c: digests that name files and mixes, by OpenSSL (which uses the SHA instructions). */
#include "base_internal.h"

#include <openssl/evp.h>

graft_status sha256(const void *bytes, size_t size, uint8_t out[32], graft_error *error)
{
    uint8_t digest[32];
    unsigned length = 0;
    if (EVP_Digest(size ? bytes : "", size, digest, &length, EVP_sha256(), NULL) != 1 ||
        length != sizeof(digest))
        return error_set(error, GRAFT_INTERNAL, "OpenSSL refused to compute SHA-256");
    memcpy(out, digest, sizeof(digest));
    return GRAFT_OK;
}
