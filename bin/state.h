/* What the commands of `state` take: their option tables, for --help, completions and the manual.
 */
#ifndef SP_BIN_STATE_H
#define SP_BIN_STATE_H

#include "cli.h"

static struct {
    const char *model, *output, *dtype, *format, *metric, *rows, *names;
    struct sp_option_list layers;
    bool jsonl, full, edited, force;
    double within;
    int64_t n;
} opt = {.output = "-", .metric = "cosine", .rows = "tsv", .names = "%i.state"};

#define OPTION_JSONL                                                                               \
    { SP_OPT_FLAG, 'j', "jsonl", NULL, "one JSON object a line", &opt.jsonl, 0, 0 }
#define OPTION_OUTPUT(what)                                                                        \
    { SP_OPT_STRING, 'o', "output", "FILE", what, &opt.output, 0, 0 }
#define OUTPUT_HELP "write to FILE, whole or not at all (standard output)"

static const struct sp_option info_options[] = {OPTION_JSONL, CLI_OPTION_END};
static const struct sp_program info_program = {
    .name = "state info",
    .operands = "FILE...",
    .summary = "Says of states what they are: model, tokens read, origin, norms by layer.",
    .example = "state info cv.state",
    .status_1 = "not used",
    .options = info_options};

static const struct sp_option diff_options[] = {
    {SP_OPT_DOUBLE, 0, "within", "R", "relative difference that still counts as equal (0)",
     &opt.within, 0, 1},
    OPTION_JSONL,
    CLI_OPTION_END};
static const struct sp_program diff_program = {
    .name = "state diff",
    .operands = "A B",
    .summary = "Compares two states layer by layer: ||a - b|| / ||b||.",
    .example = "state diff --within 2e-6 whole.state joined.state",
    .status_1 = "states differ",
    .options = diff_options};

static const struct sp_option verify_options[] = {
    {SP_OPT_STRING, 'm', "model", "MODEL", "the model that they must belong to", &opt.model, 0, 0},
    {SP_OPT_FLAG, 0, "full", NULL, "also hash all weights of the model", &opt.full, 0, 0},
    OPTION_JSONL,
    CLI_OPTION_END};
static const struct sp_program verify_program = {
    .name = "state verify",
    .operands = "FILE...",
    .summary = "Checks states: checksums, shapes, missing layers, NaN, and (-m) the model.",
    .example = "state verify -m mamba-130m-hf *.state",
    .status_1 = "not used",
    .options = verify_options};

static const struct sp_option merge_options[] = {OPTION_OUTPUT(OUTPUT_HELP),
                                                 CLI_OPTION_FORCE(opt.force), CLI_OPTION_END};
static const struct sp_program merge_program = {
    .name = "state merge",
    .operands = "FILE...",
    .summary = "Joins the layers of one state that several processes or hosts have written.",
    .example = "state merge -o cv.state host-a.state host-b.state",
    .status_1 = "not used",
    .options = merge_options};

static const struct sp_option split_options[] = {
    {SP_OPT_STRING, 'o', "output", "NAME",
     "files to write: %i the layers (as 0-11), %n the number (standard output)", &opt.output, 0, 0},
    {SP_OPT_LIST, 'l', "layers", "A-B", "a part: these layers; may be given again (each layer)",
     &opt.layers, 0, 0},
    CLI_OPTION_FORCE(opt.force),
    CLI_OPTION_END};
static const struct sp_program split_program = {
    .name = "state split",
    .operands = "FILE",
    .summary = "Cuts a state into states of some of its layers.",
    .example = "state split -l 0-11 -l 12-23 -o cv.%i.state cv.state",
    .status_1 = "not used",
    .options = split_options};

static const struct sp_option cut_options[] = {
    {SP_OPT_STRING, 'o', "output", "NAME", "files: %i the document's id, %n its number (%i.state)",
     &opt.names, 0, 0},
    CLI_OPTION_END};
static const struct sp_program cut_program = {
    .name = "state cut",
    .operands = "[STREAM...]",
    .summary = "Writes the states that a stream's documents bring along into files.",
    .example = "... | mamba-layer --emit-state | head | tee scores | state cut",
    .options = cut_options};

static const struct sp_option convert_options[] = {{SP_OPT_CHOICE, 't', "dtype", "f32|bf16|f16",
                                                    "type of the numbers in the file", &opt.dtype,
                                                    0, 0},
                                                   OPTION_OUTPUT(OUTPUT_HELP),
                                                   CLI_OPTION_FORCE(opt.force),
                                                   CLI_OPTION_END};
static const struct sp_program convert_program = {
    .name = "state convert",
    .operands = "FILE",
    .summary = "Writes a state in another type, and says on stderr what that loses.",
    .example = "state convert -t bf16 -o small.state cv.state",
    .status_1 = "not used",
    .options = convert_options};

static const struct sp_option export_options[] = {OPTION_OUTPUT(OUTPUT_HELP),
                                                  CLI_OPTION_FORCE(opt.force), CLI_OPTION_END};
static const struct sp_program export_program = {
    .name = "state export",
    .operands = "FILE",
    .summary = "Writes a state as safetensors, for Python and other programs.",
    .example = "state export -o cv.safetensors cv.state",
    .status_1 = "not used",
    .options = export_options};

static const struct sp_option import_options[] = {
    OPTION_OUTPUT(OUTPUT_HELP),
    {SP_OPT_FLAG, 0, "edited", NULL, "take numbers that were changed since, as origin tuned",
     &opt.edited, 0, 0},
    CLI_OPTION_FORCE(opt.force),
    CLI_OPTION_END};
static const struct sp_program import_program = {
    .name = "state import",
    .operands = "FILE.safetensors",
    .summary = "Makes a state of what `state export` has written.",
    .example = "state import -o cv.state cv.safetensors",
    .status_1 = "not used",
    .options = import_options};

static const struct sp_option mix_options[] = {OPTION_OUTPUT(OUTPUT_HELP),
                                               CLI_OPTION_FORCE(opt.force), CLI_OPTION_END};
static const struct sp_program mix_program = {
    .name = "state mix",
    .operands = "FILE:WEIGHT...",
    .summary = "Adds up states of one model, each times its weight (State Soup).",
    .example = "state mix a.state:0.7 b.state:0.3 -o - | state info -",
    .status_1 = "not used",
    .options = mix_options};

static const struct sp_option plot_options[] = {OPTION_OUTPUT(OUTPUT_HELP),
                                                {SP_OPT_CHOICE, 0, "format", "svg|pgm",
                                                 "of the picture (by FILE's name, else svg)",
                                                 &opt.format, 0, 0},
                                                CLI_OPTION_FORCE(opt.force),
                                                CLI_OPTION_END};
static const struct sp_program plot_program = {
    .name = "state plot",
    .operands = "FILE",
    .summary = "Draws how large each channel of each layer of a state is.",
    .example = "state plot -o cv.svg cv.state",
    .status_1 = "not used",
    .options = plot_options};

static const struct sp_option near_options[] = {
    {SP_OPT_CHOICE, 0, "metric", "cosine|l2", "distance, by layer, then averaged (cosine)",
     &opt.metric, 0, 0},
    {SP_OPT_INT, 'n', "nearest", "K", "show the K nearest only (0: all)", &opt.n, 0, INT32_MAX},
    {SP_OPT_CHOICE, 'o', "output", "tsv|jsonl", "lines to write (tsv)", &opt.rows, 0, 0},
    CLI_OPTION_END};
static const struct sp_program near_program = {
    .name = "state near",
    .operands = "QUERY FILE...",
    .summary = "Ranks states by their distance to one: distance, tokens read, name.",
    .example = "state near -n 5 query.state cvs/*.state",
    .status_1 = "some were left out",
    .options = near_options};

static const struct sp_option options[] = {CLI_OPTION_END};

static const struct sp_program program = {
    .name = "state",
    .operands = "COMMAND ...    (see state COMMAND --help)",
    .summary = "Looks at states, what a model remembers of a text, and makes new ones of them.",
    .detail = "Commands:\n"
              "  info     what states are: model, tokens read, norms of each layer\n"
              "  diff     the difference of two, layer by layer\n"
              "  verify   are they whole, and of this model?\n"
              "  near     ranks states by their distance to one\n"
              "  merge    one state of the layers of several\n"
              "  split    states of some of the layers of one\n"
              "  cut      files of the states in a stream (mamba-layer --emit-state)\n"
              "  convert  numbers in the file as f32, bf16 or f16\n"
              "  export   to safetensors\n"
              "  import   from safetensors\n"
              "  mix      a weighted sum of states\n"
              "  plot     a picture of a state, SVG or PGM",
    .example = "state info cv.state; state mix a.state:0.7 b.state:0.3 -o ab.state",
    .status_1 = "see the command",
    .options = options};

#endif
