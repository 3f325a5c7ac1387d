/* several_threads BUNDLE ONNXRUNTIME TEXT...: one model, eight threads, every answer held against that of one thread. */
#include "pocketformer.c"

#include <pthread.h>

enum { THREADS = 8, ROUNDS = 25, MOST = 16 };

static const pf_model *model;
static char **texts;
static int text_count;
static pf_answer expected[MOST];

static void *work(void *argument)
{
    long *wrong = argument;
    for (int round = 0; round < ROUNDS; round++) {
        for (int index = 0; index < text_count; index++) {
            pf_answer answer;
            pf_error error;
            pf_code code = pf_predict(model, texts[index], strlen(texts[index]), &answer, &error);
            *wrong += code != PF_OK || answer.label != expected[index].label || answer.score != expected[index].score;
        }
    }
    return NULL;
}

int main(int count, char **arguments)
{
    pthread_t threads[THREADS];
    long wrong[THREADS] = {0}, all = 0;
    pf_error error;
    const pf_options options = {.onnxruntime = arguments[2]};
    pf_model *loaded = pf_load(arguments[1], &options, &error);
    if (!loaded)
        return (int)error.code;
    model = loaded;
    texts = arguments + 3;
    text_count = count - 3 < MOST ? count - 3 : MOST;
    for (int index = 0; index < text_count; index++)
        if (pf_predict(model, texts[index], strlen(texts[index]), &expected[index], &error) != PF_OK)
            return (int)error.code;
    for (int index = 0; index < THREADS; index++)
        pthread_create(&threads[index], NULL, work, &wrong[index]);
    for (int index = 0; index < THREADS; index++) {
        pthread_join(threads[index], NULL);
        all += wrong[index];
    }
    pf_free(loaded);
    printf("%d answers, %ld differ\n", THREADS * ROUNDS * text_count, all);
    return 0;
}
