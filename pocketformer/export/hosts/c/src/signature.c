/* The bundle's signature: Ed25519 (RFC 8032) over the bytes of manifest.json, checked by libcrypto. */

#define SIGNATURE_LENGTH 64
#define EVP_PKEY_ED25519 1087 /* NID_ED25519 of OpenSSL's obj_mac.h */

/* The 32 bytes of an Ed25519 public key in PEM, as `openssl pkey -pubout` writes it; false where it is none. */
static bool read_public_key(const char *pem, unsigned char key[32])
{
    static const char begin[] = "-----BEGIN PUBLIC KEY-----", end[] = "-----END PUBLIC KEY-----";
    static const unsigned char prefix[12] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char der[44];
    size_t length = 0;
    uint32_t bits = 0;
    int held = 0, padding = 0;
    const char *place = strstr(pem, begin);
    if (!place)
        return false;
    for (place += strlen(begin); *place && *place != '-'; place++) {
        const char *digit = strchr(alphabet, *place);
        if (strchr(" \t\r\n", *place))
            continue;
        if (*place == '=' && ++padding <= 2)
            continue;
        if (!digit || padding)
            return false;
        bits = (bits << 6 | (uint32_t)(digit - alphabet)) & 0xFFFF;
        held += 6;
        if (held >= 8) {
            held -= 8;
            if (length == sizeof der)
                return false;
            der[length++] = (unsigned char)(bits >> held);
        }
    }
    if (strncmp(place, end, strlen(end)) != 0 || length != sizeof der || memcmp(der, prefix, sizeof prefix) != 0)
        return false;
    memcpy(key, der + sizeof prefix, 32);
    return true;
}

/* The functions of libcrypto's EVP interface (OpenSSL 1.1.1 and later) that are used; all handles are opaque. */
struct evp {
    void *(*key_new)(int, void *, const unsigned char *, size_t); /* EVP_PKEY_new_raw_public_key */
    void (*key_free)(void *);
    void *(*context_new)(void);
    void (*context_free)(void *);
    int (*verify_init)(void *, void **, const void *, void *, void *); /* EVP_DigestVerifyInit */
    int (*verify)(void *, const unsigned char *, size_t, const unsigned char *, size_t); /* EVP_DigestVerify */
};

static bool evp_find(void *library, struct evp *evp)
{
    evp->key_new = (void *(*)(int, void *, const unsigned char *, size_t))library_function(
        library, "EVP_PKEY_new_raw_public_key");
    evp->key_free = (void (*)(void *))library_function(library, "EVP_PKEY_free");
    evp->context_new = (void *(*)(void))library_function(library, "EVP_MD_CTX_new");
    evp->context_free = (void (*)(void *))library_function(library, "EVP_MD_CTX_free");
    evp->verify_init =
        (int (*)(void *, void **, const void *, void *, void *))library_function(library, "EVP_DigestVerifyInit");
    evp->verify = (int (*)(void *, const unsigned char *, size_t, const unsigned char *, size_t))library_function(
        library, "EVP_DigestVerify");
    return evp->key_new && evp->key_free && evp->context_new && evp->context_free && evp->verify_init && evp->verify;
}

/* 1: the signature holds; 0: it does not; -1: libcrypto cannot tell. */
static int evp_holds(const struct evp *evp, const unsigned char key[32], const struct bytes *signature,
                     const struct bytes *data)
{
    int holds = -1;
    void *public_key = evp->key_new(EVP_PKEY_ED25519, NULL, key, 32), *context = evp->context_new();
    if (public_key && context && evp->verify_init(context, NULL, NULL, NULL, public_key) == 1)
        holds = evp->verify(context, signature->data, signature->length, data->data, data->length) == 1;
    evp->context_free(context);
    evp->key_free(public_key);
    return holds;
}

/* PF_OK when `signature` is one of `data` by the owner of the key in `pem`. */
static pf_code check_signature(const char *pem, const char *libcrypto, const struct bytes *signature,
                               const struct bytes *data, pf_error *error)
{
    static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.1.1", NULL};
    unsigned char key[32];
    struct evp evp;
    if (!read_public_key(pem, key))
        return fail(error, PF_USAGE, "Give the PEM file that `openssl pkey -pubout` writes, of an Ed25519 key.",
                    "the key is no Ed25519 public key in PEM");
    if (signature->length != SIGNATURE_LENGTH)
        return fail(error, PF_REFUSED, "Do not use this bundle; ask its maker.", SIGNATURE_FILE " has %zu bytes, not 64",
                    signature->length);
    void *library = library_open(libcrypto, "POCKETFORMER_LIBCRYPTO", names, "libcrypto",
                                 "Install OpenSSL, or name libcrypto by path in POCKETFORMER_LIBCRYPTO.", error);
    if (!library)
        return PF_MISSING;
    int holds = evp_find(library, &evp) ? evp_holds(&evp, key, signature, data) : -1;
    dlclose(library);
    if (holds < 0)
        return fail(error, PF_MISSING, "Install OpenSSL 1.1.1 or later.", "this libcrypto has no Ed25519");
    if (holds == 0)
        return fail(error, PF_REFUSED, "Do not use this bundle: it was changed, or another key signed it.",
                    SIGNATURE_FILE " is no signature of " MANIFEST_FILE " by this key");
    return PF_OK;
}
