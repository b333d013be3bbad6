/* Makes the texts of a bundle. */
#include "../gen/embed.h"
#include "emit.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Files that are copied into every bundle: xqrt.c and xqrt.h (scripts/amalgamate.sh), LICENSE and
 * layout.md. */
extern const struct embed_file emit_files[];

static xq_status out_of_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
}

static const char *built_in(const char *name)
{
    const struct embed_file *f = emit_files;
    while (f->name) {
        const char *slash = strrchr(f->name, '/');
        if (strcmp(slash ? slash + 1 : f->name, name) == 0)
            return f->text;
        f++;
    }
    return "";
}

/* ---------------------------------------------------------------- renaming */

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Words that are not renamed: environment variables, which texts write as $XQ_NAME, and the variable that
 * the runtime itself reads. */
static bool keeps_name(const char *word, size_t length, char before)
{
    static const char driver[] = "XQ_LIBCUDA";
    return before == '$' || (length == sizeof driver - 1 && strncmp(word, driver, length) == 0);
}

static void put_capitals(FILE *f, const char *name)
{
    for (; *name; name++)
        fputc(toupper((unsigned char)*name), f);
}

static void write_renamed(FILE *f, const char *text, const char *name)
{
    static const char include[] = "#include \"xq.h\"";
    char before = 0;
    while (*text) {
        size_t length = 0;
        while (is_word(text[length]))
            length++;
        if (strncmp(text, include, sizeof include - 1) == 0) {
            fprintf(f, "#include \"%s.h\"", name);
            text += sizeof include - 1;
            continue;
        }
        const bool lower = strncmp(text, "xq_", 3) == 0, upper = strncmp(text, "XQ_", 3) == 0;
        size_t skipped = 0;
        if (length >= 3 && (lower || upper) && !keeps_name(text, length, before)) {
            if (lower)
                fputs(name, f);
            else
                put_capitals(f, name);
            skipped = 2;
        }
        length = length ? length : 1;
        fwrite(text + skipped, 1, length - skipped, f);
        text += length;
        before = text[-1];
    }
}

/* The text in which every word that begins with xq_ begins with `name` instead, and every word that begins
 * with XQ_ begins with the capitals of `name`. Caller frees *out. */
static xq_status rename_words(const char *text, const char *name, char **out, error *err)
{
    size_t size;
    FILE *f = open_memstream(out, &size);
    if (!f)
        return out_of_memory(err);
    write_renamed(f, text, name);
    return fclose(f) == 0 ? XQ_OK : out_of_memory(err);
}

static bool is_among(const char *name, const char *const *words)
{
    while (*words && strcmp(*words, name) != 0)
        words++;
    return *words;
}

static bool has_word(const char *text, const char *prefix, const char *rest, size_t rest_length)
{
    size_t length = strlen(prefix);
    for (const char *at = text; (at = strstr(at, prefix)); at++)
        if ((at == text || !is_word(at[-1])) && strncmp(at + length, rest, rest_length) == 0 &&
            !is_word(at[length + rest_length]))
            return true;
    return false;
}

/* Whether a renamed word of the text would be the same as a word that is there already. */
static bool collides(const char *text, const char *name)
{
    size_t length = strlen(name), end;
    for (const char *word = text; *word; word += end ? end : 1) {
        for (end = 0; is_word(word[end]);)
            end++;
        if (end <= length + 1 || word[length] != '_' || strncasecmp(word, name, length) != 0)
            continue;
        const char *rest = word + length + 1;
        const bool small = islower((unsigned char)*word);
        if (has_word(text, small ? "xq_" : "XQ_", rest, end - length - 1))
            return true;
    }
    return false;
}

/* Headers of C and POSIX, which NAME.h would hide. */
// clang-format off
static const char *const headers[] = {
    "aio", "assert", "complex", "cpio", "ctype", "dirent", "dlfcn", "endian", "errno", "fcntl", "fenv", "float", "fnmatch",
    "ftw", "glob", "grp", "iconv", "inttypes", "iso646", "langinfo", "libgen", "limits", "locale", "malloc", "math", "memory",
    "monetary", "mqueue", "ndbm", "netdb", "poll", "pthread", "pwd", "regex", "sched", "search", "semaphore", "setjmp",
    "signal", "spawn", "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib", "stdnoreturn",
    "string", "strings", "stropts", "syslog", "tar", "termios", "tgmath", "threads", "time", "trace", "uchar", "ulimit",
    "unistd", "utime", "utmpx", "values", "wchar", "wctype", "wordexp", NULL};
/* Names that CMake and linkers use, and names of files of a bundle. */
static const char *const taken[] = {
    "all", "clean", "depend", "edit_cache", "help", "install", "package", "package_source", "rebuild_cache", "test", "dl",
    "rt", "gcc", "stdc", "example", "bundle", "kernels", "plans", NULL};
// clang-format on

const char *emit_refuse_name(const char *name)
{
    size_t length = strlen(name);
    const bool valid = length >= 2 && length <= 40 && islower((unsigned char)*name) &&
                       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == length &&
                       !strstr(name, "__") && name[length - 1] != '_';
    if (!valid)
        return "cannot begin the names of symbols";
    if (is_among(name, headers))
        return "is the name of a system header, which the bundle's would hide";
    if (is_among(name, taken))
        return "is a name that build tools or the bundle use for something else";
    if (strcmp(name, "xq") != 0 && collides(built_in("xqrt.c"), name))
        return "begins internal names of the runtime";
    return NULL;
}

static xq_status add_renamed(struct emitting *e, const char *source, const char *ending, error *err)
{
    char *text = NULL;
    if (rename_words(built_in(source), e->o->name, &text, err) == XQ_OK)
        cli_file_set_add(&e->files, text, strlen(text), err, "%s%s", e->o->name, ending);
    free(text);
    return err->status;
}

/* ------------------------------------------------------------------ images */

static void image_name(const struct emitting *e, int plan, int arch, char name[128])
{
    snprintf(name, 128, "plans/%s.%s.xqplan", e->plans.plans[plan].name, e->archs[arch]);
}

/* Writes words of 8 bytes, least significant byte first, which is the byte order of every machine that xq
 * runs on. */
static void write_array(FILE *f, int number, const struct blueprint *image)
{
    enum { PER_LINE = 6 };
    fprintf(f, "static const uint64_t image_%d[] = {", number);
    for (size_t at = 0; at < image->bytes; at += 8) {
        uint64_t word = 0;
        memcpy(&word, image->image + at, image->bytes - at < 8 ? image->bytes - at : 8);
        fprintf(f, "%s0x%llx,", at / 8 % PER_LINE ? " " : "\n    ", (unsigned long long)word);
    }
    fputs("\n};\n\n", f);
}

static void write_plans(const struct emitting *e, FILE *f)
{
    const char *name = e->o->name;
    fprintf(f,
            "/* The plans of this bundle, and their images. Written by xq emit. */\n#include \"%s.h\"\n\n",
            name);
    for (int p = 0; e->o->embed && p < e->plans.count; p++)
        for (int a = 0; a < e->arch_count; a++)
            write_array(f, p * e->arch_count + a, &e->images[p][a]);
    fprintf(f, "const %s_bundle_image %s_bundle_images[] = {\n", name, name);
    for (int p = 0; p < e->plans.count; p++)
        for (int a = 0; a < e->arch_count; a++) {
            char file[128];
            image_name(e, p, a, file);
            fprintf(f, "    {\"%s\", \"%s\", ", e->plans.plans[p].name, e->archs[a]);
            if (e->o->embed)
                fprintf(f, "NULL, image_%d, ", p * e->arch_count + a);
            else
                fprintf(f, "\"%s\", NULL, ", file);
            fprintf(f, "%zu},\n", e->images[p][a].bytes);
        }
    fputs("    {NULL, NULL, NULL, NULL, 0},\n};\n", f);
}

static xq_status add_plans(struct emitting *e, error *err)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return out_of_memory(err);
    write_plans(e, f);
    if (fclose(f) == 0)
        cli_file_set_add(&e->files, text, size, err, "%s_plans.c", e->o->name);
    else
        out_of_memory(err);
    free(text);
    for (int p = 0; !e->o->embed && p < e->plans.count && err->status == XQ_OK; p++)
        for (int a = 0; a < e->arch_count && err->status == XQ_OK; a++) {
            char name[128];
            image_name(e, p, a, name);
            cli_file_set_add(&e->files, e->images[p][a].image, e->images[p][a].bytes, err, "%s", name);
        }
    return err->status;
}

/* ----------------------------------------------------------------- kernels */

static xq_status add_kernels(struct emitting *e, error *err)
{
    int count = 0;
    const char *const *names, *const *texts;
    gen_headers(e->g, &count, &names, &texts);
    for (int i = 0; i < count && err->status == XQ_OK; i++)
        cli_file_set_add(&e->files, texts[i], strlen(texts[i]), err, "kernels/lib/%s", names[i]);
    for (int p = 0; p < e->plans.count; p++)
        for (int a = 0; a < e->arch_count; a++) {
            const struct blueprint *b = &e->images[p][a];
            for (int k = 0; k < b->kernel_count && err->status == XQ_OK; k++)
                cli_file_set_add(&e->files, b->kernels[k].source, strlen(b->kernels[k].source), err,
                                 "kernels/%s/%s/%s.cu", e->plans.plans[p].name, e->archs[a],
                                 b->kernels[k].name);
        }
    return err->status;
}

/* ------------------------------------------------------- the description of the bundle */

static cJSON *limits_json(const struct emit_options *o)
{
    cJSON *limits = cJSON_CreateObject();
    cJSON_AddNumberToObject(limits, "max_batch", (double)o->max_batch);
    cJSON_AddNumberToObject(limits, "max_tokens", (double)o->max_tokens);
    cJSON_AddNumberToObject(limits, "max_pages", (double)o->max_pages);
    cJSON_AddNumberToObject(limits, "max_append", (double)o->max_append);
    cJSON_AddNumberToObject(limits, "max_queries", (double)o->max_queries);
    cJSON_AddNumberToObject(limits, "max_total_queries", (double)o->max_total_queries);
    return limits;
}

/* The sizes of xq_plan_info that are the same on every GPU. */
static cJSON *info_json(const char *completed, error *err)
{
    struct spec_view v;
    cJSON *info = cJSON_CreateObject();
    if (spec_view_read(completed, &v, err) != XQ_OK)
        return info;
    const struct shape *s = &v.shape;
    cJSON_AddNumberToObject(info, "page_bytes", (double)s->page_bytes);
    cJSON_AddNumberToObject(info, "page_align", 128);
    cJSON_AddNumberToObject(info, "weights_bytes", (double)s->weights[XQ_FUSED].bytes);
    cJSON_AddNumberToObject(info, "tail_bytes", (double)s->tail_bytes);
    cJSON_AddNumberToObject(info, "accumulator_page_bytes", (double)s->accumulator_page_bytes);
    cJSON_AddNumberToObject(info, "cache_bytes_per_token", s->bytes_per_token);
    cJSON_AddNumberToObject(info, "accumulator_bytes_per_token", s->accumulator_bytes_per_token);
    cJSON_AddNumberToObject(info, "window", (double)v.window);
    cJSON_AddBoolToObject(info, "needs_append_indptr", s->by_channel);
    return info;
}

/* Describes in words where the parameters of attention come from. */
static void describe_parameters(const cJSON *spec, const struct blueprint *b, char *text, size_t size)
{
    const cJSON *tuned =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(spec, "tuned"), "attend");
    const char *gpu = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tuned, "device"));
    int kernels = 0;
    for (int i = 0; i < b->kernel_count; i++)
        kernels += strncmp(b->kernels[i].name, "attend", 6) == 0;
    int length = gpu ? snprintf(text, size, "tuned on %s%s", gpu,
                                cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(tuned, "modelled"))
                                    ? ", modelled times"
                                    : "")
                     : snprintf(text, size, "defaults");
    if (kernels > 1 && length < (int)size)
        snprintf(text + length, size - (size_t)length,
                 "; %d kernels of attention for calls of different sizes", kernels);
}

static cJSON *image_json(const struct emitting *e, int plan, int arch, error *err)
{
    const struct blueprint *b = &e->images[plan][arch];
    cJSON *image = cJSON_CreateObject(), *spec = cJSON_Parse(b->spec);
    char text[512], file[128];
    if (!spec)
        out_of_memory(err);
    image_name(e, plan, arch, file);
    describe_parameters(spec, b, text, sizeof text);
    cJSON_AddStringToObject(image, "target", e->archs[arch]);
    if (!e->o->embed)
        cJSON_AddStringToObject(image, "file", file);
    cJSON_AddNumberToObject(image, "bytes", (double)b->bytes);
    cJSON_AddStringToObject(image, "parameters", text);
    cJSON_AddItemToObject(image, "tuning", cJSON_DetachItemFromObjectCaseSensitive(spec, "tuning"));
    cJSON_Delete(spec);
    return image;
}

static cJSON *plan_json(const struct emitting *e, int plan, error *err)
{
    const struct cli_plan *p = &e->plans.plans[plan];
    cJSON *o = cJSON_CreateObject(), *images = cJSON_CreateArray(),
          *spec = cJSON_Parse(e->images[plan][0].spec);
    if (!spec)
        out_of_memory(err);
    /* These belong to the first architecture alone. Each image has its own. */
    cJSON_DeleteItemFromObjectCaseSensitive(spec, "arch");
    cJSON_DeleteItemFromObjectCaseSensitive(spec, "tuning");
    cJSON_DeleteItemFromObjectCaseSensitive(spec, "tuned");
    cJSON_AddStringToObject(o, "name", p->name);
    cJSON_AddStringToObject(o, "layers", p->layers);
    cJSON_AddItemToObject(o, "limits", limits_json(e->o));
    cJSON_AddItemToObject(o, "info", info_json(e->images[plan][0].spec, err));
    for (int a = 0; a < e->arch_count; a++)
        cJSON_AddItemToArray(images, image_json(e, plan, a, err));
    cJSON_AddItemToObject(o, "images", images);
    cJSON_AddItemToObject(o, "spec", spec);
    return o;
}

static cJSON *bundle_json(const struct emitting *e, error *err)
{
    cJSON *o = cJSON_CreateObject(), *archs = cJSON_CreateArray(), *plans = cJSON_CreateArray();
    char compiler[16];
    snprintf(compiler, sizeof compiler, "%d.%d", e->nvrtc / 1000, e->nvrtc % 1000 / 10);
    cJSON_AddStringToObject(o, "version", xq_version());
    cJSON_AddStringToObject(o, "nvrtc", compiler);
    cJSON_AddStringToObject(o, "prefix", e->o->name);
    cJSON_AddBoolToObject(o, "embed", e->o->embed);
    for (int a = 0; a < e->arch_count; a++)
        cJSON_AddItemToArray(archs, cJSON_CreateString(e->archs[a]));
    cJSON_AddItemToObject(o, "archs", archs);
    for (int p = 0; p < e->plans.count && err->status == XQ_OK; p++)
        cJSON_AddItemToArray(plans, plan_json(e, p, err));
    cJSON_AddItemToObject(o, "plans", plans);
    return o;
}

/* ------------------------------------------------------------------- texts */

static xq_status add_rendered(struct emitting *e, const cJSON *bundle, const char *template,
                              const char *file, error *err)
{
    char *text = NULL;
    if (gen_bundle_text(e->g, template, bundle, &text, err) == XQ_OK)
        cli_file_set_add(&e->files, text, strlen(text), err, "%s", file);
    free(text);
    return err->status;
}

/* Adds a page of xq's documents. Links are reduced to their text, because their targets are not in the
 * bundle. */
static xq_status add_page(struct emitting *e, const char *page, const char *file, error *err)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return out_of_memory(err);
    fputs(
        "<!-- A page of xq's documentation. Files and pages that it names are in xq's repository. -->\n\n",
        f);
    while (*page) {
        const char *middle = *page == '[' ? strstr(page, "](") : NULL;
        const char *end = middle ? strchr(middle, ')') : NULL;
        const bool link = end && !memchr(page, '\n', (size_t)(middle - page)) &&
                          !memchr(page + 1, '[', (size_t)(middle - page - 1)) &&
                          !memchr(page, ']', (size_t)(middle - page));
        if (link) {
            fwrite(page + 1, 1, (size_t)(middle - page - 1), f);
            page = end + 1;
        } else {
            fputc(*page++, f);
        }
    }
    if (fclose(f) == 0)
        cli_file_set_add(&e->files, text, size, err, "%s", file);
    else
        out_of_memory(err);
    free(text);
    return err->status;
}

/* Adds bundle.json, which lists itself among the files. */
static xq_status add_manifest(struct emitting *e, cJSON *bundle, error *err)
{
    cJSON *files = cJSON_AddArrayToObject(bundle, "files");
    cJSON_AddItemToArray(files, cJSON_CreateString("bundle.json"));
    for (int i = 0; i < e->files.count; i++)
        cJSON_AddItemToArray(files, cJSON_CreateString(e->files.files[i].name));
    char *text = cJSON_Print(bundle);
    if (!text)
        return out_of_memory(err);
    cli_file_set_add(&e->files, text, strlen(text), err, "bundle.json");
    cJSON_free(text);
    return err->status;
}

xq_status emit_add_texts(struct emitting *e, error *err)
{
    const char *license = built_in("LICENSE");
    char makefile[128];
    snprintf(makefile, sizeof makefile, "%s.mk", e->o->name);
    cJSON *bundle = bundle_json(e, err);
    if (err->status == XQ_OK && add_renamed(e, "xqrt.h", ".h", err) == XQ_OK &&
        add_renamed(e, "xqrt.c", ".c", err) == XQ_OK && add_plans(e, err) == XQ_OK &&
        add_rendered(e, bundle, "example.c", "example.c", err) == XQ_OK &&
        add_rendered(e, bundle, "CMakeLists.txt", "CMakeLists.txt", err) == XQ_OK &&
        add_rendered(e, bundle, "bundle.mk", makefile, err) == XQ_OK &&
        add_rendered(e, bundle, "README.md", "README.md", err) == XQ_OK &&
        add_page(e, built_in("layout.md"), "LAYOUT.md", err) == XQ_OK &&
        cli_file_set_add(&e->files, license, strlen(license), err, "LICENSE") == XQ_OK &&
        add_kernels(e, err) == XQ_OK)
        add_manifest(e, bundle, err);
    cJSON_Delete(bundle);
    return err->status;
}
