/* An OpenSSL provider with one random number generator: the kernel's. OpenSSL 3's own keeps its state in memory for up
 * to an hour, so microVMs that come from one snapshot draw the same numbers; the kernel is seeded anew before any of
 * their processes runs. The interface is OpenSSL's provider(7), provider-rand(7) and core_dispatch.h, whose numbers are
 * stable. Nothing of a C library or of libcrypto is linked, so that one file serves images with glibc and with musl. */
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

enum { PROVIDER_GETTABLE_PARAMS = 1025, PROVIDER_GET_PARAMS = 1026, PROVIDER_QUERY = 1027 };
enum { OPERATION_RAND = 5 };
enum {
    RAND_NEWCTX = 1, RAND_FREECTX, RAND_INSTANTIATE, RAND_UNINSTANTIATE, RAND_GENERATE, RAND_RESEED, RAND_NONCE,
    RAND_ENABLE_LOCKING, RAND_LOCK, RAND_UNLOCK, RAND_GETTABLE_PARAMS, RAND_GETTABLE_CTX_PARAMS,
    RAND_SETTABLE_CTX_PARAMS, RAND_GET_PARAMS, RAND_GET_CTX_PARAMS, RAND_SET_CTX_PARAMS, RAND_VERIFY_ZEROIZATION,
    RAND_GET_SEED, RAND_CLEAR_SEED
};
enum { CORE_MALLOC = 20, CORE_CLEAR_FREE = 23 };
enum { PARAM_INTEGER = 1, PARAM_UNSIGNED_INTEGER = 2, PARAM_UTF8_PTR = 6 };
enum { STATE_READY = 1 };

#define STRENGTH_BITS 256
#define MAX_REQUEST_BYTES (1u << 16) /* as OpenSSL's own; longer requests come in pieces */
#define NONCE_BYTES 16

struct dispatch {
    int number;
    void (*function)(void);
};

struct parameter {
    const char *key;
    unsigned int type;
    void *value;
    size_t size, returned;
};

struct algorithm {
    const char *name, *properties;
    const struct dispatch *functions;
    const char *description;
};

typedef void *core_malloc(size_t size, const char *file, int line);
typedef void core_clear_free(void *block, size_t size, const char *file, int line);

static core_malloc *allocate;
static core_clear_free *release;
static char only_context; /* there is no state, so all contexts are one */

#define FUNCTION(number, name) {number, (void (*)(void))(name)}
#define END {0, NULL}

/* --- the kernel */

static long getrandom_call(unsigned char *out, size_t length) {
#if defined(__x86_64__)
    long result = 318;
    register long flags __asm__("rdx") = 0;
    __asm__ volatile("syscall" : "+a"(result) : "D"(out), "S"(length), "r"(flags) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long number __asm__("x8") = 278;
    register long result __asm__("x0") = (long)out;
    register size_t size __asm__("x1") = length;
    register long flags __asm__("x2") = 0;
    __asm__ volatile("svc 0" : "+r"(result) : "r"(number), "r"(size), "r"(flags) : "memory");
    return result;
#else
#error "no system call for this processor"
#endif
}

static int fill(unsigned char *out, size_t length) {
    while (length) {
        long got = getrandom_call(out, length);
        if (got == -4 /* EINTR */)
            continue;
        if (got <= 0)
            return 0;
        out += got;
        length -= (size_t)got;
    }
    return 1;
}

/* --- parameters */

static int same(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static struct parameter *locate(struct parameter *list, const char *key) {
    for (; list && list->key; list++)
        if (same(list->key, key))
            return list;
    return NULL;
}

static int put_number(struct parameter *list, const char *key, uint64_t number) {
    struct parameter *found = locate(list, key);
    if (!found)
        return 1;
    if (found->type != PARAM_INTEGER && found->type != PARAM_UNSIGNED_INTEGER)
        return 0;
    found->returned = found->size;
    if (!found->value) /* asked for the size only */
        found->returned = sizeof number;
    else if (found->size == sizeof(uint32_t))
        *(uint32_t *)found->value = (uint32_t)number;
    else if (found->size == sizeof(uint64_t))
        *(uint64_t *)found->value = number;
    else
        return 0;
    return 1;
}

static int put_text(struct parameter *list, const char *key, const char *text, size_t length) {
    struct parameter *found = locate(list, key);
    if (!found)
        return 1;
    if (found->type != PARAM_UTF8_PTR)
        return 0;
    found->returned = length;
    if (found->value)
        *(const char **)found->value = text;
    return 1;
}

/* --- the generator */

static void *new_context(void *provider, void *parent, const struct dispatch *parent_functions) {
    (void)provider, (void)parent, (void)parent_functions;
    return &only_context;
}

static void free_context(void *context) { (void)context; }

static int instantiate(void *context, unsigned int strength, int resistance, const unsigned char *text, size_t length,
                       const struct parameter *parameters) {
    (void)context, (void)resistance, (void)text, (void)length, (void)parameters;
    return strength <= STRENGTH_BITS;
}

static int succeed(void *context) {
    (void)context;
    return 1;
}

static void do_nothing(void *context) { (void)context; }

static int generate(void *context, unsigned char *out, size_t length, unsigned int strength, int resistance,
                    const unsigned char *more, size_t more_length) {
    (void)context, (void)resistance, (void)more, (void)more_length;
    return strength <= STRENGTH_BITS && length <= MAX_REQUEST_BYTES && fill(out, length);
}

static int reseed(void *context, int resistance, const unsigned char *entropy, size_t length, const unsigned char *more,
                  size_t more_length) {
    (void)context, (void)resistance, (void)entropy, (void)length, (void)more, (void)more_length;
    return 1;
}

static size_t nonce(void *context, unsigned char *out, unsigned int strength, size_t least, size_t most) {
    (void)context, (void)strength;
    size_t length = least > NONCE_BYTES ? least : NONCE_BYTES;
    if (length > most)
        length = most;
    return !out || fill(out, length) ? length : 0;
}

/* For a generator of another provider that has this one as its parent. */
static size_t get_seed(void *context, unsigned char **out, int entropy, size_t least, size_t most, int resistance,
                       const unsigned char *more, size_t more_length) {
    (void)context, (void)resistance, (void)more, (void)more_length;
    size_t length = entropy > 0 ? ((size_t)entropy + 7) / 8 : 0;
    if (length < least)
        length = least;
    if (!allocate || !release || !length || length > most)
        return 0;
    unsigned char *seed = allocate(length, __FILE_NAME__, __LINE__);
    if (!seed)
        return 0;
    if (!fill(seed, length)) {
        release(seed, length, __FILE_NAME__, __LINE__);
        return 0;
    }
    *out = seed;
    return length;
}

static void clear_seed(void *context, unsigned char *seed, size_t length) {
    (void)context;
    release(seed, length, __FILE_NAME__, __LINE__);
}

static int get_parameters(void *context, struct parameter *parameters) {
    (void)context;
    return put_number(parameters, "state", STATE_READY) && put_number(parameters, "strength", STRENGTH_BITS) &&
           put_number(parameters, "max_request", MAX_REQUEST_BYTES);
}

static const struct parameter *gettable_parameters(void *context, void *provider) {
    static const struct parameter list[] = {
        {"state", PARAM_INTEGER, NULL, sizeof(int), (size_t)-1},
        {"strength", PARAM_UNSIGNED_INTEGER, NULL, sizeof(unsigned int), (size_t)-1},
        {"max_request", PARAM_UNSIGNED_INTEGER, NULL, sizeof(size_t), (size_t)-1},
        {NULL, 0, NULL, 0, 0},
    };
    (void)context, (void)provider;
    return list;
}

/* The cipher and the intervals of OpenSSL's own generators mean nothing here. */
static int ignore_parameters(void *context, const struct parameter *parameters) {
    (void)context, (void)parameters;
    return 1;
}

static const struct parameter *no_parameters(void *context, void *provider) {
    static const struct parameter none = {NULL, 0, NULL, 0, 0};
    (void)context, (void)provider;
    return &none;
}

static const struct dispatch generator[] = {
    FUNCTION(RAND_NEWCTX, new_context),
    FUNCTION(RAND_FREECTX, free_context),
    FUNCTION(RAND_INSTANTIATE, instantiate),
    FUNCTION(RAND_UNINSTANTIATE, succeed),
    FUNCTION(RAND_GENERATE, generate),
    FUNCTION(RAND_RESEED, reseed),
    FUNCTION(RAND_NONCE, nonce),
    FUNCTION(RAND_ENABLE_LOCKING, succeed),
    FUNCTION(RAND_LOCK, succeed),
    FUNCTION(RAND_UNLOCK, do_nothing),
    FUNCTION(RAND_GETTABLE_CTX_PARAMS, gettable_parameters),
    FUNCTION(RAND_SETTABLE_CTX_PARAMS, no_parameters),
    FUNCTION(RAND_GET_CTX_PARAMS, get_parameters),
    FUNCTION(RAND_SET_CTX_PARAMS, ignore_parameters),
    FUNCTION(RAND_VERIFY_ZEROIZATION, succeed),
    FUNCTION(RAND_GET_SEED, get_seed),
    FUNCTION(RAND_CLEAR_SEED, clear_seed),
    END,
};

/* --- the provider */

/* The names are those of OpenSSL's own generators, and the configuration prefers these by `?provider=emberbox`: where
 * this file cannot be loaded, the own ones are taken as ever. */
static const struct algorithm *query(void *provider, int operation, int *no_cache) {
    static const struct algorithm generators[] = {
        {"CTR-DRBG", "provider=emberbox", generator, "The kernel's random number generator"},
        {"HASH-DRBG", "provider=emberbox", generator, "The kernel's random number generator"},
        {"HMAC-DRBG", "provider=emberbox", generator, "The kernel's random number generator"},
        {NULL, NULL, NULL, NULL},
    };
    (void)provider;
    *no_cache = 0;
    return operation == OPERATION_RAND ? generators : NULL;
}

static int get_provider_parameters(void *provider, struct parameter *parameters) {
    (void)provider;
    return put_text(parameters, "name", "Emberbox random numbers", 23) && put_text(parameters, "version", "1", 1) &&
           put_number(parameters, "status", 1);
}

static const struct parameter *gettable_provider_parameters(void *provider) {
    static const struct parameter list[] = {
        {"name", PARAM_UTF8_PTR, NULL, 0, (size_t)-1},
        {"version", PARAM_UTF8_PTR, NULL, 0, (size_t)-1},
        {"status", PARAM_INTEGER, NULL, sizeof(int), (size_t)-1},
        {NULL, 0, NULL, 0, 0},
    };
    (void)provider;
    return list;
}

static const struct dispatch provider_functions[] = {
    FUNCTION(PROVIDER_GETTABLE_PARAMS, gettable_provider_parameters),
    FUNCTION(PROVIDER_GET_PARAMS, get_provider_parameters),
    FUNCTION(PROVIDER_QUERY, query),
    END,
};

EXPORT int OSSL_provider_init(const void *handle, const struct dispatch *core, const struct dispatch **provided,
                              void **provider) {
    for (; core->number; core++)
        if (core->number == CORE_MALLOC)
            allocate = (core_malloc *)core->function;
        else if (core->number == CORE_CLEAR_FREE)
            release = (core_clear_free *)core->function;
    *provided = provider_functions;
    *provider = (void *)handle;
    return 1;
}
