/* The options of programs that draw tokens: generate and head --sample, so that they draw alike. */
#ifndef SP_BIN_SAMPLING_H
#define SP_BIN_SAMPLING_H

#include "../lib/sample.h"
#include "cli.h"

#define SAMPLING_TOKENS 128 /* of a text, where nobody says */

static struct {
    double temperature, top_p, min_p, repetition;
    int64_t n_max, top_k, seed;
} sampling = {.temperature = -1, .top_p = 1, .repetition = 1, .n_max = SAMPLING_TOKENS, .seed = -1};

#define SAMPLING_OPTION_TOKENS                                                                     \
    { SP_OPT_INT, 'n', "tokens", "N", "tokens of a text (128)", &sampling.n_max, 0, 1e15 }
#define SAMPLING_OPTION_TEMPERATURE                                                                \
    {                                                                                              \
        SP_OPT_DOUBLE, 't', "temperature", "T", "0: the best token (1 with a cut or seed)",        \
            &sampling.temperature, 0, 1e6                                                          \
    }
#define SAMPLING_OPTION_TOP_K                                                                      \
    { SP_OPT_INT, 0, "top-k", "K", "draw from the K best", &sampling.top_k, 1, 1 << 24 }
#define SAMPLING_OPTION_TOP_P                                                                      \
    {                                                                                              \
        SP_OPT_DOUBLE, 0, "top-p", "P", "draw from the fewest of probability P", &sampling.top_p,  \
            0, 1                                                                                   \
    }
#define SAMPLING_OPTION_MIN_P                                                                      \
    {                                                                                              \
        SP_OPT_DOUBLE, 0, "min-p", "P", "draw from those of P times the best's", &sampling.min_p,  \
            0, 1                                                                                   \
    }
#define SAMPLING_OPTION_REPETITION                                                                 \
    {                                                                                              \
        SP_OPT_DOUBLE, 0, "repetition-penalty", "R", "on the last 64 tokens (1)",                  \
            &sampling.repetition, 1e-3, 1e3                                                        \
    }
#define SAMPLING_OPTION_SEED                                                                       \
    { SP_OPT_INT, 's', "seed", "N", "of the draws (0)", &sampling.seed, 0, 1e18 }
#define SAMPLING_OPTIONS                                                                           \
    SAMPLING_OPTION_TEMPERATURE, SAMPLING_OPTION_TOP_K, SAMPLING_OPTION_TOP_P,                     \
        SAMPLING_OPTION_MIN_P, SAMPLING_OPTION_SEED

/* Something that only draws need was asked for. */
static inline bool sampling_draws(void) {
    return sampling.seed >= 0 || sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0;
}

static inline struct sp_sample_options sampling_options(void) {
    return (struct sp_sample_options){
        .temperature = sampling.temperature >= 0 ? sampling.temperature : sampling_draws(),
        .top_k = sampling.top_k,
        .top_p = sampling.top_p,
        .min_p = sampling.min_p,
        .repetition = sampling.repetition,
        .seed = sampling.seed >= 0 ? (uint64_t)sampling.seed : 0};
}

#endif
