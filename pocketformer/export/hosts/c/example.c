/* The shortest app: ./example MODEL "a text". Build it with `make`. */
#include "pocketformer.h"

#include <stdio.h>
#include <string.h>

int main(int count, char **arguments)
{
    pf_error error;
    pf_answer answer;
    if (count != 3)
        return PF_USAGE;
    pf_model *model = pf_load(arguments[1], NULL, &error);
    if (!model || pf_predict(model, arguments[2], strlen(arguments[2]), &answer, &error) != PF_OK) {
        fprintf(stderr, "%s\n%s\n", error.message, error.hint);
        pf_free(model);
        return (int)error.code;
    }
    printf("%s %.3f\n", answer.label, answer.score);
    pf_free(model);
    return 0;
}
