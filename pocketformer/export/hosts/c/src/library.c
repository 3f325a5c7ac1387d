/* Shared libraries, opened at run time. */

typedef void (*any_function)(void);

/* A function of an open library; NULL where it has none. ISO C has no cast from dlsym's pointer to a function's. */
static any_function library_function(void *library, const char *name)
{
    void *symbol = dlsym(library, name);
    any_function function = NULL;
    memcpy(&function, &symbol, sizeof function);
    return symbol ? function : NULL;
}

/* Open `path`, else what the environment variable names, else the first of `names` (ended by NULL) that is there. */
static void *library_open(const char *path, const char *variable, const char *const *names, const char *what,
                          const char *hint, pf_error *error)
{
    char reason[384] = "";
    void *library = NULL;
    if (!path || !*path)
        path = getenv(variable);
    if (path && *path) {
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    } else {
        for (; !library && *names; names++)
            library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
    }
    if (!library) {
        const char *told = dlerror();
        snprintf(reason, sizeof reason, "%s", told ? told : "not found");
        fail(error, PF_MISSING, hint, "%s cannot be opened: %s", what, reason);
    }
    return library;
}
