/* Tests xq prepare when it is killed, started twice, or watched. */
#include "../../prepare/safetensors.h"
#include "../../runtime/base/half.h"
#include "../support/command.h"
#include "../support/files.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Writes a model of random projections, which take a while to factor. All layers are alike. */
static const char *random_model(int hidden, int kv_width, int layers)
{
    enum { MOST_LAYERS = 32 };
    const char *directory = files_directory();
    size_t count = (size_t)hidden * (size_t)kv_width;
    uint16_t *values = malloc(sizeof *values * count);
    static char names[2 * MOST_LAYERS][64];
    tensor tensors[2 * MOST_LAYERS];
    char config[512];
    error err = ERROR_INIT;
    srand48(5);
    for (size_t i = 0; i < count; i++)
        values[i] = half_from_float((float)drand48() - 0.5f);
    for (int i = 0; i < 2 * layers; i++) {
        snprintf(names[i], sizeof names[i], "model.layers.%d.self_attn.%c_proj.weight", i / 2, "kv"[i % 2]);
        tensors[i] = (tensor){.name = names[i],
                              .type = TENSOR_F16,
                              .rank = 2,
                              .shape = {kv_width, hidden},
                              .data = values,
                              .bytes = 2 * count};
    }
    cr_assert_eq(safetensors_write(files_path(directory, "model.safetensors"), tensors, 2 * layers, &err),
                 XQ_OK, "%s", err.message);
    snprintf(config, sizeof config,
             "{\"model_type\": \"llama\", \"hidden_size\": %d, \"num_attention_heads\": %d, "
             "\"num_key_value_heads\": %d, \"num_hidden_layers\": %d}",
             hidden, hidden / 64, kv_width / 64, layers);
    files_write(files_path(directory, "config.json"), config, strlen(config));
    free(values);
    return directory;
}

enum { HIDDEN = 512, KV_WIDTH = 256, LAYERS = 8 };
static const char options[] = "--method latent --pack --threads 1";

/* Bytes of the matrices of a layer, without its packed weights. */
static const off_t layer_bytes = 2 * (2 * HIDDEN * KV_WIDTH + 2 * KV_WIDTH * KV_WIDTH);

static void sleep_a_little(void)
{
    const struct timespec t = {.tv_nsec = 1000000};
    nanosleep(&t, NULL);
}

/* Starts the command, and kills it once it has written more than one layer, so that the next run can
 * continue. */
static void kill_half_way(const char *directory, const char *path)
{
    char partial[4200];
    struct stat st = {0};
    snprintf(partial, sizeof partial, "%s.partial", path);
    pid_t pid = command_start("prepare %s -o %s %s", directory, path, options);
    while ((stat(partial, &st) != 0 || st.st_size < 3 * layer_bytes) && waitpid(pid, NULL, WNOHANG) == 0)
        sleep_a_little();
    kill(pid, SIGKILL);
    command_wait(pid);
    cr_assert_eq(stat(path, &st), -1, "it was done before it could be killed");
    cr_assert_eq(stat(partial, &st), 0);
}

/* Returns the file of a run that nothing disturbs. */
static const char *undisturbed(const char *directory)
{
    const char *path = files_path(directory, "whole.safetensors");
    struct command_result r = command_run("prepare %s -o %s %s", directory, path, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_eq(r.err, "");
    return path;
}

Test(prepare_resume, a_killed_command_goes_on_and_ends_in_the_same_bytes, .timeout = 120)
{
    const char *directory = random_model(HIDDEN, KV_WIDTH, LAYERS), *whole = undisturbed(directory);
    const char *path = files_path(directory, "killed.safetensors");
    int done = 0, all = 0;
    kill_half_way(directory, path);
    struct command_result r = command_run("prepare %s -o %s %s", directory, path, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    const char *text = strstr(r.err, "killed.safetensors.partial: ");
    cr_assert(text &&
                  sscanf(text, "killed.safetensors.partial: %d of %d layers are done\n", &done, &all) == 2,
              "%s", r.err);
    cr_assert(done >= 1 && done < LAYERS && all == LAYERS, "%s", r.err);
    files_assert_same(path, whole);
    cr_assert_eq(files_count(directory), 4, "something is left");
}

Test(prepare_resume, another_command_starts_anew_and_says_so, .timeout = 120)
{
    const char *directory = random_model(HIDDEN, KV_WIDTH, LAYERS),
               *path = files_path(directory, "w.safetensors");
    char line[4400];
    kill_half_way(directory, path);
    struct command_result r = command_run("prepare %s -o %s --method x", directory, path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    snprintf(line, sizeof line,
             "xq prepare: %s.partial: another command wrote it (another model or method, or other options "
             "of it); "
             "starting anew\n",
             path);
    cr_assert_str_eq(r.err, line);
    kill_half_way(directory, files_path(directory, "v.safetensors"));
    r = command_run("prepare %s -o %s/v.safetensors --method x --quiet", directory, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_eq(r.err, "");
    files_assert_same(path, files_path(directory, "v.safetensors"));
}

/* If FILE.partial is an input or any other file, it is not overwritten. */
Test(prepare_resume, an_input_by_the_name_of_the_unfinished_file_stays, .timeout = 120)
{
    const char *directory = random_model(HIDDEN, KV_WIDTH, LAYERS);
    const char *weights = files_path(directory, "model.safetensors"),
               *real = files_path(directory, "real.partial");
    size_t before, after;
    cr_assert_eq(rename(weights, real), 0);
    cr_assert_eq(symlink("real.partial", weights), 0);
    char *data = files_read(real, &before);
    struct command_result r = command_run("prepare %s -o %s/real %s", directory, directory, options);
    cr_expect_eq(r.status, 1, "%s", r.err);
    cr_expect(strstr(r.err, "real.partial: this file is in the way of the output"), "%s", r.err);
    char *kept = files_read(real, &after);
    cr_assert_eq(after, before);
    cr_expect_arr_eq(kept, data, before);
    free(data);
    free(kept);
}

Test(prepare_resume, other_weights_of_the_same_sizes_start_anew, .timeout = 120)
{
    const char *directory = random_model(HIDDEN, KV_WIDTH, LAYERS),
               *path = files_path(directory, "w.safetensors");
    const char *weights = files_path(directory, "model.safetensors");
    size_t size;
    kill_half_way(directory, path);
    char *data = files_read(weights, &size);
    data[size - 2] ^= 1; /* in the last layer, which was not begun */
    files_write(weights, data, size);
    free(data);
    struct command_result r = command_run("prepare %s -o %s %s", directory, path, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert(strstr(r.err, "(other weights of the model); starting anew"), "%s", r.err);
    files_assert_same(path, undisturbed(directory));
}

Test(prepare_resume, two_at_once_make_one_whole_file, .timeout = 120)
{
    const char *directory = random_model(HIDDEN, KV_WIDTH, LAYERS), *whole = undisturbed(directory);
    const char *path = files_path(directory, "w.safetensors");
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        pids[i] = command_start("prepare %s -o %s %s", directory, path, options);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(command_wait(pids[i]), 0);
    files_assert_same(path, whole);
    cr_assert_eq(files_count(directory), 4, "something is left");
}

Test(prepare_resume, threads_do_not_change_the_result, .timeout = 120)
{
    const char *directory = random_model(HIDDEN, KV_WIDTH, 5),
               *path = files_path(directory, "w.safetensors");
    struct command_result r =
        command_run("prepare %s -o %s --method latent --pack --threads 4", directory, path);
    cr_assert_eq(r.status, 0, "%s", r.err);
    files_assert_same(path, undisturbed(directory));
}

/* Whether the command shows `wanted` on a terminal before it ends. */
static bool terminal_shows(const char *directory, const char *wanted)
{
    char text[1 << 16];
    size_t used = 0;
    int terminal;
    char *const arguments[] = {"xq",       "prepare", (char *)directory,
                               "--method", "latent",  "--threads",
                               "1",        "-o",      (char *)files_path(directory, "w.safetensors"),
                               NULL};
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        execv(command_program(), arguments);
        _exit(127);
    }
    bool shown = false;
    while (!shown && used < sizeof text - 1) {
        ssize_t got = read(terminal, text + used, sizeof text - 1 - used);
        if (got <= 0)
            break;
        used += (size_t)got;
        text[used] = 0;
        shown = strstr(text, wanted) != NULL;
    }
    kill(pid, SIGKILL);
    command_wait(pid);
    close(terminal);
    return shown;
}

Test(prepare_resume, a_terminal_shows_the_time_left, .timeout = 120)
{
    const char *directory = random_model(1024, 512, 32);
    cr_assert(terminal_shows(directory, " s left  "));
}
