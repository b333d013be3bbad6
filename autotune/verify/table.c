/* The table of axes and their values. */
#include "axes.h"

#include <string.h>

struct value_row {
    const char *name, *json;
    int number[2];
};

struct axis_row {
    const char *name;
    enum verify_section section;
    int interacts;
    struct value_row values[VERIFY_MAX_VALUES]; /* the values end at the first without a name */
};

#define ROPE(members) "\"rope\": {" members "}"

static const struct axis_row axes[VERIFY_AXES] = {
    [AXIS_METHOD] = {"method",
                     SECTION_CACHE,
                     VERIFY_CORE,
                     {{"x", "\"method\": \"x\", \"rotation\": false", {0}},
                      {"latent", "\"method\": \"latent\"", {0}},
                      {"x-cl", "\"method\": \"x-cl\"", {0}},
                      {"latent-cl", "\"method\": \"latent-cl\"", {0}},
                      {"x-rotated", "\"method\": \"x\", \"rotation\": true", {0}}}},
    [AXIS_BITS] = {"bits",
                   SECTION_CACHE,
                   VERIFY_CORE,
                   {{"4", "\"bits\": 4", {4}},
                    {"8", "\"bits\": 8", {8}},
                    {"2", "\"bits\": 2", {2}},
                    {"3", "\"bits\": 3", {3}}}},
    [AXIS_GROUPS_OF] = {"axis",
                        SECTION_CACHE,
                        VERIFY_CORE,
                        {{"token", "", {0}},
                         {"channel", "\"axis_k\": \"channel\"", {0}},
                         {"both-channel", "\"axis_k\": \"channel\", \"axis_v\": \"channel\"", {0}}}},
    [AXIS_ZERO_POINT] = {"zero point",
                         SECTION_CACHE,
                         VERIFY_CORE,
                         {{"float", "", {0}}, {"integer", "\"zero_point\": \"integer\"", {0}}}},
    [AXIS_WEIGHTS] = {"weights",
                      SECTION_TOP,
                      VERIFY_CORE,
                      {{"f16", "\"weights\": \"f16\"", {0}},
                       {"bf16", "\"weights\": \"bf16\"", {0}},
                       {"int8", "\"weights\": \"int8\"", {0}},
                       {"e4m3", "\"weights\": \"e4m3\"", {0}}}},
    [AXIS_DTYPE] = {"dtype",
                    SECTION_TOP,
                    VERIFY_CORE,
                    {{"f16", "", {0}}, {"bf16", "\"dtype\": \"bf16\"", {0}}}},
    [AXIS_QUERIES] = {"queries",
                      SECTION_TOP,
                      VERIFY_CORE | VERIFY_FEATURE,
                      {{"one", "", {0}}, {"many", "\"queries\": \"many\"", {0}}}},
    [AXIS_SCHEDULE] = {"schedule", SECTION_TOP, VERIFY_CORE, {{"default", "", {0}}, {"drawn", "", {0}}}},
    [AXIS_ROPE] =
        {"rope",
         SECTION_MODEL,
         VERIFY_FEATURE,
         {{"neox", "\"rope_theta\": 10000.0", {0}},
          {"none", ROPE("\"type\": \"none\""), {0}},
          {"interleaved", ROPE("\"type\": \"interleaved\", \"theta\": 10000.0"), {0}},
          {"partial", "\"rope_theta\": 10000.0, \"partial_rotary_factor\": 0.25", {0}},
          {"partial-interleaved", "\"rope_interleaved\": true, \"partial_rotary_factor\": 0.5", {0}},
          {"linear",
           ROPE("\"type\": \"neox\", \"theta\": 10000.0, \"scaling\": {\"type\": \"linear\", \"factor\": "
                "4.0}"),
           {0}},
          {"llama3",
           ROPE("\"type\": \"neox\", \"theta\": 500000.0, \"scaling\": {\"type\": \"llama3\", \"factor\": "
                "8.0, "
                "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
                "\"original_max_position_embeddings\": 64}"),
           {0}},
          {"yarn",
           ROPE("\"type\": \"neox\", \"theta\": 150000.0, \"scaling\": {\"type\": \"yarn\", \"factor\": "
                "32.0, "
                "\"original_max_position_embeddings\": 128}"),
           {0}},
          {"alibi", "\"alibi\": true", {0}}}},
    [AXIS_HEAD_DIM] = {"head_dim",
                       SECTION_MODEL,
                       VERIFY_FEATURE,
                       {{"64", "\"head_dim\": 64", {64}},
                        {"128", "\"head_dim\": 128", {128}},
                        {"80", "\"head_dim\": 80", {80}},
                        {"96", "\"head_dim\": 96", {96}},
                        {"112", "\"head_dim\": 112", {112}},
                        {"160", "\"head_dim\": 160", {160}},
                        {"192", "\"head_dim\": 192", {192}},
                        {"256", "\"head_dim\": 256", {256}}}},
    [AXIS_BIAS] = {"bias",
                   SECTION_MODEL,
                   VERIFY_FEATURE,
                   {{"no", "", {0}}, {"yes", "\"attention_bias\": true", {0}}}},
    [AXIS_NORM] = {"qk_norm",
                   SECTION_MODEL,
                   VERIFY_FEATURE,
                   {{"no", "", {0}},
                    {"head", "\"qk_norm\": \"head\", \"rms_norm_eps\": 1e-6", {0}},
                    {"row", "\"qk_norm\": \"row\", \"rms_norm_eps\": 1e-5", {0}}}},
    [AXIS_SOFTCAP] = {"softcap",
                      SECTION_MODEL,
                      VERIFY_FEATURE,
                      {{"no", "", {0}}, {"yes", "\"attn_logit_softcapping\": 5.0", {0}}}},
    [AXIS_WINDOW] = {"window",
                     SECTION_MODEL,
                     VERIFY_FEATURE,
                     {{"no", "", {0}},
                      {"100", "\"sliding_window\": 100", {100}},
                      {"1", "\"sliding_window\": 1", {1}},
                      {"17", "\"sliding_window\": 17", {17}}}},
    [AXIS_SINKS] = {"sinks",
                    SECTION_MODEL,
                    VERIFY_FEATURE,
                    {{"no", "", {0}}, {"yes", "\"attention_sinks\": true", {0}}}},
    [AXIS_SCALE] = {"scale",
                    SECTION_MODEL,
                    VERIFY_FEATURE,
                    {{"usual", "", {0}}, {"own", "\"attention_scale\": 0.07", {0}}}},
    [AXIS_HEADS] = {"heads",
                    SECTION_MODEL,
                    0,
                    {{"2/2", "", {2, 2}},
                     {"1/1", "", {1, 1}},
                     {"4/4", "", {4, 4}},
                     {"4/2", "", {4, 2}},
                     {"6/3", "", {6, 3}},
                     {"10/2", "", {10, 2}},
                     {"6/1", "", {6, 1}},
                     {"14/2", "", {14, 2}},
                     {"8/8", "", {8, 8}},
                     {"16/4", "", {16, 4}},
                     {"24/2", "", {24, 2}},
                     {"71/1", "", {71, 1}},
                     {"64/8", "", {64, 8}},
                     {"128/1", "", {128, 1}},
                     {"128/4", "", {128, 4}},
                     {"32/32", "", {32, 32}}}},
    [AXIS_ACCUMULATOR] = {"accumulator",
                          SECTION_CACHE,
                          0,
                          {{"16", "\"accumulator_bits\": 16", {16}},
                           {"8", "\"accumulator_bits\": 8", {8}},
                           {"4", "\"accumulator_bits\": 4", {4}}}},
    [AXIS_GROUP] = {"group",
                    SECTION_CACHE,
                    0,
                    {{"128", "\"group\": 128", {128}},
                     {"32", "\"group\": 32", {32}},
                     {"64", "\"group\": 64", {64}},
                     {"256", "\"group\": 256", {256}},
                     {"row", "\"group\": \"row\"", {0}}}},
    [AXIS_PAGE] = {"page",
                   SECTION_CACHE,
                   0,
                   {{"64", "\"page\": 64", {64}},
                    {"16", "\"page\": 16", {16}},
                    {"32", "\"page\": 32", {32}},
                    {"48", "\"page\": 48", {48}},
                    {"128", "\"page\": 128", {128}},
                    {"176", "\"page\": 176", {176}},
                    {"256", "\"page\": 256", {256}}}},
    [AXIS_RANKS] = {"ranks", SECTION_CACHE, 0, {{"full", "", {0}}, {"low", "", {0}}, {"padded", "", {0}}}},
    [AXIS_LATENTS] = {"latents",
                      SECTION_CACHE,
                      0,
                      {{"one", "", {1, 1}},
                       {"two", "", {2, 2}},
                       {"each", "", {0, 0}},
                       {"each,one", "", {0, 1}},
                       {"one,each", "", {1, 0}},
                       {"each,two", "", {0, 2}}}},
    [AXIS_CLIP] = {"clip", SECTION_CACHE, 0, {{"1", "\"clip\": 1", {0}}, {"0.7", "\"clip\": 0.7", {0}}}},
    [AXIS_FEEDBACK] = {"feedback", SECTION_CACHE, 0, {{"no", "", {0}}, {"yes", "\"feedback\": true", {0}}}},
    [AXIS_SIZE] = {"size", SECTION_TOP, 0, {{"1", "", {0}}, {"2^-16", "", {-16}}, {"2^10", "", {10}}}},
};

/* ---------------------------------------------------------------- the table */

const char *verify_axis_name(enum verify_axis axis)
{
    return axes[axis].name;
}

int verify_axis_values(enum verify_axis axis)
{
    int count = 0;
    while (count < VERIFY_MAX_VALUES && axes[axis].values[count].name)
        count++;
    return count;
}

const char *verify_value_name(enum verify_axis axis, int value)
{
    return axes[axis].values[value].name;
}

const char *verify_value_json(enum verify_axis axis, int value, enum verify_section section)
{
    return axes[axis].section == section ? axes[axis].values[value].json : "";
}

int verify_value_number(enum verify_axis axis, int value, int which)
{
    return axes[axis].values[value].number[which];
}

int verify_axis_interacts(enum verify_axis axis)
{
    return axes[axis].interacts;
}

bool verify_chosen(const verify_choice *choice, enum verify_axis axis, const char *name)
{
    return strcmp(axes[axis].values[choice->value[axis]].name, name) == 0;
}
