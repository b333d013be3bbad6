# xq: see README.md. `make demo` and `make test` install what is missing, build, and run.
# docs/building.md explains every target.

# ---------------------------------------------------------------- settings
BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC      := gcc
endif
CFLAGS  ?= -O2 -g
WERROR  ?= 0
V       ?= 0
STATIC  ?= 0
TSAN    ?= 0
VENV    ?= .venv
# make demo: the text that runs through the model, the layers, the bits, the number of tokens, and the device.
TEXT    ?= /usr/share/common-licenses/GPL-3
LAYERS  ?= 4,20
BITS    ?= 4,8
TOKENS  ?= 1024
DEVICE  ?= auto
# make sass: options of scripts/sass.sh.
SPEC    ?= --model llama-3.1-8b --bits 4

# ---------------------------------------------------------------- flags
STD      := -std=c17 -D_GNU_SOURCE
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif
LUA_INCLUDE := $(firstword $(wildcard /usr/include/lua5.4 /usr/local/include/lua5.4))
INCLUDES := -Iinclude -Itemplates/lib $(addprefix -I,$(LUA_INCLUDE))
ALL_CFLAGS = $(STD) $(CFLAGS) $(WARNINGS) $(INCLUDES) -fPIC -fvisibility=hidden -MMD -MP
ifeq ($(STATIC),1)
# The program needs as few libraries as possible from the machine that it runs on. Debian has no static cJSON.
LIBS     := -Wl,-Bstatic -llua5.4 -lxxhash -Wl,-Bdynamic -lcjson -lpthread -ldl -lm -static-libgcc \
            -Wl,-rpath,'$$ORIGIN/../lib'
PREPARE_LIBS := -Wl,-Bstatic -llapacke -lopenblas -lgfortran -lquadmath -Wl,-Bdynamic
STORE_LIBS := -Wl,-Bstatic -lsqlite3 -Wl,-Bdynamic
else
LIBS     := -llua5.4 -lcjson -lxxhash -lpthread -ldl -lm
PREPARE_LIBS := -llapacke -lopenblas
STORE_LIBS := -lsqlite3
endif

# The thread sanitizer, and machines without Criterion, need a stand-in for it (tests/tsan/criterion/criterion.h). The
# stand-in drops messages, so variables that only messages read are unused.
ifeq ($(TSAN),1)
INCLUDES := -Itests/tsan $(INCLUDES)
$(BUILD)/tests/%.o: private WARNINGS += -Wno-unused-parameter -Wno-unused-variable -Wno-unused-but-set-variable \
    -Wno-unused-function
else
TEST_LIBS := -lcriterion
endif

ifeq ($(V),0)
Q := @
say = @printf '  %-7s %s\n' $(1) $(2)
else
Q :=
say = @:
endif
SUBMAKE = +@$(MAKE) --no-print-directory

# ---------------------------------------------------------------- sources
# libxq holds the part of prepare/ that reads prepared weights. It does not hold the part that makes them, which needs
# LAPACK, nor autotune/, which needs SQLite.
READER_SRC := $(addprefix prepare/,layer.c mapping.c packing.c prepared.c prepared_file.c prepared_head.c \
    safetensors_header.c tensor.c)
# libxqrt launches plans that were built elsewhere (scripts/install.mk). STAND_INS replace the parts of libxq that it
# lacks.
STAND_INS := runtime/device/without_sim.c runtime/launch/without_toolchain.c
# `xq emit` writes the runtime as one C file. It contains the sources of libxqrt and those of runtime/bundle, which are
# in no library.
BUNDLE_SRC := $(wildcard runtime/bundle/*.c)
XQRT_SRC  := $(filter-out $(STAND_INS),$(wildcard runtime/device/*.c runtime/launch/*.c runtime/host/*.c)) \
    $(addprefix runtime/base/,check.c descriptor.c e4m3.c error.c half.c log.c printable.c version.c weights.c)
LIB_SRC   := $(filter-out $(STAND_INS) $(BUNDLE_SRC),$(wildcard gen/*.c runtime/*/*.c sim/*.c)) $(READER_SRC)
TOOL_SRC  := $(filter-out $(READER_SRC),$(wildcard prepare/*.c)) $(wildcard autotune/*/*.c)
CLI_SRC   := $(wildcard cli/*.c) $(if $(filter 1,$(STATIC)),scripts/bundle/dl_find_object.c)
# The folders of tests/ are those of the sources (tests/README.md). C files that are no tests are code that tests share,
# and each test program links all of them. fake/, install/ and tsan/ have programs and libraries of their own.
TEST_SRC  := $(wildcard tests/*/test_*.c tests/*/*/test_*.c)
SUPPORT_SRC := $(filter-out $(TEST_SRC) $(addprefix tests/,fake/% install/% tsan/%),$(wildcard tests/*/*.c tests/*/*/*.c)) \
    $(if $(filter 1,$(TSAN)),tests/tsan/main.c)
EMBED_FILES := $(sort $(wildcard gen/*.lua templates/*.cu.lt templates/*.spec.lua templates/lib/*.cuh templates/lib/*.h \
    templates/bundle/*.lt autotune/tuned/*.json))

obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
LIB_OBJ     := $(call obj,$(LIB_SRC)) $(BUILD)/embed.o
XQRT_OBJ    := $(call obj,$(XQRT_SRC) $(STAND_INS))
TOOL_OBJ    := $(call obj,$(TOOL_SRC))
CLI_OBJ     := $(call obj,$(CLI_SRC)) $(BUILD)/emit/files.o
SUPPORT_OBJ := $(call obj,$(SUPPORT_SRC))
# Test programs lie in one folder, whatever folders their sources are in: tests/gen/test_spec.c is built as
# $(BUILD)/tests/test_spec. Therefore no two tests may have one name. scripts/run-tests.sh tells tests in Python apart by
# their names, too.
test_program = $(BUILD)/tests/$(basename $(notdir $(1)))
TESTS       := $(foreach source,$(TEST_SRC),$(call test_program,$(source)))
TEST_NAMES  := $(notdir $(TEST_SRC) $(wildcard tests/*/test_*.py tests/*/*/test_*.py))
SAME_NAMES  := $(strip $(foreach name,$(sort $(TEST_NAMES)),$(if $(word 2,$(filter $(name),$(TEST_NAMES))),$(name))))
$(if $(SAME_NAMES),$(error two folders of tests/ have a test of this name, which must be unique: $(SAME_NAMES)))

.PHONY: all accuracy demo features sass tables llama test run-tests check-all check-asan check-tsan lint html install gpu-bundle deps venv torch wheel help clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:
all: $(BUILD)/xq ; @:

# ---------------------------------------------------------------- compiling and linking
# Objects depend on the command line that made them, so that other CFLAGS rebuild them.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(ALL_CFLAGS)' | cmp -s - $@ || printf '%s\n' '$(CC) $(ALL_CFLAGS)' > $@

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

# The library holds Lua modules, templates and tables of tuned parameters as data: a table of names and texts
# (gen/embed.h). The list of files is a prerequisite, because removing a file must rebuild the table.
$(BUILD)/embed.list: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(EMBED_FILES) | cmp -s - $@ || printf '%s\n' $(EMBED_FILES) > $@
$(BUILD)/embed.S: $(BUILD)/embed.list scripts/embed.sh
	$(call say,EMBED,$@)
	$(Q)sh scripts/embed.sh embed_files $(EMBED_FILES) > $@.tmp && mv $@.tmp $@
$(BUILD)/embed.o: $(BUILD)/embed.S $(EMBED_FILES)
	$(Q)$(CC) -c $< -o $@

# `xq emit` copies these files into bundles. The program holds them as data.
EMIT_FILES := $(addprefix $(BUILD)/emit/,xqrt.c xqrt.h) LICENSE docs/layout.md
$(BUILD)/emit/xqrt.c: scripts/amalgamate.sh $(XQRT_SRC) $(BUNDLE_SRC) $(wildcard runtime/*/*.h templates/lib/*.h)
	@mkdir -p $(@D)
	$(call say,GEN,$@)
	$(Q)sh scripts/amalgamate.sh $(sort $(XQRT_SRC) $(BUNDLE_SRC)) > $@.tmp && mv $@.tmp $@
$(BUILD)/emit/xqrt.h: scripts/amalgamate.sh include/xq/xq.h runtime/bundle/bundle.h
	@mkdir -p $(@D)
	$(Q)sh scripts/amalgamate.sh --header > $@.tmp && mv $@.tmp $@
$(BUILD)/emit/files.o: $(EMIT_FILES) scripts/embed.sh
	$(call say,EMBED,$@)
	$(Q)sh scripts/embed.sh emit_files $(EMIT_FILES) > $(@:.o=.S) && $(CC) -c $(@:.o=.S) -o $@

$(BUILD)/xq: $(CLI_OBJ) $(TOOL_OBJ) $(LIB_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $^ -o $@ $(PREPARE_LIBS) $(STORE_LIBS) $(LIBS)

$(foreach source,$(TEST_SRC),$(eval $(call test_program,$(source)): $(call obj,$(source))))
LOADER_TESTS := $(addprefix $(BUILD)/tests/,test_bundle test_emit test_xqrt) # they load the libraries that they test
$(filter-out $(LOADER_TESTS) $(BUILD)/tests/test_without_sim,$(TESTS)): $(SUPPORT_OBJ) $(TOOL_OBJ) $(LIB_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $^ -o $@ $(TEST_LIBS) $(PREPARE_LIBS) $(STORE_LIBS) $(LIBS)

# These tests call parts of examples/llama. The first compares its caches with the kernels; the second tests its
# arithmetic.
$(BUILD)/tests/test_llama_cache: $(patsubst %,$(BUILD)/examples/llama/%.o,attention cache_device cache_host choice config \
    fail format progress rope)
$(BUILD)/tests/test_llama_divergence: $(patsubst %,$(BUILD)/examples/llama/%.o,divergence fail progress)
# These tests call parts of cli/.
$(BUILD)/tests/test_synthetic: $(patsubst %,$(BUILD)/cli/%.o,synthetic synthetic_weights)
$(BUILD)/tests/test_compare_expected: $(BUILD)/cli/compare_expected.o
$(addprefix $(BUILD)/tests/,test_compare_row test_tune_launch test_tune_worker): $(filter-out $(BUILD)/cli/main.o,$(CLI_OBJ))

# This test links the library's objects without the software device, because a context must work without it.
$(BUILD)/tests/test_without_sim: $(BUILD)/runtime/device/without_sim.o \
    $(filter-out $(BUILD)/sim/%,$(LIB_OBJ)) $(call obj,tests/support/fake_cuda.c $(if $(filter 1,$(TSAN)),tests/tsan/main.c))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $^ -o $@ $(TEST_LIBS) $(LIBS)

# libxqrt with the software device, for the test that compares it with libxq. The test loads this library, libxq, and
# libxqrt as it ships.
XQRT_SIM_OBJ := $(call obj,$(XQRT_SRC) runtime/launch/without_toolchain.c $(wildcard sim/*.c))
$(BUILD)/tests/libxqrt_sim.so: $(XQRT_SIM_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -shared $^ -o $@ -lpthread -ldl -lm
# The software device, which the tests of bundles link into them.
$(BUILD)/tests/sim.a: $(XQRT_SIM_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcsD $@ $^
LOADER_OBJ := $(call obj,$(addprefix tests/support/,command.c emitted.c fake_cuda.c files.c library_session.c shell.c) \
    $(addprefix runtime/base/,half.c random.c)) $(if $(filter 1,$(TSAN)),$(BUILD)/tests/tsan/main.o)
$(addprefix $(BUILD)/tests/,test_bundle test_emit): | $(BUILD)/xq $(BUILD)/tests/sim.a
$(BUILD)/tests/test_xqrt: | $(BUILD)/tests/libxqrt_sim.so
$(LOADER_TESTS): $(LOADER_OBJ) | libraries $(BUILD)/tests/libfake_cuda.so
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $^ -o $@ $(TEST_LIBS) -ldl -lm

# Stand-ins that tests load for the NVIDIA driver, NVML, NVRTC, NCCL and malloc. libsim_cuda.so is a driver that runs
# kernels on the software device. The order-only prerequisites below name the stand-ins and the program that each test
# needs.
$(BUILD)/tests/libfake_%.so: $(BUILD)/tests/fake/fake_%.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -shared $^ -o $@
$(BUILD)/tests/libfake_cuda.so: $(BUILD)/tests/fake/no_kernels.o
$(BUILD)/tests/libsim_cuda.so: $(call obj,$(addprefix tests/fake/,fake_cuda.c sim_kernels.c) $(wildcard sim/*.c) \
    $(addprefix runtime/base/,error.c half.c printable.c))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -shared -Wl,--no-undefined $^ -o $@ -lpthread -lm
tests_of = $(foreach source,$(filter $(1)/%,$(TEST_SRC)),$(call test_program,$(source))) # $(call tests_of,FOLDER)
$(call tests_of,tests/cli): | $(BUILD)/xq
$(addprefix $(BUILD)/tests/,test_checkpoints test_cost test_parameters test_prepare test_prepare_resume \
    test_prepared): | $(BUILD)/xq
$(call tests_of,tests/runtime/launch): | $(BUILD)/tests/libfake_cuda.so
$(addprefix $(BUILD)/tests/,test_cache_export test_cli test_compare test_compare_profile test_device_cuda \
    test_measure_watch test_pack test_plan test_prepared test_stores test_target test_tune test_tune_worker \
    test_without_sim): | $(BUILD)/tests/libfake_cuda.so
$(addprefix $(BUILD)/tests/,test_cache_export test_cli test_nvrtc test_outputs test_stores \
    test_target): | $(BUILD)/tests/libfake_nvrtc.so
$(addprefix $(BUILD)/tests/,test_compare test_measure_watch): | $(BUILD)/tests/libfake_nvml.so
$(addprefix $(BUILD)/tests/,test_abi test_travel): | libraries $(BUILD)/xq pages
$(BUILD)/tests/test_examples: | libraries $(BUILD)/xq pages $(BUILD)/tests/libsim_cuda.so $(BUILD)/tests/libfake_nccl.so
$(BUILD)/tests/test_memory: | libraries $(BUILD)/xq pages $(BUILD)/tests/libfake_malloc.so

# ---------------------------------------------------------------- set-up
deps:
	@CC='$(CC)' VENV='$(VENV)' sh scripts/deps.sh

# The Python environment of tools/. It is optional: without it `make demo` uses synthetic activations, `make test` skips
# the tests of the tools, and both say so.
venv: $(VENV)/ready ; @:
# $(call pip,ARGUMENTS): installs packages into the environment, which it makes first if there is none.
define pip
	$(call say,VENV,$@)
	$(Q)test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(Q)log=$$($(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(1) 2>&1) || \
	    { printf '%s\n' "$$log" | tail -n 1 >&2; exit 1; }
	@touch $@
endef
$(VENV)/ready: tools/requirements.txt tools/requirements-wheel.txt tools/requirements-sass.txt
	$(call pip,$(addprefix -r ,$^))

# torch and transformers, for the tests of bindings/python that need them. They take gigabytes. Without them, these
# tests are skipped by name.
torch: venv
	$(SUBMAKE) $(VENV)/torch
$(VENV)/torch: tools/requirements-torch.txt tools/requirements-transformers.txt
	$(call pip,--no-deps -r $<)
	$(call pip,-r tools/requirements-transformers.txt)

# ---------------------------------------------------------------- running
# If no CUDA toolkit is installed, NVRTC comes from the Python environment.
TEST_PYTHON = $(VENV)/bin/python
RUN_ENV = VIRTUAL_ENV='$(abspath $(VENV))' XQ='$(abspath $(BUILD))/xq'

# All test programs, also those under sanitizers, share a kernel cache, so that each kernel is compiled once.
TEST_CACHE ?= $(abspath $(BUILD))/kernel-cache
export TEST_CACHE

test: deps
	-$(SUBMAKE) venv
	$(SUBMAKE) run-tests

# Runs the tests without any set-up. TESTS='build/tests/test_x' selects some of them.
run-tests: $(if $(CLI_SRC),$(BUILD)/xq) $(if $(TEST_PYTHON),$(BUILD)/llama/llama) $(TESTS)
	@$(RUN_ENV) XQ_CACHE_DIR='$(TEST_CACHE)' sh scripts/run-tests.sh --python '$(TEST_PYTHON)' $(TESTS)

demo: deps
	$(SUBMAKE) all
	-$(SUBMAKE) venv
	@$(RUN_ENV) BUILD='$(BUILD)' PYTHON='$(VENV)/bin/python' TEXT='$(TEXT)' LAYERS='$(LAYERS)' \
	    BITS='$(BITS)' TOKENS='$(TOKENS)' DEVICE='$(DEVICE)' sh scripts/demo.sh

# Makes the table of tuned parameters that is built into the library (docs/tuning.md). It takes minutes to an hour.
# Build the library again afterwards.
tables: $(BUILD)/xq
	$(Q)XQ='$(BUILD)/xq' STORE='$(BUILD)/tuning.db' sh scripts/tables.sh

# Prints the instructions that GPUs will issue: make sass SPEC='--model llama-3.1-8b --bits 4'. The default prints the
# table at the end of docs/kernels.md.
sass: $(BUILD)/xq
	@CC='$(CC)' VENV='$(VENV)' sh scripts/deps.sh sass
	@$(RUN_ENV) sh scripts/sass.sh $(SPEC)

# Writes docs/features.md from the features that the kernel families declare.
features: $(BUILD)/xq
	$(Q)$(BUILD)/xq gen --features > docs/features.md.tmp && mv docs/features.md.tmp docs/features.md

# ---------------------------------------------------------------- checking
# All tests run under the address and undefined-behaviour sanitizers, and those with threads under the thread sanitizer.
# WERROR=0, because gcc gives false warnings for instrumented code. OpenBLAS is not instrumented, so its own threads
# would look like races; it runs with one thread.
TSAN_TESTS := $(filter $(addprefix $(BUILD)/tests/,test_cache test_cache_network test_context test_descriptor \
    test_device_% test_kernels_% test_nvrtc test_plan test_prepare test_sim_% test_simulate test_verify),$(TESTS))
ASAN_FLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
TSAN_FLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
check-all: deps
	$(SUBMAKE) check-asan
	$(SUBMAKE) check-tsan
# test_compile_report is left out, because it tests reports of NVRTC, which is not instrumented; test_memory is, because
# sanitizers bring their own allocators.
ASAN_TESTS := $(filter-out $(addprefix $(BUILD)/tests/,test_compile_report test_memory),$(TESTS))
check-asan:
	+@LSAN_OPTIONS=suppressions=$(CURDIR)/scripts/lsan.txt:print_suppressions=0 $(MAKE) --no-print-directory \
	    BUILD=$(BUILD)/asan CFLAGS='$(ASAN_FLAGS)' WERROR=0 TEST_PYTHON= run-tests \
	    TESTS='$(patsubst $(BUILD)/%,$(BUILD)/asan/%,$(ASAN_TESTS))'
check-tsan:
	+@OPENBLAS_NUM_THREADS=1 TSAN_OPTIONS=suppressions=$(CURDIR)/scripts/tsan.txt:print_suppressions=0 \
	    $(MAKE) --no-print-directory BUILD=$(BUILD)/tsan CFLAGS='$(TSAN_FLAGS)' TSAN=1 WERROR=0 \
	    TEST_PYTHON= run-tests TESTS='$(patsubst $(BUILD)/%,$(BUILD)/tsan/%,$(TSAN_TESTS))'

lint:
	@CC='$(CC)' VENV='$(VENV)' sh scripts/deps.sh lint
	@CPPFLAGS='$(STD) $(INCLUDES)' sh scripts/lint.sh

# ---------------------------------------------------------------- manual
# Builds all pages in a new folder, which replaces the old one when it is complete.
html:
	@CC='$(CC)' VENV='$(VENV)' sh scripts/deps.sh html
	$(call say,HTML,$(BUILD)/html/index.html)
	$(Q)rm -rf $(BUILD)/html.new $(BUILD)/html.doctrees && mkdir -p $(BUILD)
	$(Q)$(VENV)/bin/python -m sphinx --quiet --fail-on-warning --keep-going --builder html \
	    --conf-dir scripts/manual --doctree-dir $(BUILD)/html.doctrees . $(BUILD)/html.new
	$(Q)python3 scripts/check-links.py --html $(BUILD)/html.new
	$(Q)rm -rf $(BUILD)/html && mv $(BUILD)/html.new $(BUILD)/html

# ---------------------------------------------------------------- installing
include scripts/install.mk

# ---------------------------------------------------------------- accuracy
# Builds examples/llama as a user does, against an installed xq; here xq is installed under $(BUILD).
STAGE := $(abspath $(BUILD))/stage
llama: $(BUILD)/llama/llama ; @:
$(BUILD)/llama/llama: libraries $(BUILD)/xq pages FORCE
	$(Q)DESTDIR= sh scripts/install.sh '$(BUILD)' '$(STAGE)'
	+$(Q)env -u CFLAGS PKG_CONFIG_PATH='$(STAGE)/lib/pkgconfig' $(MAKE) --no-print-directory -s -C examples/llama \
	    BUILD='$(abspath $(@D))' CC='$(CC)' STATIC=1

# Measures the tables of docs/accuracy.md again: make accuracy TEXT=FILE. scripts/accuracy.sh describes the settings.
accuracy: deps
	$(SUBMAKE) venv $(BUILD)/llama/llama
	@$(RUN_ENV) BUILD='$(BUILD)' PYTHON='$(VENV)/bin/python' MODEL='$(MODEL)' QUICK='$(QUICK)' WINDOWS='$(WINDOWS)' \
	    SECTIONS='$(SECTIONS)' OUT='$(OUT)' TEXT='$(if $(filter-out file default undefined,$(origin TEXT)),$(TEXT))' sh scripts/accuracy.sh

# The wheel: the Python package with the library and the program in it, for the same machines as the GPU bundle.
wheel:
	@CC='$(CC)' VENV='$(VENV)' sh scripts/deps.sh bundle
	$(SUBMAKE) venv
	$(SUBMAKE) BUILD=$(BUILD)/bundle CFLAGS=-O2 STATIC=1 all $(BUILD)/bundle/libxq.so.$(VERSION)
	$(Q)PYTHON='$(abspath $(VENV))/bin/python' sh scripts/wheel.sh $(BUILD)/bundle dist

gpu-bundle:
	@CC='$(CC)' VENV='$(VENV)' sh scripts/deps.sh bundle
	$(SUBMAKE) BUILD=$(BUILD)/bundle CFLAGS=-O2 STATIC=1 all
	$(Q)sh scripts/bundle.sh $(BUILD)/bundle/xq dist/xq-gpu-bundle

# Prints the table of targets in docs/building.md, without its links.
help:
	@sed -n '/^| target /,/^$$/{ s/^| `\([^|]*\)` | \(.*\) |$$/\1|\2/; t show; d; :show; s/\[\([^]]*\)\]([^)]*)/\1/g; s/`//g; p }' \
	    docs/building.md | awk -F'|' '{ printf "%-24s %s\n", $$1, $$2 }'

clean:
	rm -rf $(BUILD) dist

-include $(LIB_OBJ:.o=.d) $(TOOL_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(patsubst %.o,%.d,$(SUPPORT_OBJ) $(call obj,$(TEST_SRC)))
