/* Errors: a code, what was wrong and where, and what to do. */

#define HINT_DAMAGED "The bundle is damaged or was edited by hand: copy it again, or write it again."

static void clear_error(pf_error *error)
{
    if (error) {
        error->code = PF_OK;
        error->message[0] = error->hint[0] = '\0';
    }
}

/* Fill `error`, which may be NULL, and return `code`. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static pf_code fail(pf_error *error, pf_code code, const char *hint, const char *format, ...)
{
    if (error) {
        va_list arguments;
        error->code = code;
        va_start(arguments, format);
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
        snprintf(error->hint, sizeof error->hint, "%s", hint ? hint : "");
    }
    return code;
}

static pf_code no_memory(pf_error *error)
{
    return fail(error, PF_INTERNAL, "Free some memory and try again.", "there is not enough memory");
}
