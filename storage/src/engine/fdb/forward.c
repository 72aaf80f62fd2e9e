/* The functions of FoundationDB's C client that this program calls, each a jump through a pointer which aesp_fdb_load() fills
   from the library at run time. So one program serves with and without FoundationDB.

   INVARIANT: nothing is called before aesp_fdb_load() has returned AESP_FDB_LOADED. */
#include <dlfcn.h>
#include <stddef.h>

#if defined(__x86_64__)
#define JUMP(slot) "jmp *" #slot "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(slot) "adrp x16, " #slot "\nldr x16, [x16, :lo12:" #slot "]\nbr x16\n"
#else
#error "write the jump for this processor"
#endif

/* Error 2200: the API version is not set. */
static int not_loaded(void) { return 2200; }

#define SLOT(f) __attribute__((visibility("hidden"), used)) void *aesp_slot_##f = (void *)not_loaded;
#define FORWARD(f)                                     \
    SLOT(f)                                            \
    __asm__(".text\n.globl " #f "\n.type " #f ", %function\n" #f ":\n" JUMP(aesp_slot_##f));

#define FUNCTIONS(X)                                  \
    X(fdb_create_database)                            \
    X(fdb_database_create_transaction)                \
    X(fdb_database_destroy)                           \
    X(fdb_database_get_client_status)                 \
    X(fdb_database_get_main_thread_busyness)          \
    X(fdb_database_open_tenant)                       \
    X(fdb_database_set_option)                        \
    X(fdb_error_predicate)                            \
    X(fdb_future_destroy)                             \
    X(fdb_future_get_error)                           \
    X(fdb_future_get_int64)                           \
    X(fdb_future_get_key)                             \
    X(fdb_future_get_key_array)                       \
    X(fdb_future_get_keyvalue_array)                  \
    X(fdb_future_get_mappedkeyvalue_array)            \
    X(fdb_future_get_string_array)                    \
    X(fdb_future_get_value)                           \
    X(fdb_future_is_ready)                            \
    X(fdb_future_set_callback)                        \
    X(fdb_get_error)                                  \
    X(fdb_get_max_api_version)                        \
    X(fdb_network_set_option)                         \
    X(fdb_run_network)                                \
    X(fdb_select_api_version_impl)                    \
    X(fdb_setup_network)                              \
    X(fdb_stop_network)                               \
    X(fdb_tenant_create_transaction)                  \
    X(fdb_tenant_destroy)                             \
    X(fdb_transaction_add_conflict_range)             \
    X(fdb_transaction_atomic_op)                      \
    X(fdb_transaction_cancel)                         \
    X(fdb_transaction_clear)                          \
    X(fdb_transaction_clear_range)                    \
    X(fdb_transaction_commit)                         \
    X(fdb_transaction_destroy)                        \
    X(fdb_transaction_get)                            \
    X(fdb_transaction_get_addresses_for_key)          \
    X(fdb_transaction_get_approximate_size)           \
    X(fdb_transaction_get_committed_version)          \
    X(fdb_transaction_get_estimated_range_size_bytes) \
    X(fdb_transaction_get_key)                        \
    X(fdb_transaction_get_mapped_range)               \
    X(fdb_transaction_get_range)                      \
    X(fdb_transaction_get_range_split_points)         \
    X(fdb_transaction_get_read_version)               \
    X(fdb_transaction_get_versionstamp)               \
    X(fdb_transaction_on_error)                       \
    X(fdb_transaction_reset)                          \
    X(fdb_transaction_set)                            \
    X(fdb_transaction_set_option)                     \
    X(fdb_transaction_set_read_version)               \
    X(fdb_transaction_watch)

FUNCTIONS(FORWARD)

#define ROW(f) {#f, &aesp_slot_##f},
static const struct {
    const char *name;
    void **slot;
} functions[] = {FUNCTIONS(ROW)};

enum { COUNT = sizeof functions / sizeof functions[0] };

enum { AESP_FDB_LOADED = 0, AESP_FDB_CANNOT_OPEN = 1, AESP_FDB_FUNCTION_MISSING = 2 };

/* Loads `path` and fills every pointer, or none. `why` is set to the loader's message, or to the name of a function that the
   library lacks; it stays valid until the next call of dlerror(). */
int aesp_fdb_load(const char *path, const char **why) {
    void *found[COUNT];
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        *why = dlerror();
        return AESP_FDB_CANNOT_OPEN;
    }
    for (size_t i = 0; i < COUNT; i++) {
        found[i] = dlsym(library, functions[i].name);
        if (found[i] == NULL) {
            *why = functions[i].name;
            dlclose(library);
            return AESP_FDB_FUNCTION_MISSING;
        }
    }
    for (size_t i = 0; i < COUNT; i++) *functions[i].slot = found[i];
    return AESP_FDB_LOADED;
}
