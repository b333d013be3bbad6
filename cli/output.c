/* The output of the subcommands: files that are begun before the work and published after it, JSON, and
 * standard output. */
#include "../gen/json.h"
#include "../runtime/base/publish.h"
#include "cli.h"
#include "file_set.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A process runs one command. These are the files that it reads and writes, and that a signal must clean
 * up. */
enum { MOST_OUTPUTS = CLI_MOST_FILES + 8, MOST_FOLDERS = 256 };

struct input {
    const char *option, *path;
};

struct output {
    const char *option;
    publish_identity identity;
    publication *file; /* abandoned at the end; NULL: it has another owner, or has ended */
    char *temporary;   /* removed by a signal; NULL: nothing to remove */
};

static struct input *inputs;
static int input_count;
static bool input_is_lost; /* memory ran out while noting an input */
static struct output outputs[MOST_OUTPUTS];
static volatile sig_atomic_t output_count; /* a handler of SIGPIPE reads it */
static publication *json_file;             /* NULL: JSON goes to standard output, or is not begun */
static bool json_is_begun, stdout_is_taken;
static char *made_folders[MOST_FOLDERS]; /* removed where empty if the command fails; inner ones last */
static volatile sig_atomic_t made_folder_count;
static struct cli_shown written; /* the first file that appeared */
static int written_count;

/* ----------------------------------------------------------------- signals */

/* Held while a temporary file or a folder is made and noted. */
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

/* Held while files that belong together appear. */
static pthread_mutex_t appearing = PTHREAD_MUTEX_INITIALIZER;

void cli_hold_signals(void)
{
    pthread_mutex_lock(&appearing);
}

void cli_release_signals(void)
{
    pthread_mutex_unlock(&appearing);
}

/* Removes the folders that were made. A folder that is not empty stays. */
static void remove_folders(void)
{
    for (int i = made_folder_count; i-- > 0;)
        rmdir(made_folders[i]);
}

void cli_remove_temporaries(int signal_number)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++; /* Opening a FIFO holds `making` until it has a reader, and leaves nothing to remove */
    if (signal_number != SIGPIPE) {
        pthread_mutex_lock(&appearing);
        pthread_mutex_timedlock(&making, &until);
    }
    for (int i = 0; i < output_count; i++)
        if (outputs[i].temporary)
            unlink(outputs[i].temporary);
    remove_folders();
}

/* ------------------------------------------------------------- inputs and outputs */

void cli_reads(const char *option, const char *path)
{
    if (!path)
        return;
    struct input *more = realloc(inputs, sizeof *more * (size_t)(input_count + 1));
    input_is_lost = input_is_lost || !more;
    if (more) {
        inputs = more;
        inputs[input_count++] = (struct input){option, path};
    }
}

void cli_reads_common(const struct cli_common *common, const struct cli_spec *spec)
{
    static char library[PATH_MAX];
    cli_reads("--templates", common->templates);
    if (common->templates && snprintf(library, sizeof library, "%s/lib", common->templates) < PATH_MAX)
        cli_reads("--templates", library);
    if (spec) {
        if (spec->spec_file && strcmp(spec->spec_file, "-") != 0)
            cli_reads("--spec", spec->spec_file);
        cli_reads("--model", spec->model);
    }
}

static bool is_at(const publish_identity *output, const struct stat *st)
{
    const publish_identity input = {.device = st->st_dev, .inode = st->st_ino};
    return publish_same(output, &input);
}

/* Whether the command reads files of this name from a folder that is an input: a model directory, or a
 * folder of templates. */
static bool is_read(const char *option, const char *name)
{
    static const char *const names[] = {"config.json", "model.safetensors", "model.safetensors.index.json"};
    if (strcmp(option, "--templates") == 0)
        return true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    const char *shard = strstr(name, "-of-"); /* as in model-00001-of-00002.safetensors */
    return shard && strstr(shard, ".safetensors");
}

/* Whether the output is a file that the command reads from the folder, or would read if it existed: a new
 * model.safetensors would replace the shards of a model. */
static bool is_within(const publish_identity *output, const struct input *in, const struct stat *folder_st)
{
    bool found = *output->name && strcmp(in->option, "--templates") != 0 &&
                 output->device == folder_st->st_dev && output->inode == folder_st->st_ino &&
                 is_read(in->option, output->name);
    DIR *folder = opendir(in->path);
    for (struct dirent *e = folder ? readdir(folder) : NULL; e && !found; e = readdir(folder)) {
        struct stat st;
        found = is_read(in->option, e->d_name) && fstatat(dirfd(folder), e->d_name, &st, 0) == 0 &&
                is_at(output, &st);
    }
    if (folder)
        closedir(folder);
    return found;
}

/* Refuses an output that is also an input, or another output, because writing it would destroy that
 * file. */
static xq_status check_others(const char *option, const char *path, const publish_identity *identity,
                              error *err)
{
    if (input_is_lost)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    for (int i = 0; i < input_count; i++) {
        struct stat st;
        if (stat(inputs[i].path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode) && is_within(identity, &inputs[i], &st))
            return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                             "%s %s is a file that is read from %s %s; give another path", option, path,
                             inputs[i].option, inputs[i].path);
        if (is_at(identity, &st))
            return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                             "%s %s is the same file as %s %s; give another path", option, path,
                             inputs[i].option, inputs[i].path);
    }
    for (int i = 0; i < output_count; i++)
        if (publish_same(identity, &outputs[i].identity))
            return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                             "%s %s is the same file as %s; give another path", option, path,
                             outputs[i].option);
    return XQ_OK;
}

static struct output *add_output(const char *option, const publish_identity *identity, error *err)
{
    if (output_count == MOST_OUTPUTS) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "more than %d files to write", MOST_OUTPUTS);
        return NULL;
    }
    outputs[output_count] = (struct output){.option = option, .identity = *identity};
    return &outputs[output_count++];
}

/* ------------------------------------------------------------------- files */

static bool stdout_is_open(void)
{
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY; /* else cli_open_standard_streams opened it */
}

/* Whether a path leads to standard output. A file that the shell has opened must not be replaced. */
static bool is_stdout(const char *path)
{
    struct stat st, own;
    return stdout_is_open() && stat(path, &st) == 0 && fstat(STDOUT_FILENO, &own) == 0 &&
           st.st_dev == own.st_dev && st.st_ino == own.st_ino;
}

static xq_status begin(const char *option, const char *path,
                       xq_status (*open)(const char *, publication **, error *), publication **out,
                       error *err)
{
    publish_identity identity;
    pthread_mutex_lock(&making); /* a signal must not remove folders that are looked at here */
    struct output *o = NULL;
    if (publish_identify(path, &identity, err) == XQ_OK &&
        check_others(option, path, &identity, err) == XQ_OK)
        o = add_output(option, &identity, err);
    if (o && open(path, out, err) == XQ_OK) {
        if (publish_temporary(*out) && !publish_resumes(*out))
            o->temporary = strdup(publish_temporary(*out));
        o->file = *out;
    }
    pthread_mutex_unlock(&making);
    return err->status;
}

xq_status cli_begin_output(const char *option, const char *path, publication **out, error *err)
{
    bool named = strcmp(path, "-") == 0, to_stdout = named || is_stdout(path);
    stdout_is_taken = stdout_is_taken || to_stdout;
    return begin(option,
                 named       ? "/dev/stdout"
                 : to_stdout ? "/proc/self/fd/1"
                             : path,
                 publish_begin, out, err);
}

xq_status cli_begin_resumable(const char *option, const char *path, publication **out, error *err)
{
    return begin(option, path, publish_resume, out, err);
}

xq_status cli_begin_folder(const char *path, error *err)
{
    struct stat st;
    pthread_mutex_lock(&making);
    char *name = made_folder_count < MOST_FOLDERS ? strdup(path) : NULL;
    if (!name)
        errno = ENOMEM;
    bool made = name && mkdir(path, 0777) == 0;
    int why = errno;
    if (made)
        made_folders[made_folder_count++] = name;
    else
        free(name);
    pthread_mutex_unlock(&making);
    errno = why;
    if (made)
        return XQ_OK;
    if (errno == EEXIST && stat(path, &st) == 0) {
        errno = S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
        if (!errno && access(path, W_OK | X_OK) == 0)
            return XQ_OK;
    }
    error_set(err, XQ_ERROR_IO, "file", "cannot write into the folder %s: %s", path, strerror(errno));
    return error_at(err, path, 0);
}

static struct output *find_output(const publication *file)
{
    int i = 0;
    while (i < output_count && outputs[i].file != file)
        i++;
    return i < output_count ? &outputs[i] : NULL;
}

void cli_release_output(publication *file)
{
    struct output *o = find_output(file);
    if (o)
        o->file = NULL;
}

void cli_has_written(const char *path)
{
    if (written_count++ == 0)
        written = cli_show(path);
}

xq_status cli_commit_output(publication *file, error *err)
{
    struct output *o = find_output(file);
    bool appears = publish_temporary(file);
    struct cli_shown path = cli_show(publish_path(file));
    cli_release_output(file);
    if (publish_commit(file, err) == XQ_OK && appears)
        cli_has_written(path.text);
    if (o) {
        pthread_mutex_lock(&making);
        free(o->temporary);
        o->temporary = NULL;
        pthread_mutex_unlock(&making);
    }
    return err->status;
}

/* -------------------------------------------------------------------- JSON */

bool cli_json_to_stdout(const struct cli_common *common)
{
    return stdout_is_taken || (common->json && strcmp(common->json, "-") == 0);
}

/* Registers standard output like any other output. */
static xq_status begin_stdout(error *err)
{
    struct stat st;
    if (!stdout_is_open() || fstat(STDOUT_FILENO, &st) != 0)
        return error_set(err, XQ_ERROR_IO, "file", "cannot write to standard output: %s", strerror(EBADF));
    const publish_identity identity = {
        .device = st.st_dev, .inode = st.st_ino, .is_device = S_ISCHR(st.st_mode)};
    stdout_is_taken = true;
    if (check_others("--json", "-", &identity, err) == XQ_OK)
        add_output("--json", &identity, err);
    return err->status;
}

xq_status cli_begin_json(const struct cli_common *common, error *err)
{
    if (!common->json || json_is_begun)
        return XQ_OK;
    json_is_begun = true;
    return strcmp(common->json, "-") == 0 || is_stdout(common->json)
               ? begin_stdout(err)
               : cli_begin_output("--json", common->json, &json_file, err);
}

/* Bytes that are no UTF-8 may come from a path in the environment. They become U+FFFD. Takes `text`;
 * returns NULL when out of memory. */
static char *as_utf8(char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const char *at = text;
    char *copy = cli_is_utf8(text) ? text : malloc(3 * strlen(text) + 2), *out = copy;
    while (copy && copy != text) {
        size_t good = json_utf8_bytes(at);
        out = mempcpy(out, at, good);
        at += good;
        if (!*at) {
            *out = 0;
            break;
        }
        out = mempcpy(out, replacement, sizeof replacement - 1);
        at++;
    }
    if (copy != text)
        free(text);
    return copy;
}

xq_status cli_write_json(const struct cli_common *common, const cJSON *json, error *err)
{
    if (!common->json || cli_begin_json(common, err) != XQ_OK)
        return err->status;
    char *text = cJSON_Print(json);
    text = text ? as_utf8(text) : NULL;
    if (!text)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    size_t n = strlen(text);
    text[n] = '\n'; /* replaces the NUL, and so stays within the size of cJSON's text */
    if (json_file) {
        publish_write(json_file, text, n + 1, err);
        cli_commit_output(json_file, err);
        json_file = NULL;
    } else {
        fwrite(text, 1, n + 1, stdout); /* cli_end checks whether this succeeded */
    }
    free(text);
    return err->status;
}

/* ------------------------------------------------------------ the process as a whole */

void cli_open_standard_streams(void)
{
    signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit on file sizes then fails, as on a full disk */
    /* If one of these descriptors were closed, the next file that is opened would get its number. The link
     * that takes its place can neither be read nor written, and cannot be opened by a name such as
     * /dev/stdin (files_reason). */
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/proc/self", O_PATH | O_NOFOLLOW) < 0)
            (void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

/* Files stay although the command fails, because each is complete and may have taken hours. */
static void report_stdout(const char *command, int why)
{
    char files[1200] = "";
    if (written_count == 1)
        snprintf(files, sizeof files, "; %s is complete", written.text);
    else if (written_count > 1)
        snprintf(files, sizeof files, "; %s and %d more file%s are complete", written.text,
                 written_count - 1, written_count == 2 ? "" : "s");
    fprintf(stderr, "xq%s%s: cannot write to standard output%s%s%s\n", *command ? " " : "", command,
            why ? ": " : "", why ? strerror(why) : "", files);
}

int cli_end(const char *command, int status)
{
    for (int i = 0; i < output_count; i++)
        publish_keep(outputs[i].file);
    output_count = 0;
    if (status != CLI_OK)
        remove_folders();
    errno = 0;
    bool good = !ferror(stdout);
    good = fflush(stdout) == 0 && good;
    if (good && fclose(stdout) == 0) /* some file systems report errors only at close */
        return status;
    int why = errno;
    if (!why &&
        write(STDOUT_FILENO, "\n", 1) < 0) /* the write failed earlier, so the output is cut short anyway */
        why = errno;
    report_stdout(command, why);
    return status == CLI_OK ? CLI_BAD_INPUT : status;
}
