# xq: see README.md. `make demo` and `make test` install what is missing, build, and run.

# ---------------------------------------------------------------- settings
BUILD   ?= build
PREFIX  ?= /usr/local
CC      ?= gcc
CFLAGS  ?= -O2 -g
WERROR  ?= 0
V       ?= 0

# ---------------------------------------------------------------- flags
STD      := -std=c17 -D_GNU_SOURCE
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif
LUA_INCLUDE := $(firstword $(wildcard /usr/include/lua5.4 /usr/local/include/lua5.4))
INCLUDES := -Iinclude -Itemplates/lib $(addprefix -I,$(LUA_INCLUDE))
ALL_CFLAGS = $(STD) $(CFLAGS) $(WARNINGS) $(INCLUDES) -fPIC -fvisibility=hidden -MMD -MP
LIBS     := -llua5.4 -lcjson -lxxhash -lpthread -ldl -lm
PREPARE_LIBS := -llapacke -lopenblas

ifeq ($(V),0)
Q := @
say = @printf '  %-7s %s\n' $(1) $(2)
else
Q :=
say = @:
endif

# ---------------------------------------------------------------- sources
DIRS      := gen runtime runtime/sim prepare autotune cli
LIB_SRC   := $(wildcard gen/*.c runtime/*.c runtime/sim/*.c)
TOOL_SRC  := $(wildcard prepare/*.c autotune/*.c)
CLI_SRC   := $(wildcard cli/*.c)
TEST_SRC  := $(wildcard tests/test_*.c)
SUPPORT_SRC := $(filter-out $(TEST_SRC),$(wildcard tests/*.c))
EMBED_FILES := $(sort $(wildcard gen/*.lua templates/*.cu.lt templates/*.spec.lua templates/lib/*))

obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
LIB_OBJ     := $(call obj,$(LIB_SRC)) $(BUILD)/embed.o
TOOL_OBJ    := $(call obj,$(TOOL_SRC))
CLI_OBJ     := $(call obj,$(CLI_SRC))
SUPPORT_OBJ := $(call obj,$(SUPPORT_SRC))
TESTS       := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_SRC))

.PHONY: all clean run-tests
all: $(BUILD)/xq

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

# Lua modules and templates, as data in the library: a table of names and texts (gen/embed.h).
$(BUILD)/embed.S: $(EMBED_FILES) Makefile scripts/embed.sh
	@mkdir -p $(@D)
	$(call say,EMBED,$@)
	$(Q)sh scripts/embed.sh $(EMBED_FILES) > $@.tmp && mv $@.tmp $@
$(BUILD)/embed.o: $(BUILD)/embed.S $(EMBED_FILES)
	$(Q)$(CC) -c $< -o $@

$(BUILD)/xq: $(CLI_OBJ) $(TOOL_OBJ) $(LIB_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $^ -o $@ $(PREPARE_LIBS) $(LIBS)

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(SUPPORT_OBJ) $(TOOL_OBJ) $(LIB_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $^ -o $@ -lcriterion $(PREPARE_LIBS) $(LIBS)

run-tests: $(TESTS)
	@for t in $(TESTS); do echo "== $$t"; $$t || exit 1; done

clean:
	rm -rf $(BUILD)

-include $(LIB_OBJ:.o=.d) $(TOOL_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(SUPPORT_OBJ:.o=.d) $(TESTS:=.d)
