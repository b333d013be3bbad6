-- The table of GPU architectures; nothing else lists them. `fallback` is the architecture whose tuning and code serve
-- where this one has none. shared_bytes is the opt-in shared memory of a block; shared_bytes_sm, threads_sm and
-- registers_sm are those of a multiprocessor. Source: CUDA C++ Programming Guide, "Compute Capabilities", technical
-- specifications per compute capability. That table leaves out 8.8, which equals 8.6 (CCCL,
-- cuda/__device/arch_traits.h).
local fail = require "fail"

local arch = {}

local KIB = 1024

arch.list = {
  { name = "sm_80", shared_bytes = 163 * KIB, shared_bytes_sm = 164 * KIB, threads_sm = 2048, gpus = "A100" },
  { name = "sm_86", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_80",
    gpus = "RTX 30, A10, A40" },
  { name = "sm_87", shared_bytes = 163 * KIB, shared_bytes_sm = 164 * KIB, threads_sm = 1536, fallback = "sm_80",
    gpus = "Jetson Orin" },
  { name = "sm_88", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_86" },
  { name = "sm_89", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_86",
    gpus = "RTX 40, L4, L40" },
  { name = "sm_90", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_80",
    gpus = "H100, H200" },
  { name = "sm_90a", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_90",
    gpus = "H100, H200" },
  { name = "sm_100", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_90",
    gpus = "B200" },
  { name = "sm_100a", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_100",
    gpus = "B200" },
  { name = "sm_103", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_100",
    gpus = "B300" },
  { name = "sm_103a", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 2048, fallback = "sm_103",
    gpus = "B300" },
  { name = "sm_110", shared_bytes = 227 * KIB, shared_bytes_sm = 228 * KIB, threads_sm = 1536, fallback = "sm_100",
    gpus = "Jetson Thor" },
  { name = "sm_120", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_89",
    gpus = "RTX 50" },
  { name = "sm_120a", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_120",
    gpus = "RTX 50" },
  { name = "sm_121", shared_bytes = 99 * KIB, shared_bytes_sm = 100 * KIB, threads_sm = 1536, fallback = "sm_120",
    gpus = "DGX Spark" },
}

arch.threads_block = 1024
arch.registers_sm = 65536

local by_name, names, listed = {}, {}, {}
for i, entry in ipairs(arch.list) do
  entry.registers_sm = arch.registers_sm
  by_name[entry.name], names[i], listed[entry.name] = entry, entry.name, true
end

arch.names = names

-- The entry with this name; fails with field `arch` where there is none.
function arch.find(name)
  local entry = by_name[name]
  if entry then return entry end
  fail.spec("arch", "'%s' is not known; %s", name, fail.suggestion(name, names))
end

-- The name and its fallbacks, nearest first.
function arch.chain(name)
  local chain, entry = {}, arch.find(name)
  while entry do
    chain[#chain + 1] = entry.name
    entry = by_name[entry.fallback]
  end
  return chain
end

-- Whether tuning for `other` also serves `name`: `other` is `name` itself or one of its fallbacks.
function arch.follows(name, other)
  for _, entry in ipairs(arch.chain(name)) do
    if entry == other then return true end
  end
  return false
end

-- 90 for "sm_90"; nil for "sm_90a", whose code runs on no other architecture.
local function capability(name)
  return math.tointeger(tonumber(name:match("^sm_(%d+)$")))
end

-- The nearest lower entry of the same family (the same major number), else the newest of all.
local function nearest(number)
  local lower, newest
  for _, name in ipairs(names) do
    local other = capability(name)
    if other and (not newest or other > capability(newest)) then newest = name end
    if other and other // 10 == number // 10 and other < number and (not lower or other > capability(lower)) then
      lower = name
    end
  end
  return lower or newest
end

-- Adds the architecture of a device, {name, shared_bytes, shared_bytes_sm, threads_sm, registers_sm}, to those that
-- `find` knows. A listed architecture stays as it is listed. Any other one has the resources that the device states;
-- where the device states none (0), it has those of its fallback. Returns the listed entry whose tuning serves the
-- device.
function arch.know(device)
  if not by_name[device.name] then
    local entry = { name = device.name, fallback = nearest(capability(device.name)) }
    for _, key in ipairs { "shared_bytes", "shared_bytes_sm", "threads_sm", "registers_sm" } do
      entry[key] = device[key] > 0 and device[key] or by_name[entry.fallback][key]
    end
    by_name[entry.name], names[#names + 1] = entry, entry.name
  end
  for _, name in ipairs(arch.chain(device.name)) do
    if listed[name] then return name end
  end
end

return arch
