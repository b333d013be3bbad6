/* Tests what is noticed around measurements. The answers of the management library are set by the test. */
#include "../../../autotune/measure/watch.h"
#include "../../support/fake_cuda.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Uses the fake management library beside the test program. */
static void use_fake_nvml(void)
{
    char path[4096];
    fake_cuda_use();
    snprintf(path, sizeof path, "%s", getenv("XQ_LIBCUDA"));
    strcpy(strstr(path, "libfake_cuda.so"), "libfake_nvml.so");
    cr_assert_eq(access(path, R_OK), 0, "%s", path);
    setenv("XQ_NVML", path, 1);
    setenv("FAKE_NVML_UUID", "GPU-" FAKE_CUDA_UUID, 1);
}

TestSuite(measure_watch, .init = use_fake_nvml);

static device make_device(void)
{
    return (device){.properties = {.uuid = FAKE_CUDA_UUID}};
}

/* Returns the load that is noticed around this number of measurements. */
static measure_load notice(int measurements)
{
    measure_watch watch = {0};
    device d = make_device();
    for (int i = 0; i < measurements; i++) {
        measure_turn turn = measure_watch_begin(&watch, &d);
        cr_expect_geq(turn.fd, 0);
        measure_watch_end(&watch, &d, &turn);
    }
    measure_watch_close(&watch);
    cr_expect_str_empty(watch.noticed.unlocked);
    return watch.noticed.load;
}

Test(measure_watch, other_processes_load_and_clocks_are_noticed)
{
    setenv("FAKE_NVML_PROCESSES", "1,self,22", 1);
    setenv("FAKE_NVML_BUSY", "37", 1);
    setenv("FAKE_NVML_CLOCKS", "1980,2619", 1);
    setenv("FAKE_NVML_REASONS", "0x24", 1);
    const measure_load load = notice(2);
    cr_expect(load.known);
    cr_expect_eq(load.processes, 2);
    cr_expect_eq(load.busy, 37);
    /* There are four looks at the GPU. Clocks count only after a measurement, in the second and the fourth
     * look. */
    cr_expect_eq(load.sm_low, 1977);
    cr_expect_eq(load.sm_high, 1979);
    cr_expect_eq(load.memory_low, 2619);
    cr_expect_eq(load.memory_high, 2619);
    cr_expect_eq(load.lowered, (uint64_t)(MEASURE_POWER_LIMIT | MEASURE_SOFTWARE_HEAT));
}

Test(measure_watch, this_process_is_no_foreign_one)
{
    setenv("FAKE_NVML_PROCESSES", "self", 1);
    cr_expect_eq(notice(1).processes, 0);
    setenv("FAKE_NVML_PROCESSES", "4711", 1);
    cr_expect_eq(notice(1).processes, 0, "in a container, where it has another number");
    setenv("FAKE_NVML_PROCESSES", "4711,4712", 1);
    cr_expect_eq(notice(1).processes, 1);
    setenv("FAKE_NVML_PROCESSES", "", 1);
    cr_expect_eq(notice(1).processes, 0);
}

Test(measure_watch, many_processes_are_counted)
{
    char text[2048] = "self";
    for (int i = 0; i < 100; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), ",%d", 100000 + i);
    setenv("FAKE_NVML_PROCESSES", text, 1);
    cr_expect_eq(notice(1).processes, 100);
}

Test(measure_watch, an_instance_of_a_gpu_is_found_and_what_it_lacks_is_unknown)
{
    setenv("FAKE_NVML_UUID", "MIG-" FAKE_CUDA_UUID, 1);
    const measure_load load = notice(1);
    cr_expect(load.known);
    cr_expect_eq(load.busy, -1);
    cr_expect_eq(load.sm_low, -1);
    cr_expect_eq(load.memory_high, -1);
    cr_expect_eq(load.lowered, 0u);
    setenv("FAKE_NVML_FAILS", "nvmlDeviceGetComputeRunningProcesses", 1);
    cr_expect_eq(notice(1).processes, -1);
}

Test(measure_watch, where_the_library_fails_nothing_is_known)
{
    setenv("FAKE_NVML_FAILS", "nvmlInit", 1);
    cr_expect_not(notice(1).known);
    setenv("FAKE_NVML_FAILS", "nvmlDeviceGetHandleByUUID", 1);
    cr_expect_not(notice(1).known);
    unsetenv("FAKE_NVML_FAILS");
    setenv("FAKE_NVML_UUID", "GPU-another", 1);
    cr_expect_not(notice(1).known);
    setenv("XQ_NVML", "/nowhere/libnvidia-ml.so.1", 1);
    cr_expect_not(notice(1).known);
    setenv("XQ_NVML", "libm.so.6", 1);
    cr_expect_not(notice(1).known);
}

Test(measure_watch, the_software_device_is_not_watched)
{
    measure_watch watch = {0};
    device d = make_device();
    d.properties.is_sim = true;
    measure_turn turn = measure_watch_begin(&watch, &d);
    cr_expect_eq(turn.fd, -1);
    measure_watch_end(&watch, &d, &turn);
    cr_expect_not(watch.looked_for);
    turn = measure_watch_begin(NULL, &d);
    measure_watch_end(NULL, &d, &turn);
}

Test(measure_watch, what_processes_noticed_adds_up)
{
    measure_noticed sum = {0}, nothing = {0};
    const measure_noticed first = {.unlocked = "why",
                                   .load = {true, 1, 5, .sm_low = 1900, .sm_high = 1950, .memory_low = -1,
                                            .memory_high = -1, .lowered = MEASURE_POWER_LIMIT}};
    const measure_noticed later = {.unlocked = "why else",
                                   .load = {true, 3, 99, .sm_low = 1800, .sm_high = 1810,
                                            .memory_low = 1215, .memory_high = 1215,
                                            .lowered = MEASURE_POWER_BRAKE}};
    measure_noticed_add(&sum, &nothing);
    cr_expect_not(sum.load.known);
    measure_noticed_add(&sum, &first);
    measure_noticed_add(&sum, &nothing);
    measure_noticed_add(&sum, &later);
    cr_expect_str_eq(sum.unlocked, "why");
    cr_expect_eq(sum.load.processes, 3);
    cr_expect_eq(sum.load.busy, 5, "later it is this program's own work");
    cr_expect_eq(sum.load.sm_low, 1800);
    cr_expect_eq(sum.load.sm_high, 1950);
    cr_expect_eq(sum.load.memory_low, 1215);
    cr_expect_eq(sum.load.memory_high, 1215);
    cr_expect_eq(sum.load.lowered, (uint64_t)(MEASURE_POWER_LIMIT | MEASURE_POWER_BRAKE));
}
