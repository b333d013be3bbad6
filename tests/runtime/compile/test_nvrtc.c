/* Tests how NVRTC is found, what it compiles and reports, and compilation by way of the kernel cache. */
#include "../../../runtime/base/files.h"
#include "../../../runtime/compile/compile.h"
#include "../../../runtime/compile/nvrtc_find.h"
#include "../../../runtime/compile/nvrtc_log.h"
#include "../../support/files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static error err = ERROR_INIT;

static nvrtc *open_nvrtc(void)
{
    nvrtc *library = NULL;
    cr_assert_eq(nvrtc_open(&library, &err), XQ_OK, "%s", err.message);
    return library;
}

static xq_status compile(nvrtc *library, const char *source, const char *arch, nvrtc_output *out)
{
    static const char *const names[] = {"helper.cuh"};
    static const char *const texts[] = {"__device__ inline int twice(int x) { return 2 * x; }\n"
                                        "#ifdef BREAK_HEADER\nint y = z;\n#endif\n"};
    char option[64];
    snprintf(option, sizeof option, "--gpu-architecture=%s", arch);
    const char *options[] = {option, "-std=c++17", "-lineinfo", "-default-device", "--ptxas-options=-v"};
    nvrtc_input input = {"attend.cu", source, 1, names, texts, 5, options};
    return nvrtc_compile(library, &input, out, &err);
}

static const char good_source[] = "#include \"helper.cuh\"\n"
                                  "extern \"C\" __global__ void k(int *p)\n{\n"
                                  "    __shared__ int s[64];\n"
                                  "    s[threadIdx.x] = twice(p[0]);\n    __syncthreads();\n"
                                  "    p[threadIdx.x] = s[63 - threadIdx.x];\n}\n";

Test(nvrtc, missing_library_names_what_was_tried)
{
    nvrtc *library = NULL;
    setenv("XQ_NVRTC", "/nowhere/libnvrtc.so", 1);
    cr_assert_eq(nvrtc_open(&library, &err), XQ_ERROR_NO_TOOLCHAIN);
    cr_assert(strstr(err.message, "/nowhere/libnvrtc.so"), "%s", err.message);
    cr_assert(strstr(err.log, "/nowhere/libnvrtc.so"), "%s", err.log);
    cr_assert_null(library);
    error_clear(&err);
    setenv("XQ_NVRTC", "libm.so.6", 1); /* a library, but not NVRTC */
    cr_assert_eq(nvrtc_open(&library, &err), XQ_ERROR_NO_TOOLCHAIN);
}

Test(nvrtc, is_found_in_python_environments_and_toolkits)
{
    unsetenv("XQ_NVRTC");
    static const char *const places[][2] = {
        {"VIRTUAL_ENV", "lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib"},
        {"VIRTUAL_ENV", "lib/python3.12/site-packages/nvidia/cu13/lib"},
        {"CUDA_HOME", "lib64"},
        {"CUDA_PATH", "targets/x86_64-linux/lib"},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char root[4096], folder[4200], library_path[4300];
        snprintf(root, sizeof root, "%s/%zu", files_directory(), i);
        snprintf(folder, sizeof folder, "%s/%s", root, places[i][1]);
        snprintf(library_path, sizeof library_path, "%s/libnvrtc.so.12", folder);
        cr_assert_eq(files_make_folder(folder), 0);
        files_write(library_path, "", 0);
        setenv(places[i][0], root, 1);
        struct nvrtc_candidates found;
        bool listed = false;
        cr_assert_eq(nvrtc_find(&found), 0);
        for (int k = 0; k < found.count; k++)
            listed |= strcmp(found.paths[k], library_path) == 0;
        cr_assert(listed, "%s is not among the candidates:\n%s", library_path, found.tried);
        nvrtc_candidates_free(&found);
        unsetenv(places[i][0]);
    }
}

Test(nvrtc, python_on_the_path_is_searched)
{
    unsetenv("XQ_NVRTC");
    char folder[4200], library_path[4300], python[4300];
    const char *root = files_directory();
    snprintf(folder, sizeof folder, "%s/lib/python3.10/site-packages/nvidia/cuda_nvrtc/lib", root);
    snprintf(library_path, sizeof library_path, "%s/libnvrtc.so.12", folder);
    cr_assert_eq(files_make_folder(folder), 0);
    files_write(library_path, "", 0);
    snprintf(folder, sizeof folder, "%s/bin", root);
    snprintf(python, sizeof python, "%s/python3", folder);
    cr_assert_eq(files_make_folder(folder), 0);
    files_write(python, "", 0);
    cr_assert_eq(chmod(python, 0755), 0);
    char path[9000];
    snprintf(path, sizeof path, "/nowhere:%s", folder);
    setenv("PATH", path, 1);
    struct nvrtc_candidates found;
    bool listed = false;
    cr_assert_eq(nvrtc_find(&found), 0);
    for (int k = 0; k < found.count; k++)
        listed |=
            strstr(found.paths[k], "python3.10/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12") != NULL;
    cr_assert(listed, "%s", found.tried);
    nvrtc_candidates_free(&found);
}

/* Returns the version that is chosen for a driver if CUDA_HOME has these versions (each is a copy of the
 * fake). */
static int chosen_version(int driver, const char *suffixes)
{
    char program[4096], folder[4200], command[9000];
    const char *home = files_directory();
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    cr_assert_gt(n, 0);
    program[n] = 0;
    *strrchr(program, '/') = 0;
    snprintf(folder, sizeof folder, "%s/lib64", home);
    cr_assert_eq(files_make_folder(folder), 0);
    snprintf(command, sizeof command, "for s in %s; do cp %s/libfake_nvrtc.so %s/libnvrtc.so.$s; done",
             suffixes, program, folder);
    cr_assert_eq(system(command), 0);
    unsetenv("XQ_NVRTC");
    setenv("CUDA_HOME", home, 1);
    nvrtc *library = NULL;
    cr_assert_eq(nvrtc_open_for(driver, &library, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(strncmp(nvrtc_path(library), home, strlen(home)), 0, "%s", nvrtc_path(library));
    int version = nvrtc_version(library);
    nvrtc_close(library);
    return version;
}

Test(nvrtc, one_that_the_driver_understands_is_preferred)
{
    cr_assert_eq(chosen_version(12040, "12 13"), 12000);
    cr_assert_eq(chosen_version(13000, "12 13"), 13000);
    cr_assert_eq(chosen_version(0, "12 13"), 13000);
    cr_assert_eq(chosen_version(13000, "12"), 12000);
}

Test(nvrtc, virtual_architecture_gives_ptx_alone)
{
    nvrtc *library = open_nvrtc();
    nvrtc_output out;
    cr_assert_eq(compile(library, good_source, "compute_80", &out), XQ_OK, "%s", err.message);
    cr_assert(strstr(out.ptx, ".target sm_80"), "%s", out.ptx);
    cr_assert(strstr(out.ptx, ".entry k("));
    char here[4096]; /* the compiler's directory must not show: equal sources give equal PTX */
    cr_assert_not_null(getcwd(here, sizeof here));
    cr_assert_not(strstr(out.ptx, here), "%s", out.ptx);
    cr_assert(strstr(out.ptx, "\"attend.cu\""), "%s", out.ptx);
    cr_assert_null(out.cubin);
    nvrtc_output_free(&out);
    nvrtc_close(library);
}

Test(nvrtc, real_architecture_gives_a_cubin_and_its_resources)
{
    nvrtc *library = open_nvrtc();
    nvrtc_output out;
    nvrtc_resources r[2];
    cr_assert_eq(compile(library, good_source, "sm_90", &out), XQ_OK, "%s", err.message);
    cr_assert_eq(memcmp(out.cubin, "\177ELF", 4), 0);
    cr_assert_gt(out.cubin_bytes, 1000);
    cr_assert_eq(nvrtc_resource_report(out.log, r, 2), 1, "%s", out.log);
    cr_assert_str_eq(r[0].entry, "k");
    cr_assert_gt(r[0].registers, 4);
    cr_assert_eq(r[0].shared_bytes, 256);
    cr_assert_eq(r[0].barriers, 1);
    cr_assert_eq(r[0].spill_store_bytes, 0);
    nvrtc_output_free(&out);
    nvrtc_close(library);
}

Test(nvrtc, spills_are_reported)
{
    /* 200 values alive at once do not fit into the registers that 1024 threads leave. */
    static const char source[] =
        "extern \"C\" __global__ __launch_bounds__(1024) void k(float *p)\n{\n"
        "    float v[200];\n#pragma unroll\n"
        "    for (int i = 0; i < 200; i++) v[i] = p[i * 1024 + threadIdx.x];\n"
        "    __syncthreads();\n#pragma unroll\n"
        "    for (int i = 0; i < 200; i++) p[i * 1024 + threadIdx.x] = v[199 - i] * v[i];\n}\n";
    nvrtc *library = open_nvrtc();
    nvrtc_output out;
    nvrtc_resources r;
    cr_assert_eq(compile(library, source, "sm_80", &out), XQ_OK, "%s", err.message);
    cr_assert_eq(nvrtc_resource_report(out.log, &r, 1), 1);
    cr_assert_gt(r.spill_store_bytes, 0, "%s", out.log);
    cr_assert_gt(r.spill_load_bytes, 0);
    nvrtc_output_free(&out);
    nvrtc_close(library);
}

Test(nvrtc, error_names_the_template_line)
{
    nvrtc *library = open_nvrtc();
    nvrtc_output out;
    cr_assert_eq(compile(library,
                         "#line 41 \"templates/attend.cu.lt\"\n"
                         "extern \"C\" __global__ void k(int *p) { p[0] = undefined_thing; }\n",
                         "compute_80", &out),
                 XQ_ERROR_COMPILE);
    cr_assert_str_eq(err.file, "templates/attend.cu.lt");
    cr_assert_eq(err.line, 41);
    cr_assert(strstr(err.message, "undefined_thing"), "%s", err.message);
    cr_assert(strstr(err.log, "1 error detected"), "%s", err.log);
    nvrtc_close(library);
}

Test(nvrtc, error_in_a_header_names_its_file)
{
    nvrtc *library = open_nvrtc();
    nvrtc_output out;
    cr_assert_eq(compile(library, "#define BREAK_HEADER\n#include \"helper.cuh\"\n", "compute_80", &out),
                 XQ_ERROR_COMPILE);
    cr_assert_str_eq(err.file, "templates/lib/helper.cuh");
    cr_assert_eq(err.line, 3);
    nvrtc_close(library);
}

Test(nvrtc, bad_inline_ptx_is_followed_to_the_template_line)
{
    nvrtc *library = open_nvrtc();
    nvrtc_output out;
    cr_assert_eq(compile(library,
                         "#line 7 \"templates/attend.cu.lt\"\n"
                         "extern \"C\" __global__ void k(int *p)\n{\n"
                         "    asm(\"bogus.u32 %0, 1;\" : \"=r\"(p[0]));\n}\n",
                         "sm_80", &out),
                 XQ_ERROR_COMPILE);
    cr_assert_str_eq(err.file, "templates/attend.cu.lt", "%s", err.message);
    cr_assert_eq(err.line, 9);
    cr_assert(strstr(err.message, "bogus"), "%s", err.message);
    nvrtc_close(library);
}

Test(nvrtc, bad_architecture_is_told_as_nvrtc_puts_it)
{
    nvrtc *library = open_nvrtc();
    nvrtc_output out;
    cr_assert_eq(compile(library, good_source, "sm_1", &out), XQ_ERROR_COMPILE);
    cr_assert(strstr(err.message, "--gpu-architecture"), "%s", err.message);
    nvrtc_close(library);
}

Test(nvrtc, resource_report_takes_many_kernels)
{
    static const char log[] =
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'a' for 'sm_90'\n"
        "ptxas info    : Function properties for a\n"
        "ptxas         .     96 bytes stack frame, 80 bytes spill stores, 76 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 3 barriers, 1024 bytes smem, 400 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function 'b' for 'sm_90'\n"
        "ptxas info    : Function properties for b\n"
        "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]";
    nvrtc_resources r[2];
    cr_assert_eq(nvrtc_resource_report(log, r, 2), 2);
    cr_assert_str_eq(r[0].entry, "a");
    cr_assert_eq(r[0].registers, 255);
    cr_assert_eq(r[0].stack_bytes, 96);
    cr_assert_eq(r[0].spill_store_bytes, 80);
    cr_assert_eq(r[0].spill_load_bytes, 76);
    cr_assert_eq(r[0].barriers, 3);
    cr_assert_eq(r[0].shared_bytes, 1024);
    cr_assert_eq(r[1].registers, 8);
    cr_assert_eq(r[1].shared_bytes, 0);
    cr_assert_eq(nvrtc_resource_report(log, r, 1), 2);
    cr_assert_eq(nvrtc_resource_report("", r, 1), 0);
}

/* --------------------------------------------------------------- compilation */

static char warned[1024];

static void keep_warning(void *user, xq_log_level level, const char *message)
{
    (void)user;
    if (level == XQ_LOG_WARNING)
        snprintf(warned, sizeof warned, "%s", message);
}

Test(compile, second_time_comes_from_the_cache_and_a_damaged_entry_is_rebuilt)
{
    static const char source[] = "extern \"C\" __global__ void xq_k(int *p) { p[threadIdx.x] = 1; }\n";
    const logger log = {keep_warning, NULL};
    nvrtc *library = open_nvrtc();
    gen *g = NULL;
    cr_assert_eq(gen_create(NULL, &g, &err), XQ_OK, "%s", err.message);
    cache *c = cache_open(files_directory(), &log);
    compiled first, second, third, other;
    cr_assert_eq(compile_source(library, c, g, "k", source, "sm_80", &first, &err), XQ_OK, "%s",
                 err.message);
    cr_assert_not(first.cached);
    cr_assert_gt(first.resources.registers, 0);
    cr_assert_eq(compile_source(library, c, g, "k", source, "sm_80", &second, &err), XQ_OK);
    cr_assert(second.cached);
    cr_assert_str_eq(second.key.name, first.key.name);
    cr_assert_str_eq(second.ptx, first.ptx);
    cr_assert_eq(second.cubin_bytes, first.cubin_bytes);
    cr_assert_eq(memcmp(second.cubin, first.cubin, first.cubin_bytes), 0);
    cr_assert_eq(second.resources.registers, first.resources.registers);

    char path[4300];
    snprintf(path, sizeof path, "%s/kernels/%s/kernel.cubin", cache_dir(c), first.key.name);
    files_write(path, "x", 1);
    cr_assert_eq(compile_source(library, c, g, "k", source, "sm_80", &third, &err), XQ_OK);
    cr_assert_not(third.cached);
    cr_assert(strstr(warned, first.key.name), "%s", warned);
    cr_assert_eq(third.cubin_bytes, first.cubin_bytes);

    cr_assert_eq(compile_source(library, c, g, "k", source, "sm_90", &other, &err), XQ_OK);
    cr_assert_str_neq(other.key.name, first.key.name);
    compiled_free(&first);
    compiled_free(&second);
    compiled_free(&third);
    compiled_free(&other);
    cache_close(c);
    gen_destroy(g);
    nvrtc_close(library);
}

Test(compile, sources_that_differ_in_their_banner_share_an_entry)
{
    static const char one[] = "// Model: one.\n// More.\n#line 1 \"k\"\n__device__ int x;\n",
                      two[] = "// Model: two.\n#line 1 \"k\"\n__device__ int x;\n",
                      other[] = "// Model: two.\n#line 1 \"k\"\n// One line more.\n__device__ int x;\n";
    const logger log = {keep_warning, NULL};
    const char *const sources[] = {one, two, other};
    nvrtc *library = open_nvrtc();
    gen *g = NULL;
    compiled k[3];
    cr_assert_eq(gen_create(NULL, &g, &err), XQ_OK, "%s", err.message);
    cache *c = cache_open(files_directory(), &log);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(compile_source(library, c, g, "k", sources[i], "compute_80", &k[i], &err), XQ_OK, "%s",
                     err.message);
    cr_expect_not(k[0].cached);
    cr_expect(k[1].cached);
    cr_expect_str_eq(k[1].key.name, k[0].key.name);
    cr_expect_not(k[2].cached); /* it has other line numbers */
    for (int i = 0; i < 3; i++)
        compiled_free(&k[i]);
    cache_close(c);
    gen_destroy(g);
    nvrtc_close(library);
}

Test(compile, several_processes_that_compile_the_same_all_succeed, .timeout = 120)
{
    static const char source[] = "extern \"C\" __global__ void xq_k(int *p) { p[threadIdx.x] = 2; }\n";
    const logger log = {keep_warning, NULL};
    const char *folder = files_directory();
    for (int process = 0; process < 4; process++) {
        if (fork() != 0)
            continue;
        nvrtc *library = NULL;
        gen *g = NULL;
        compiled k;
        cache *c = cache_open(folder, &log);
        bool good = nvrtc_open(&library, &err) == XQ_OK && gen_create(NULL, &g, &err) == XQ_OK &&
                    compile_source(library, c, g, "k", source, "sm_80", &k, &err) == XQ_OK &&
                    k.cubin_bytes > 0;
        _exit(good && !warned[0] ? 0 : 1);
    }
    int status, failures = 0;
    while (wait(&status) > 0)
        failures += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    cr_assert_eq(failures, 0);
    char kernels[4200];
    snprintf(kernels, sizeof kernels, "%s/kernels", folder);
    cr_assert_eq(files_count(kernels), 1);
}
