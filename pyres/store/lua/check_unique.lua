-- check_unique: ends a unique lock whose job no longer exists, for example since its queue was removed.
--
-- KEYS[1]  (STRING)  Keys.unique()
-- KEYS[2]  (HASH)    Keys.unique_job(): `lock`, the value of KEYS[1]; `queue`; `payload`; `class`, `args`, the indexes
--                    from 1 of the first and last byte of the class and of the member args; `due`, when it is
--                    promoted, or ""; `respelt`, "1" if another program may write the args as other JSON. This script
--                    adds `checked`, when it ran, and `missed`, since when the job was not found
-- KEYS[3]  (SET)     Keys.workers
-- KEYS[4]  (STRING)  Keys.pops: a process pops jobs, each of which is in no key for a moment
-- KEYS[5]  (HASH)    Keys.moves: queue -> the queue to which its jobs were moved
-- KEYS[6]  (HASH)    Keys.process_starts: its workers fetch a job and write its in-flight record in one step
-- ARGV[1]  the time now, epoch seconds
-- ARGV[2]  seconds between two checks of one lock
-- ARGV[3]  Keys.queue() without the queue
-- ARGV[4]  Keys.worker() without the id
-- ARGV[5]  Keys.timestamps_prefix: one SET for each payload, named by the payload itself
-- ARGV[6]  Keys.delayed() of the names in that set, without the name
-- returns  1 if the lock was ended, else 0: it was checked just now, the job exists, or not all could be searched
-- Schedulers re-encode the payloads that they promote, so a job that was delayed is found by class and arguments.
local SEARCHED, MAX_BYTES, ON_ITS_WAY = 10000, 2 ^ 20, 10
local fields, job = redis.pcall("HGETALL", KEYS[2]), {}
if fields.err then return 0 end
for at = 1, #fields, 2 do job[fields[at]] = fields[at + 1] end
local now, pause = tonumber(ARGV[1]), tonumber(ARGV[2])
local since = now - (tonumber(job.checked) or 0)
if not job.lock or redis.pcall("GET", KEYS[1]) ~= job.lock or (since >= 0 and since < pause) then return 0 end
local function part(span)
    local first, last = string.match(span, "^(%d+) (%d+)$")
    return string.sub(job.payload, tonumber(first), tonumber(last))
end
local class, args = part(job.class), part(job.args)
local found, complete, bytes, may_be_popped = false, true, 0, false
local least = job.respelt == "1" and #class or #args

-- Whether a text contains the job. If the arguments may be written as other JSON, any job of the class may be it.
local function is_job(text)
    if not string.find(text, class, 1, true) then return false end
    if string.find(text, args, 1, true) then return true end
    complete = complete and job.respelt ~= "1"
    return false
end

-- Whether the payload is in a list; unknown before Redis 6.0.6.
local function is_in(list)
    local place = redis.pcall("LPOS", list, job.payload, "MAXLEN", SEARCHED)
    if type(place) == "number" then return true end
    if place or redis.call("LLEN", list) > SEARCHED then complete = false end
    return false
end
local function was_promoted_to(list)
    local first, page = 0, {}
    repeat
        page = redis.pcall("LRANGE", list, first, first + 19)
        if page.err or first >= SEARCHED or bytes > MAX_BYTES then
            complete = false
            return false
        end
        for _, text in ipairs(page) do
            if is_job(text) then return true end
            bytes = bytes + #text
        end
        first = first + #page
    until #page == 0
    return false
end
local function is_in_flight()
    local workers = redis.pcall("SMEMBERS", KEYS[3])
    if workers.err or #workers > SEARCHED then
        complete = false
        return false
    end
    for _, id in ipairs(workers) do
        local size = redis.pcall("STRLEN", ARGV[4] .. id)
        bytes = bytes + (type(size) == "number" and size or MAX_BYTES + 1)
        -- Ruby pops a job before it writes the record, and its worker id does not show its queues reliably.
        may_be_popped = may_be_popped or (size == 0 and redis.pcall("HEXISTS", KEYS[6], id) ~= 1)
        if bytes > MAX_BYTES then
            complete = false
            return false
        end
        if size > least then
            local record = redis.pcall("GET", ARGV[4] .. id)
            if type(record) ~= "string" then complete = false elseif is_job(record) then return true end
        end
    end
    return false
end

-- Whether the job is on its queue, or on one to which that queue's jobs were moved.
local function is_queued()
    local queue = job.queue
    for _ = 1, 5 do
        local list = ARGV[3] .. queue
        if is_in(list) or (job.due ~= "" and was_promoted_to(list)) then return true end
        queue = redis.pcall("HGET", KEYS[5], queue)
        if type(queue) ~= "string" then
            complete = complete and not queue
            return false
        end
    end
    complete = false
    return false
end

local waits = redis.pcall("SMEMBERS", ARGV[5] .. job.payload)
if waits.err then return 0 end
for _, name in ipairs(waits) do found = found or is_in(ARGV[6] .. name) end
found = found or is_queued() or is_in_flight()
redis.pcall("HSET", KEYS[2], "checked", ARGV[1])
if found or not complete then
    redis.pcall("HDEL", KEYS[2], "missed")
    return 0
end
-- A job between two keys was not found only for some seconds: the lock ends if a later check misses it too.
local is_popped = may_be_popped or redis.pcall("EXISTS", KEYS[4]) ~= 0
local on_its_way = is_popped or (job.due ~= "" and tonumber(job.due) < now + ON_ITS_WAY)
if on_its_way and not (job.missed and now - tonumber(job.missed) >= ON_ITS_WAY) then
    if not job.missed then redis.pcall("HSET", KEYS[2], "missed", ARGV[1]) end
    return 0
end
redis.call("DEL", KEYS[1], KEYS[2])
return 1
