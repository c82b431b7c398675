-- Runs in Envoy, before the authoriser is asked: lets a request pass that is like one which the authoriser has let pass
-- on the same connection, for as long as that admission has not been revoked (admissions.py tells how).
--
-- In the shared file, numbers of 32 bits: the epoch of each slot, which the server counts up to revoke an admission;
-- then, for each of Envoy's threads, how many requests it has let pass in each slot.
-- What stands between two @ is filled in by filters.py.
local PATH, SLOTS, THREADS = @path@, @slots@, @threads@
local REMEMBERED = 4096 -- admissions, twice as many at most
local KIND_BYTES = 2048 -- at most, or the request is asked about

local ffi = require("ffi")
ffi.cdef [[
    int open(const char *path, int flags, ...);
    void *mmap(void *address, size_t length, int protection, int flags, int file, long offset);
    int close(int file);
    int prctl(int option, ...);
]]
local O_RDWR, PROT_READ, PROT_WRITE, MAP_SHARED, PR_GET_NAME = 2, 1, 2, 1, 16

local OWN, AUTHZ = "emberbox", "envoy.filters.http.ext_authz" -- dynamic metadata of these names
local ALIKE, NEVER_ALIKE = @alike@, @never_alike@
local VERDICT, ADMISSION = @verdict@, @admission@

-- Each thread has a Lua state of its own, and so all of the following.
local epochs, passed
local recent, earlier, count = {}, {}, 0

local function share()
    local file = ffi.C.open(PATH, O_RDWR)
    assert(file >= 0, "the file of admissions cannot be opened")
    local bytes = 4 * SLOTS * (1 + THREADS)
    local memory = ffi.C.mmap(nil, bytes, PROT_READ + PROT_WRITE, MAP_SHARED, file, 0)
    ffi.C.close(file)
    assert(ffi.cast("intptr_t", memory) ~= -1, "the file of admissions cannot be mapped")
    local name = ffi.new("char[16]")
    ffi.C.prctl(PR_GET_NAME, name)
    local thread = tonumber(ffi.string(name):match("^wrk:worker_(%d+)$"))
    assert(thread and thread < THREADS, "this thread has no number")
    epochs = ffi.cast("volatile uint32_t *", memory)
    passed = epochs + SLOTS * (1 + thread)
end

-- What the authoriser judges by, as one string; nil for requests that it is to see each time.
local function kind_of(headers)
    for _, name in ipairs(NEVER_ALIKE) do
        if headers:get(name) then
            return nil
        end
    end
    local parts = {}
    for index, name in ipairs(ALIKE) do
        if headers:getNumValues(name) > 1 then
            return nil
        end
        parts[index] = headers:get(name) or ""
    end
    local kind = table.concat(parts, "\n")
    return #kind <= KIND_BYTES and kind or nil
end

local function remember(kind, admission)
    if count >= REMEMBERED then
        recent, earlier, count = {}, recent, 0
    end
    recent[kind], count = admission, count + 1
end

local function find(kind)
    if not recent[kind] and earlier[kind] then
        remember(kind, earlier[kind])
    end
    return recent[kind]
end

function envoy_on_request(handle)
    if not epochs then
        share()
    end
    local kind = kind_of(handle:headers())
    if not kind then
        return
    end
    local metadata = handle:streamInfo():dynamicMetadata()
    local admission = find(kind)
    if admission and os.time() < admission.expires then
        -- Counted before the epoch is looked at: once that has changed, whoever has changed it sees all that passed.
        passed[admission.slot] = passed[admission.slot] + 1
        if epochs[admission.slot] == admission.epoch then
            for name, value in pairs(admission.verdict) do
                metadata:set(AUTHZ, name, value)
            end
            metadata:set(OWN, "admitted", admission.name)
            handle:clearRouteCache() -- the verdict decides the route
            return
        end
        passed[admission.slot] = passed[admission.slot] - 1
    end
    metadata:set(OWN, "kind", kind)
end

function envoy_on_response(handle)
    local metadata = handle:streamInfo():dynamicMetadata()
    local own = metadata:get(OWN)
    if not own or not own.kind then
        return
    end
    local told = metadata:get(AUTHZ)
    if not told or not told[ADMISSION] then
        return
    end
    local slot, epoch, expires = told[ADMISSION]:match("^(%d+):(%d+):(%d+)$")
    local verdict = {}
    for _, name in ipairs(VERDICT) do
        verdict[name] = told[name]
    end
    remember(own.kind, {
        name = slot .. ":" .. epoch, slot = tonumber(slot), epoch = tonumber(epoch), expires = tonumber(expires),
        verdict = verdict,
    })
end
